#include "driver/life/stop.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <filesystem>
#include <iterator>

#include "tests/base/no_threads.h"
#include "tests/driver/life/running_task.h"

using base::Code;
using base::Status;
using driver::StopHost;
using tests::RunningTasks;
using namespace std::chrono_literals;

namespace {

constexpr char kStubborn[] = "trap '' TERM; : > $ready; exec sleep 1000";
constexpr char kPolite[] = "trap 'exit 7' TERM; : > $ready; while :; do sleep 0.01; done";

std::ptrdiff_t threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

driver::ExitResult exit_of(driver::Task& task) {
  return RunningTasks::take(task.wait_exit(RunningTasks::soon()));
}

Status wait(const base::OneShot<Status>& done) {
  return RunningTasks::take(done.wait(RunningTasks::soon()));
}

driver::StopCallback into(base::OneShot<Status> done) {
  return [done = std::move(done)](const Status& status) { done.set(status); };
}

}  // namespace

TEST_CASE("a task that ends on the signal is not killed") {
  RunningTasks fixture(kPolite);
  StopHost host(fixture.loop);
  const auto task = fixture.task();
  const base::OneShot<Status> done;
  const auto stop = driver::stop_task(host, task, SIGTERM, 1h, into(done));
  CHECK(wait(done));
  CHECK(exit_of(*task).exit_code == 7);
}

TEST_CASE("a task that ignores the signal is killed after the timeout, and its operator is told") {
  RunningTasks fixture(kStubborn);
  StopHost host(fixture.loop);
  const auto task = fixture.task();
  const base::OneShot<std::string> told;
  const auto events = fixture.events.subscribe([&](const driver::TaskEvent& event) { told.set(event.message); });
  const base::OneShot<Status> done;
  const auto stop = driver::stop_task(host, task, SIGTERM, 50ms, into(done));
  CHECK(wait(done));
  CHECK(exit_of(*task).signal == SIGKILL);
  CHECK(RunningTasks::take(told.wait(RunningTasks::soon())) == "Still running 0.05 s after SIGTERM, sending SIGKILL");
}

TEST_CASE("500 tasks that are being stopped cost no thread and keep nobody waiting") {
  RunningTasks fixture(kStubborn);
  StopHost host(fixture.loop);
  base::Crew calls({.name = "calls", .threads_max = 4});
  const auto before = threads();
  std::vector<base::Subscription> stops(500);
  std::atomic<int> stopped{0};
  base::OneShot<bool> all_stopped;
  std::vector<std::shared_ptr<driver::Task>> tasks;
  for (auto& stop : stops) {
    tasks.push_back(fixture.task());
    const auto on_done = [&stopped, all_stopped](const Status& status) {
      CHECK(status);
      if (++stopped == 500) all_stopped.set(true);
    };
    const auto call = [&host, &stop, task = tasks.back(), on_done] {
      stop = driver::stop_task(host, task, SIGTERM, 1h, on_done);
    };
    RunningTasks::must(calls.submit("StopTask", call));
  }
  const base::OneShot<std::string> other;
  RunningTasks::must(calls.submit("InspectTask", [&] { other.set(tasks.front()->record().id.text); }));
  CHECK(RunningTasks::take(other.wait(RunningTasks::soon())) == "a/t/1");
  CHECK(stopped == 0);
  CHECK(threads() <= before + 4 + 8);  // the calls', and those that signal

  const base::OneShot<Status> killed;
  const auto kill = driver::kill_task(host, tasks.front(), into(killed));
  CHECK(wait(killed));
  CHECK(all_stopped.wait(RunningTasks::soon()));
}

TEST_CASE("a stop that nobody waits for any more does not kill") {
  RunningTasks fixture(kStubborn);
  StopHost host(fixture.loop);
  const auto task = fixture.task();
  const base::OneShot<Status> done;
  auto stop = driver::stop_task(host, task, SIGTERM, 1h, into(done));
  stop.reset();
  fixture.loop.run([] {});  // whatever the stop had queued is over
  CHECK(task->running());
  CHECK_FALSE(done.ready());

  const base::OneShot<Status> again;
  const auto second = driver::stop_task(host, task, SIGTERM, 0s, into(again));
  CHECK(wait(again));
  CHECK_FALSE(done.ready());
}

TEST_CASE("stopping a task that has ended") {
  RunningTasks fixture("exit 3");
  StopHost host(fixture.loop);
  const auto task = fixture.task();
  CHECK(exit_of(*task).exit_code == 3);
  const base::OneShot<Status> stopped, killed;
  const auto stop = driver::stop_task(host, task, SIGTERM, 1h, into(stopped));
  CHECK(wait(stopped));
  const auto kill = driver::kill_task(host, task, into(killed));
  CHECK(wait(killed));
}

TEST_CASE("a shim that does not report the end of its container is given up") {
  fakes::FakeShimOptions options;
  options.faults["Wait"] = {.silent = true};
  RunningTasks fixture(kStubborn, std::move(options));
  StopHost host(fixture.loop);
  host.shim_answer_timeout = 50ms;
  const auto task = fixture.task();
  const base::OneShot<Status> done;
  const auto stop = driver::stop_task(host, task, SIGTERM, 0s, into(done));
  CHECK(wait(done));
  CHECK(exit_of(*task).error.find("its own exit is unknown") != std::string::npos);
}

TEST_CASE("an init process that cannot be looked up now is not taken for one that has ended") {
  RunningTasks fixture(kStubborn);
  StopHost host(fixture.loop);
  const auto task = fixture.task();
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none{3, limit.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  const base::OneShot<Status> done;
  const auto kill = driver::kill_task(host, task, into(done));
  const Status status = wait(done);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Code::kResourceExhausted);
  CHECK(task->running());
}

TEST_CASE("a stop for which no thread can be had goes on when there is one") {
  CHECK(tests::without_threads([] {
    tests::allow_threads(true);
    RunningTasks fixture(kStubborn);
    StopHost host(fixture.loop);
    const auto task = fixture.task();
    tests::allow_threads(false);
    const base::OneShot<Status> done;
    const auto stop = driver::stop_task(host, task, SIGTERM, 0s, into(done));
    fixture.loop.run([] {});
    if (done.ready()) return false;
    tests::allow_threads(true);
    return done.wait(RunningTasks::soon()).has_value() && task->wait_exit(RunningTasks::soon()).has_value();
  }));
}
