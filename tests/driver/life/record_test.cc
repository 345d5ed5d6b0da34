#include "driver/life/record.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "tests/temp_dir.h"

using base::Code;
using driver::Record;
using driver::TaskSpec;

namespace {
TaskSpec spec_of(std::string id) {
  TaskSpec spec;
  spec.id.text = std::move(id);
  return spec;
}

Record full_record(const std::string& root) {
  TaskSpec spec = spec_of("a1b2/web/0123abcd");
  Record record;
  record.id = spec.id;
  record.name = "web";
  record.alloc_id = "a1b2";
  record.alloc_dir = "/srv/alloc";
  record.names = driver::plan_names(spec, {root, "/run/cd"});
  record.boot_id = "boot";
  record.phase = driver::Phase::kExited;
  record.image = {"sha256:ab", "linux/amd64", 77, 1'700'000'000, "10-ci: signed"};
  record.layer_dirs = {"/l/1", "/l/2"};
  record.shim = {42, 4242};
  record.init = {43, 4343};
  record.started_at = driver::WallTime(std::chrono::seconds(1700000000));
  record.exited_at = driver::WallTime(std::chrono::seconds(1700000001));
  record.exit = driver::ExitResult{137, 9, true, "OOM Killed"};
  record.labels = {{"team", "storage"}};
  return record;
}
}  // namespace

TEST_CASE("container ids are valid for shim, cgroup and file system, whatever the task is called") {
  struct Row {
    const char* id;
    const char* prefix;
  };
  for (const Row& row : {Row{"0f3c/redis-task/12ab34cd", "redis-task-"}, Row{"0f3c/My Task__x/12ab34cd", "my-task-x-"},
                         Row{"0f3c/--/12ab34cd", ""}, Row{"0f3c/\xc3\xa9t\xc3\xa9/1", "t-"},
                         Row{"no slashes", "no-slashes-"}, Row{"a/../../etc/passwd", ""}, Row{"", ""},
                         Row{"a/a-name-that-is-far-too-long-for-a-host-name/1", "a-name-that-is-far-t-"}}) {
    const std::string id = driver::container_id_of({row.id});
    CHECK_MESSAGE(id.starts_with(row.prefix), id);
    CHECK_LE(id.size(), 40);
    CHECK_GE(id.size(), 16);
    CHECK_EQ(id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-"), std::string::npos);
    CHECK_NE(id.front(), '-');
  }
  CHECK_NE(driver::container_id_of({"a/web/1"}), driver::container_id_of({"a/web/2"}));
  CHECK_EQ(driver::container_id_of({"a/web/1"}), driver::container_id_of({"a/web/1"}));
}

TEST_CASE("names fit the limits of sockets and lie below the two roots") {
  const auto names = driver::plan_names(spec_of("0f3c/redis-task/12ab34cd"), {"/var/lib/x", "/run/x"});
  CHECK_EQ(names.task_dir, "/var/lib/x/tasks/" + names.container_id);
  CHECK_EQ(names.rootfs_dir, "/run/x/bundles/" + names.container_id + "/rootfs");
  CHECK_LE(names.shim_socket.size(), 106);
  CHECK_EQ(names.cgroup_path, "/containerd-driver/containers/" + names.container_id);
}

TEST_CASE("the container's cgroup is the one that the agent polices") {
  TaskSpec spec = spec_of("a1/web/1");
  spec.alloc_id = "a1";
  spec.name = "web";
  const auto path = [&](const char* sent) {
    spec.resources.cpuset_cgroup = sent;
    return driver::plan_names(spec, {"/d", "/s"}).cgroup_path;
  };
  CHECK_EQ(path("/sys/fs/cgroup/cpuset/nomad/share"), "/nomad/a1.web");
  CHECK_EQ(path("/sys/fs/cgroup/cpuset/nomad/reserve/a1.web"), "/nomad/a1.web");
  CHECK_EQ(path("/sys/fs/cgroup/nomad.slice/share.slice/a1.web.scope"), "/nomad.slice/share.slice/a1.web.scope");
  CHECK_EQ(path("/sys/fs/cgroup/nomad.slice/a1.web.scope"), "/nomad.slice/a1.web.scope");
  CHECK(path("/etc").starts_with("/containerd-driver/containers/"));
  CHECK(path("").starts_with("/containerd-driver/containers/"));
}

TEST_CASE("a record comes back as it was written") {
  const tests::TempDir dir;
  const Record record = full_record(dir.path().string());
  REQUIRE(base::make_dirs(record.names.task_dir, 0700).has_value());
  REQUIRE(driver::write_record(record).has_value());
  const auto back = driver::read_record(record.names.task_dir);
  REQUIRE(back.has_value());
  CHECK_EQ(back->id.text, record.id.text);
  CHECK_EQ(back->names.shim_socket, record.names.shim_socket);
  CHECK_EQ(back->names.cgroup_path, record.names.cgroup_path);
  CHECK(back->phase == driver::Phase::kExited);
  CHECK_EQ(back->layer_dirs.size(), 2);
  CHECK(back->init == record.init);
  CHECK(back->exited_at == record.exited_at);
  REQUIRE(back->exit.has_value());
  CHECK_EQ(back->exit->signal, 9);
  CHECK(back->exit->oom_killed);
  CHECK(back->labels == record.labels);
  CHECK_EQ(driver::list_task_dirs(dir.path().string()).size(), 1);
}

TEST_CASE("a record keeps where its image came from; one of an older version does not know") {
  const tests::TempDir dir;
  const Record record = full_record(dir.path().string());
  REQUIRE(base::make_dirs(record.names.task_dir, 0700).has_value());
  REQUIRE(driver::write_record(record).has_value());
  const auto back = driver::read_record(record.names.task_dir);
  REQUIRE(back.has_value());
  CHECK_EQ(back->image.resolved_digest, "sha256:ab");
  CHECK_EQ(back->image.platform, "linux/amd64");
  CHECK_EQ(back->image.size_bytes, 77);
  CHECK_EQ(back->image.pulled_at_unix, 1'700'000'000);
  CHECK_EQ(back->image.verified, "10-ci: signed");

  const std::string path = record.names.task_dir + "/record.json";
  base::Json older = *base::parse_json(*base::read_file(path, 1 << 20), "record");
  older.erase("image");
  REQUIRE(base::write_file_atomic(path, base::dump_json(older), 0600, base::Durable::kNo).has_value());
  const auto old = driver::read_record(record.names.task_dir);
  REQUIRE(old.has_value());
  CHECK(old->image.resolved_digest.empty());
  CHECK_EQ(old->layer_dirs, record.layer_dirs);
}

TEST_CASE("damaged records are garbage, newer ones are left alone") {
  const tests::TempDir dir;
  const Record record = full_record(dir.path().string());
  const std::string file = record.names.task_dir + "/record.json";
  CHECK_EQ(driver::read_record(record.names.task_dir).error().code, Code::kNotFound);
  REQUIRE(base::make_dirs(record.names.task_dir, 0700).has_value());
  REQUIRE(driver::write_record(record).has_value());
  const std::string good = *base::read_file(file, 1 << 20);
  const auto with = [&](const std::string& text) {
    REQUIRE(base::write_file_atomic(file, text, 0600, base::Durable::kNo).has_value());
    return driver::read_record(record.names.task_dir).error();
  };
  for (std::size_t cut = 0; cut < good.size(); cut += 7) CHECK_EQ(with(good.substr(0, cut)).code, Code::kDataLoss);
  base::Json json = base::parse_json(good, "record").value();
  json.erase("labels");  // as an earlier build wrote it
  REQUIRE(base::write_file_atomic(file, base::dump_json(json), 0600, base::Durable::kNo).has_value());
  CHECK(driver::read_record(record.names.task_dir).value().labels.empty());
  json["labels"] = {{"team", 1}};
  CHECK_EQ(with(base::dump_json(json)).code, Code::kDataLoss);
  json["version"] = 2;
  CHECK_EQ(with(base::dump_json(json)).code, Code::kFailedPrecondition);
  json = base::parse_json(good, "record").value();
  json["phase"] = "dreaming";
  CHECK_EQ(with(base::dump_json(json)).code, Code::kDataLoss);
  json.erase("names");
  CHECK_EQ(with(base::dump_json(json)).code, Code::kDataLoss);
}
