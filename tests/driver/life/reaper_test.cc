#include "driver/life/reaper.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/json.h"
#include "tests/driver/life/task_on_disk.h"
#include "tests/temp_dir.h"

using driver::Phase;
using driver::Record;
using std::chrono::seconds;

namespace {
constexpr seconds kEarly{5};
constexpr seconds kLate{61};

Record record_of(Phase phase) {
  Record record;
  record.boot_id = base::boot_id();
  record.phase = phase;
  return record;
}
}  // namespace

TEST_CASE("an agent has a minute to ask for its tasks") {
  CHECK_EQ(driver::orphan_reason(record_of(Phase::kStarting), {.uptime = kEarly}), "");
  CHECK_EQ(driver::orphan_reason(record_of(Phase::kStarting), {.uptime = kLate}), "its start was cut off");
  CHECK_EQ(driver::orphan_reason(record_of(Phase::kRunning), {.uptime = kLate}), "");
}

TEST_CASE("a task goes with its allocation and with the boot it ran in") {
  const tests::TempDir dir;
  Record record = record_of(Phase::kRunning);
  record.alloc_dir = dir.path().string();
  CHECK_EQ(driver::orphan_reason(record, {.uptime = kLate}), "");
  record.alloc_dir = dir / "gone";
  CHECK_EQ(driver::orphan_reason(record, {.uptime = kLate}), "its allocation is gone");
  CHECK_EQ(driver::orphan_reason(record, {.uptime = kEarly}), "");
  record.boot_id = "another boot";
  CHECK_EQ(driver::orphan_reason(record, {.uptime = kLate}), "the host was rebooted");
}

TEST_CASE("what a person started stays until it may go") {
  Record record = record_of(Phase::kExited);
  record.from_command_line = true;
  record.owner = {::getpid(), 1};  // the right pid, another process
  CHECK_EQ(driver::orphan_reason(record, {.uptime = kLate}), "");
  record.remove_on_exit = true;
  CHECK_EQ(driver::orphan_reason(record, {.uptime = kEarly}), "the command that started it is gone");
  record.owner = base::identify(::getpid()).value();
  CHECK_EQ(driver::orphan_reason(record, {.uptime = kLate}), "");
}

TEST_CASE("what nobody asks for ends after the grace time, unless it is another process's") {
  constexpr seconds kGrace{300};
  const driver::Watched waited{kGrace, kGrace};
  const driver::Watched waiting{seconds(299), kGrace};
  Record record = record_of(Phase::kRunning);
  CHECK_EQ(driver::orphan_reason(record, waited), driver::kDanglingReason);
  CHECK_EQ(driver::orphan_reason(record, waiting), "");
  CHECK_EQ(driver::orphan_reason(record, {kGrace, {}}), "");  // switched off
  record.owner = base::identify(::getppid()).value();         // lives
  CHECK_EQ(driver::orphan_reason(record, waited), "");
  record.phase = Phase::kStarting;
  CHECK_EQ(driver::orphan_reason(record, waited), "");
  record.owner.start_ticks ^= 1;  // the same number, another process
  CHECK_EQ(driver::orphan_reason(record, waited), "its start was cut off");
  record.phase = Phase::kExited;
  record.owner = base::identify(::getpid()).value();  // ours, and not in the table: an agent that lost its state
  CHECK_EQ(driver::orphan_reason(record, waited), driver::kDanglingReason);
  record.from_command_line = true;
  CHECK_EQ(driver::orphan_reason(record, waited), "");
}

namespace {
/// A running task whose allocation is gone: an orphan, if it can be read.
struct Orphan {
  tests::TaskOnDiskFixture disk;
  std::vector<std::string> undone;
  bool known = false;
  driver::Reaper reaper{{[this](const driver::TaskId&) { return known; },
                         [this](const Record& record) {
                           undone.push_back(record.id.text);
                           return base::Status();
                         }}};

  Orphan() {
    REQUIRE(base::make_dirs(disk.record.names.task_dir, 0700).has_value());
    disk.record.alloc_dir = disk.dir / "gone";
    disk.write_record();
  }
  void pass(driver::TaskStore::ReadFile read = {}, seconds uptime = kLate) {
    reaper.pass(driver::TaskStore(disk.roots, {}, std::move(read)), {.uptime = uptime});
  }
};
}  // namespace

TEST_CASE("an orphan is undone, one that is known is not") {
  Orphan orphan;
  orphan.known = true;
  orphan.pass();
  CHECK(orphan.undone.empty());
  orphan.known = false;
  orphan.pass({}, kEarly);
  CHECK(orphan.undone.empty());
  orphan.pass();
  CHECK_EQ(orphan.undone.size(), 1);
}

TEST_CASE("a task that cannot be read is in use, however late it is") {
  Orphan orphan;
  for (const int error : {EMFILE, ENOMEM, EIO, EACCES}) orphan.pass(tests::failing(error));
  const std::string good = driver::encode_record(orphan.disk.record).value();
  base::Json newer = base::parse_json(good, "record").value();
  newer["version"] = Record::kVersion + 1;
  for (const std::string& text : {good.substr(0, 40), std::string("not json"), base::dump_json(newer),
                                  std::string(driver::kRecordBytesMax + 1, 'x')}) {
    orphan.disk.write(text);
    orphan.pass();
    CHECK(std::filesystem::exists(orphan.disk.record_file()));
  }
  CHECK(orphan.undone.empty());
}

TEST_CASE("a folder without a record goes when nobody has touched it for a minute") {
  Orphan orphan;
  REQUIRE_EQ(::unlink(orphan.disk.record_file().c_str()), 0);
  orphan.pass();
  CHECK(std::filesystem::exists(orphan.disk.record.names.task_dir));  // a start may be about to write it
  const timespec old[2] = {{1, 0}, {1, 0}};
  REQUIRE_EQ(::utimensat(AT_FDCWD, orphan.disk.record.names.task_dir.c_str(), old, 0), 0);
  orphan.pass({}, kEarly);
  CHECK(std::filesystem::exists(orphan.disk.record.names.task_dir));
  orphan.pass();
  CHECK_FALSE(std::filesystem::exists(orphan.disk.record.names.task_dir));
  CHECK(orphan.undone.empty());
}

TEST_CASE("a dry run ends nothing") {
  Orphan orphan;
  orphan.disk.record.alloc_dir.clear();
  orphan.disk.write_record();
  const driver::TaskStore store(orphan.disk.roots, {}, {});
  orphan.reaper.pass(store, {kLate, kLate}, true);
  orphan.reaper.pass(store, {kLate, {}});
  CHECK(orphan.undone.empty());
  orphan.reaper.pass(store, {kLate, kLate});
  CHECK_EQ(orphan.undone.size(), 1);
}
