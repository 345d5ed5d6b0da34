#include "driver/life/claim.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "base/json.h"
#include "tests/driver/life/task_on_disk.h"

using base::Code;
using base::Context;
using driver::Phase;
using driver::Record;
using driver::TaskStore;
using tests::TaskOnDiskFixture;

namespace {

struct Claim {
  TaskOnDiskFixture disk;
  std::vector<std::string> undone;
  bool known = false;

  Claim() { REQUIRE(base::make_dirs(disk.record.names.task_dir, 0700).has_value()); }

  base::Result<std::optional<Record>> operator()(TaskStore::ReadFile read = {}) {
    const TaskStore store(disk.roots, {}, std::move(read));
    const driver::ClaimDeps deps{store,
                                 [this](const Record& record) {
                                   undone.push_back(record.id.text);
                                   return base::Status();
                                 },
                                 [this](const driver::TaskId&) { return known; }};
    return driver::claim_task(Context::background().with_timeout(std::chrono::milliseconds(200)), deps, disk.record);
  }
};

}  // namespace

TEST_CASE("a task that came to run is the task") {
  Claim claim;
  for (const Phase phase : {Phase::kRunning, Phase::kExited}) {
    claim.disk.record.phase = phase;
    claim.disk.write_record();
    const auto running = claim();
    REQUIRE(running.has_value());
    CHECK(running->has_value());
  }
  CHECK(claim.undone.empty());
}

TEST_CASE("what a dead attempt or another boot left is undone") {
  Claim claim;
  claim.disk.record.phase = Phase::kStarting;
  claim.disk.write_record();
  CHECK_FALSE(claim().value().has_value());
  CHECK_EQ(claim.undone.size(), 1);

  claim.disk.record.phase = Phase::kRunning;
  claim.disk.record.boot_id = "another";
  claim.disk.write_record();
  claim.disk.record.boot_id = base::boot_id();
  CHECK_FALSE(claim().value().has_value());
  CHECK_EQ(claim.undone.size(), 2);
}

TEST_CASE("a record that cannot be read stops the start and loses nothing") {
  Claim claim;
  claim.disk.write_record();
  for (const int error : {EMFILE, ENOMEM, EIO, EACCES}) {
    const auto claimed = claim(tests::failing(error));
    REQUIRE_FALSE(claimed.has_value());
    CHECK_EQ(claimed.error().code, Code::kUnavailable);  // the agent tries again
    CHECK_NE(claimed.error().message.find("rm --force"), std::string::npos);
  }
  claim.disk.write("{");
  CHECK_EQ(claim().error().code, Code::kDataLoss);
  CHECK(claim.undone.empty());
}

TEST_CASE("an error that passes is waited for") {
  Claim claim;
  claim.disk.write_record();
  const auto claimed = claim(tests::failing(EMFILE, 1));
  REQUIRE(claimed.has_value());
  CHECK(claimed->has_value());
  CHECK(claim.undone.empty());
}

TEST_CASE("an earlier start of the same allocation's task goes, unless the agent speaks of it or it is unreadable") {
  Claim claim;
  driver::TaskSpec spec;
  spec.id.text = "a1b2/web/89abcdef";
  Record earlier = claim.disk.record;
  earlier.id = spec.id;
  earlier.names = driver::plan_names(spec, claim.disk.roots);
  REQUIRE(base::make_dirs(earlier.names.task_dir, 0700).has_value());
  REQUIRE(TaskStore::write(earlier).has_value());

  claim.known = true;
  REQUIRE_FALSE(claim().value().has_value());
  CHECK(claim.undone.empty());

  claim.known = false;
  REQUIRE_FALSE(claim().value().has_value());
  CHECK_EQ(claim.undone, std::vector<std::string>{spec.id.text});

  claim.undone.clear();
  REQUIRE(base::write_file_atomic(earlier.names.task_dir + "/record.json", "{", 0600, base::Durable::kNo).has_value());
  REQUIRE_FALSE(claim().value().has_value());
  CHECK(claim.undone.empty());
}
