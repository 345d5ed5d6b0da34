#include "driver/life/reaper.h"

#include <doctest/doctest.h>
#include <unistd.h>

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
  CHECK_EQ(driver::orphan_reason(record_of(Phase::kStarting), kEarly), "");
  CHECK_EQ(driver::orphan_reason(record_of(Phase::kStarting), kLate), "its start was cut off");
  CHECK_EQ(driver::orphan_reason(record_of(Phase::kRunning), kLate), "");
}

TEST_CASE("a task goes with its allocation and with the boot it ran in") {
  const tests::TempDir dir;
  Record record = record_of(Phase::kRunning);
  record.alloc_dir = dir.path().string();
  CHECK_EQ(driver::orphan_reason(record, kLate), "");
  record.alloc_dir = dir / "gone";
  CHECK_EQ(driver::orphan_reason(record, kLate), "its allocation is gone");
  CHECK_EQ(driver::orphan_reason(record, kEarly), "");
  record.boot_id = "another boot";
  CHECK_EQ(driver::orphan_reason(record, kLate), "the host was rebooted");
}

TEST_CASE("what a person started stays until it may go") {
  Record record = record_of(Phase::kExited);
  record.from_command_line = true;
  record.owner = {::getpid(), 1};  // the right pid, another process
  CHECK_EQ(driver::orphan_reason(record, kLate), "");
  record.remove_on_exit = true;
  CHECK_EQ(driver::orphan_reason(record, kEarly), "the command that started it is gone");
  record.owner = base::identify(::getpid()).value();
  CHECK_EQ(driver::orphan_reason(record, kLate), "");
}
