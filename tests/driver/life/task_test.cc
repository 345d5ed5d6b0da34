#include "driver/life/task.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include "driver/life/exec.h"
#include "tests/driver/life/running_task.h"

using base::Status;
using driver::Phase;
using driver::Record;
using tests::RunningTasks;
using namespace std::chrono_literals;

namespace {

/// A disk that takes its time: each write waits until the test lets it go on.
class SlowDisk {
 public:
  driver::RecordWriter writer() {
    return [this](const Record& record) -> Status {
      begun.set(true);
      TRY_VOID(free.wait(RunningTasks::soon()));
      written.lock()->push_back(record.phase);
      return {};
    };
  }
  base::OneShot<bool> begun;
  base::OneShot<bool> free;
  base::Guarded<std::vector<Phase>> written;
};

}  // namespace

TEST_CASE("a write of the record keeps nobody on the loop waiting") {
  RunningTasks fixture("exec sleep 1000");
  SlowDisk disk;
  const auto task = fixture.task(disk.writer());
  base::Crew crew({.name = "writers"});
  base::OneShot<bool> marked;
  RunningTasks::must(crew.submit("mark", [&] { marked.set(task->mark_running().has_value()); }));
  RunningTasks::take(disk.begun.wait(RunningTasks::soon()));

  driver::Turns turns;
  driver::ExecHost execs(fixture.loop, turns);
  base::OneShot<Phase> seen;
  base::OneShot<int> exit_code;
  fixture.loop.post([&] {
    seen.set(task->record().phase);
    driver::ExecSpec spec;
    spec.command = {"/bin/sh", "-c", "exit 5"};
    driver::ExecCallbacks callbacks;
    callbacks.on_output = [](driver::ExecStream, std::string_view) { return true; };
    callbacks.on_end = [&](base::Result<driver::ExitResult> exit) { exit_code.set(exit ? exit->exit_code : -1); };
    [[maybe_unused]] const auto session = driver::run_exec(execs, task, spec, callbacks);
  });
  CHECK(RunningTasks::take(seen.wait(RunningTasks::soon())) == Phase::kRunning);
  CHECK(RunningTasks::take(exit_code.wait(RunningTasks::soon())) == 5);
  CHECK_FALSE(marked.ready());
  disk.free.set(true);
  CHECK(RunningTasks::take(marked.wait(RunningTasks::soon())));
  while (execs.sessions > 0) RunningTasks::must(RunningTasks::soon().sleep(1ms));
}

TEST_CASE("an exit during the write of an older record is written after it, and told after that") {
  RunningTasks fixture("exit 3");
  SlowDisk disk;
  fixture.record.phase = Phase::kStarting;
  auto task = std::make_shared<driver::Task>(fixture.loop, fixture.background, fixture.events, fixture.record,
                                             fixture.shim, disk.writer());
  base::Crew crew({.name = "writers"});
  RunningTasks::must(crew.submit("mark", [&] { RunningTasks::must(task->mark_running()); }));
  RunningTasks::take(disk.begun.wait(RunningTasks::soon()));
  task->watch_exit();
  base::OneShot<std::size_t> writes_before_told;
  const auto exit =
      task->on_exit([&](const driver::ExitResult&) { writes_before_told.set(disk.written.lock()->size()); });
  CHECK(task->record().phase == Phase::kStarting);
  disk.free.set(true);
  CHECK(RunningTasks::take(writes_before_told.wait(RunningTasks::soon())) == 2);
  CHECK(*disk.written.lock() == std::vector{Phase::kRunning, Phase::kExited});
  CHECK(task->record().phase == Phase::kExited);
}

TEST_CASE("without a free descriptor a shim is not taken for dead: its task lives on") {
  RunningTasks fixture("trap 'exit 4' TERM; : > $ready; while :; do sleep 0.01; done");
  base::SpawnOptions sleeper;
  sleeper.argv = {"/bin/sleep", "1000"};
  auto shim = RunningTasks::take(base::Process::spawn(sleeper));  // what abandoning the shim would kill
  fixture.record.shim = RunningTasks::take(base::identify(shim.pid()));
  const auto task = fixture.task();
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none{3, limit.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  task->retry_adoption(base::Error::unavailable("the connection was lost"));
  const auto exit = task->wait_exit(base::Context::background().with_timeout(200ms));
  ::setrlimit(RLIMIT_NOFILE, &limit);
  CHECK_FALSE(exit);
  RunningTasks::take(task->send_signal(RunningTasks::soon(), SIGTERM));
  const auto real = RunningTasks::take(task->wait_exit(RunningTasks::soon()));
  CHECK(real.exit_code == 4);
  CHECK(real.error == "");
  RunningTasks::must(shim.kill(SIGKILL));
  RunningTasks::take(shim.wait(RunningTasks::soon()));
}

TEST_CASE("a shim's exit status: 128 and more are signals") {
  CHECK(driver::exit_from_status(3).exit_code == 3);
  CHECK(driver::exit_from_status(3).signal == 0);
  CHECK(driver::exit_from_status(137).exit_code == 137);
  CHECK(driver::exit_from_status(137).signal == SIGKILL);
  CHECK(driver::exit_from_status(255).signal == 0);
}
