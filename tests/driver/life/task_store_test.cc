#include "driver/life/task_store.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/json.h"
#include "tests/driver/life/task_on_disk.h"

using base::Code;
using driver::NotWritten;
using driver::Record;
using driver::TaskStore;
using driver::Unreadable;
using tests::TaskOnDiskFixture;

TEST_CASE("a task is a record, not written, or unreadable") {
  const TaskOnDiskFixture disk;
  const TaskStore store(disk.roots);
  CHECK(std::holds_alternative<NotWritten>(store.find(disk.id())));
  CHECK(store.list().value().empty());  // no folder of tasks at all

  REQUIRE(base::make_dirs(disk.record.names.task_dir, 0700).has_value());
  CHECK(std::holds_alternative<NotWritten>(store.find(disk.id())));
  disk.write("");  // a power cut between a rename and the content
  CHECK(std::holds_alternative<NotWritten>(store.find(disk.id())));

  disk.write_record();
  REQUIRE(std::holds_alternative<Record>(store.find(disk.id())));
  CHECK_EQ(std::get<Record>(store.find(disk.id())).id.text, disk.record.id.text);
  CHECK_EQ(store.list().value().size(), 1);
}

TEST_CASE("whatever keeps a record from being read makes the task unreadable") {
  const TaskOnDiskFixture disk;
  REQUIRE(base::make_dirs(disk.record.names.task_dir, 0700).has_value());
  disk.write_record();
  const std::string good = driver::encode_record(disk.record).value();
  const TaskStore store(disk.roots);
  const auto why = [&] {
    const auto task = store.find(disk.id());
    const auto* unreadable = std::get_if<Unreadable>(&task);
    return unreadable == nullptr ? Code::kOk : unreadable->why.code;
  };
  CHECK_EQ(why(), Code::kOk);
  disk.write(good.substr(0, good.size() / 2));
  CHECK_EQ(why(), Code::kDataLoss);
  disk.write("not json");
  CHECK_EQ(why(), Code::kDataLoss);
  disk.write(std::string(driver::kRecordBytesMax + 1, ' '));
  CHECK_EQ(why(), Code::kResourceExhausted);
  base::Json newer = base::parse_json(good, "record").value();
  newer["version"] = Record::kVersion + 1;
  disk.write(base::dump_json(newer));
  CHECK_EQ(why(), Code::kFailedPrecondition);
  REQUIRE_EQ(::unlink(disk.record_file().c_str()), 0);
  REQUIRE_EQ(::mkdir(disk.record_file().c_str(), 0700), 0);
  CHECK_NE(why(), Code::kOk);
}

TEST_CASE("errors of the operating system make a task unreadable, by each way to ask") {
  const TaskOnDiskFixture disk;
  REQUIRE(base::make_dirs(disk.record.names.task_dir, 0700).has_value());
  disk.write_record();
  for (const int error : {EMFILE, ENOMEM, EIO, EACCES}) {
    const TaskStore store(disk.roots, {}, tests::failing(error));
    CHECK(std::holds_alternative<Unreadable>(store.find(disk.id())));
    const auto all = store.list().value();
    REQUIRE_EQ(all.size(), 1);
    CHECK(std::holds_alternative<Unreadable>(all[0].task));
    const auto uses = store.images_in_use();
    CHECK(uses.known.empty());
    REQUIRE_EQ(uses.unknown.size(), 1);
    CHECK_NE(uses.unknown[0].find(disk.id()), std::string::npos);
  }
}

TEST_CASE("tasks that cannot be listed are not no tasks") {
  const TaskOnDiskFixture disk;
  REQUIRE(base::make_dirs(disk.roots.data_dir, 0700).has_value());
  REQUIRE(base::write_file_atomic(disk.roots.data_dir + "/tasks", "a file", 0600, base::Durable::kNo).has_value());
  const TaskStore store(disk.roots);
  CHECK_FALSE(store.list().has_value());
  CHECK_EQ(store.images_in_use().unknown.size(), 1);
}

TEST_CASE("a missing record beside a bundle is not the end of the task") {
  const TaskOnDiskFixture disk;
  REQUIRE(base::make_dirs(disk.record.names.task_dir, 0700).has_value());
  REQUIRE(base::make_dirs(disk.record.names.bundle_dir, 0700).has_value());
  const TaskStore store(disk.roots);
  CHECK(std::holds_alternative<Unreadable>(store.find(disk.id())));
  disk.write("");
  CHECK(std::holds_alternative<Unreadable>(store.find(disk.id())));
}

TEST_CASE("what is not a container's folder is nobody's task") {
  const TaskOnDiskFixture disk;
  for (const char* name : {"lost+found", ".trash", "UPPER-0123456789abcdef", "short"}) {
    REQUIRE(base::make_dirs(disk.roots.data_dir + "/tasks/" + name, 0700).has_value());
  }
  CHECK(TaskStore(disk.roots).list().value().empty());
}

TEST_CASE("programs that others can replace, or that lie in the data folder, are not believed") {
  const TaskOnDiskFixture disk;
  REQUIRE(base::make_dirs(disk.record.names.task_dir, 0700).has_value());
  const auto found_with = [&](const std::string& shim, std::vector<std::string> configured) {
    Record record = disk.record;
    record.shim_binary = shim;
    REQUIRE(TaskStore::write(record).has_value());
    const auto task = TaskStore(disk.roots, std::move(configured)).find(disk.id());
    const auto* unreadable = std::get_if<Unreadable>(&task);
    return unreadable == nullptr ? std::string() : unreadable->why.message;
  };
  const std::string writable = disk.dir / "shim";
  REQUIRE(base::write_file_atomic(writable, "", 0777, base::Durable::kNo).has_value());
  CHECK_NE(found_with(writable, {}).find("can be written to by others"), std::string::npos);
  CHECK_EQ(found_with(writable, {writable}), "");  // the operator's own choice
  REQUIRE_EQ(::chmod(writable.c_str(), 0755), 0);
  CHECK_EQ(found_with(writable, {}), "");
  CHECK_EQ(found_with(disk.dir / "removed", {}), "");
  const std::string planted = disk.roots.data_dir + "/shim";
  REQUIRE(base::write_file_atomic(planted, "", 0755, base::Durable::kNo).has_value());
  CHECK_NE(found_with(planted, {}).find("data_dir"), std::string::npos);
}

TEST_CASE("discarding takes record and layer at once, whatever an earlier one left in the trash") {
  const TaskOnDiskFixture disk;
  const TaskStore store(disk.roots);
  REQUIRE(store.discard(disk.id()).has_value());  // absent
  CHECK_FALSE(std::filesystem::exists(disk.roots.data_dir + "/tasks/.trash"));
  const std::string in_the_way = disk.roots.data_dir + "/tasks/.trash/" + disk.id();
  REQUIRE(base::make_dirs(in_the_way + "/upper", 0700).has_value());
  REQUIRE(base::make_dirs(disk.record.names.upper_dir, 0700).has_value());
  disk.write_record();
  REQUIRE(store.discard(disk.id()).has_value());
  CHECK(std::holds_alternative<NotWritten>(store.find(disk.id())));
  CHECK(std::filesystem::exists(in_the_way));
  const std::string old_trash = disk.roots.data_dir + "/trash/task-" + disk.id();
  const std::string of_images = disk.roots.data_dir + "/trash/layer-1";
  REQUIRE(base::make_dirs(old_trash, 0700).has_value());
  REQUIRE(base::make_dirs(of_images, 0700).has_value());
  REQUIRE(store.empty_trash().has_value());
  CHECK_FALSE(std::filesystem::exists(disk.roots.data_dir + "/tasks/.trash"));
  CHECK_FALSE(std::filesystem::exists(old_trash));
  CHECK(std::filesystem::exists(of_images));
}
