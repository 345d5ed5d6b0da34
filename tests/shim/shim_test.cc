// Against a fake shim, so without root: what a shim can do wrong, and what the calls carry. tests/root/shim_test.cc has
// the real one.
#include "shim/shim.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "base/dir.h"
#include "base/file.h"
#include "base/sync.h"
#include "tests/fakes/fake_shim.h"
#include "tests/temp_dir.h"

using base::Code;
using base::Context;
using shim::ContainerStatus;
using shim::Shim;
using namespace std::chrono_literals;

namespace {

using ExitShot = base::OneShot<base::Result<shim::ContainerExit>>;

Context soon() {
  return Context::background().with_timeout(20s);
}

template <typename T>
T must(base::Result<T> result) {
  if (!result) FAIL(result.error().message);
  return *std::move(result);
}
void must(const base::Status& status) {
  if (!status) FAIL(status.error().message);
}

struct Fixture {
  tests::TempDir dir;
  base::Loop loop;
  shim::ShimNames names{"c1", dir / "c1", dir / "s.sock", "cd-unit-test/c1"};
  shim::ShimOptions options;
  std::unique_ptr<fakes::FakeShim> fake;
  std::shared_ptr<Shim> shim;

  void serve(fakes::FakeShimOptions fake_options = {}) {
    must(shim::write_bundle(names, R"({"process":{"args":["/bin/sh","-c","echo hi; exit 6"]}})"));
    fake = std::make_unique<fakes::FakeShim>(loop, must(base::listen_unix(names.socket_path, 8)), names.socket_path,
                                             std::move(fake_options));
    shim = must(Shim::adopt(soon(), loop, options, names));
  }
  void serve_fault(const std::string& method, fakes::Fault fault) {
    fakes::FakeShimOptions fake_options;
    fake_options.faults[method] = std::move(fault);
    serve(std::move(fake_options));
  }
  ExitShot wait(const std::string& exec_id = "") const {
    ExitShot shot;
    shim->wait(exec_id, [shot](base::Result<shim::ContainerExit> exit) { shot.set(std::move(exit)); });
    return shot;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a life on either version of the service") {
  fakes::FakeShimOptions fake_options;
  SUBCASE("2") {
    fake_options.service = "containerd.task.v2.Task";
  }
  SUBCASE("3") {
    fake_options.service = "containerd.task.v3.Task";
  }
  serve(std::move(fake_options));
  CHECK(shim->process().pid == ::getpid());
  REQUIRE(::mkfifo((dir / "out").c_str(), 0600) == 0);
  const base::Fd reader = must(base::open_file(dir / "out", O_RDONLY | O_NONBLOCK));
  const pid_t pid = must(shim->create(soon(), {"", dir / "out", "", false}));
  CHECK(pid > 0);
  CHECK(must(shim->state(soon())).status == ContainerStatus::kCreated);
  const ExitShot exited = wait();
  must(shim->start(soon()));
  CHECK(must(must(exited.wait(soon()))).exit_status == 6);
  CHECK(must(base::read_to_end(soon(), reader.get(), 100, "out")) == "hi\n");
  CHECK(must(must(wait().wait(soon()))).exit_status == 6);  // after the fact
  const auto state = must(shim->state(soon()));
  CHECK(state.status == ContainerStatus::kStopped);
  CHECK(state.pid == pid);
  CHECK(shim->kill(soon(), "", SIGTERM, false).error().code == Code::kNotFound);
  CHECK(must(shim->remove(soon(), "")).exit_status == 6);
  CHECK_FALSE(must(shim->remove(soon(), "")).exited_at.has_value());
}

TEST_CASE_FIXTURE(Fixture, "execs") {
  serve();
  must(shim->create(soon(), {}));
  must(shim->exec(soon(), "e1", R"({"args":["/bin/sleep","1000"]})", {}));
  CHECK(shim->exec(soon(), "e1", "{}", {}).error().code == Code::kAlreadyExists);
  const ExitShot exited = wait("e1");
  CHECK(must(shim->start_exec(soon(), "e1")) > 0);
  must(shim->resize(soon(), "e1", 80, 24));
  must(shim->close_stdin(soon(), "e1"));
  must(shim->kill(soon(), "e1", SIGKILL, false));
  CHECK(must(must(exited.wait(soon()))).exit_status == 137);
  must(shim->remove(soon(), "e1"));
  CHECK(must(wait("nonesuch").wait(soon())).error().code == Code::kNotFound);
}

TEST_CASE_FIXTURE(Fixture, "the shim dies during Create") {
  serve_fault("Create", {.dies = true});
  base::OneShot<bool> closed;
  shim->on_closed([closed] { closed.set(true); });
  must(base::write_file(names.bundle_dir + "/log", "panic: out of cheese\n"));
  const auto created = shim->create(soon(), {});
  REQUIRE_FALSE(created.has_value());
  CHECK(created.error().code == Code::kUnavailable);
  CHECK(created.error().message.find("out of cheese") != std::string::npos);
  CHECK(must(closed.wait(soon())));
  CHECK(must(wait().wait(soon())).error().code == Code::kUnavailable);
}

TEST_CASE_FIXTURE(Fixture, "the shim never answers") {
  serve_fault("Start", {.silent = true});
  must(shim->create(soon(), {}));
  CHECK(shim->start(Context::background().with_timeout(30ms)).error().code == Code::kDeadlineExceeded);
  std::stop_source stop;
  stop.request_stop();
  CHECK(shim->start(soon().with_stop(stop.get_token())).error().code == Code::kCancelled);
  CHECK(must(shim->state(soon())).status == ContainerStatus::kCreated);  // other calls go on
  CHECK(fake->calls("Start") == 1);                                      // never retried
}

TEST_CASE_FIXTURE(Fixture, "our own limit holds when the caller has none") {
  options.call_timeout = 30ms;
  serve_fault("Create", {.silent = true});
  CHECK(shim->create(Context::background(), {}).error().code == Code::kDeadlineExceeded);
}

TEST_CASE_FIXTURE(Fixture, "the shim answers after the deadline") {
  serve_fault("State", {.late = 100ms});
  must(shim->create(soon(), {}));
  CHECK(shim->state(Context::background().with_timeout(10ms)).error().code == Code::kDeadlineExceeded);
  CHECK(must(shim->state(soon())).status == ContainerStatus::kCreated);  // the late answer disturbs nobody
}

TEST_CASE_FIXTURE(Fixture, "the shim's words reach the caller") {
  serve_fault("Create", {.error = base::Error::unknown("OCI runtime create failed: exec: \"x\": not found: unknown")});
  const auto created = shim->create(soon(), {});
  CHECK(created.error().code == Code::kUnknown);
  CHECK(created.error().message == "creating container c1: OCI runtime create failed: exec: \"x\": not found: unknown");
}

TEST_CASE_FIXTURE(Fixture, "adopting what is not there, does not answer, or is something else") {
  must(shim::prepare_bundle(names));
  CHECK(Shim::adopt(soon(), loop, options, names).error().code == Code::kNotFound);
  const base::Fd listening = must(base::listen_unix(names.socket_path, 8));
  const auto silent = Shim::adopt(Context::background().with_timeout(30ms), loop, options, names);
  CHECK(silent.error().code == Code::kDeadlineExceeded);
}

TEST_CASE_FIXTURE(Fixture, "an adopted shim costs one descriptor, so that 500 fit a limit of 1,024") {
  constexpr std::size_t kShims = 50;
  const auto descriptors = [] { return must(base::list_dir("/proc/self/fd")).size(); };
  std::vector<std::unique_ptr<fakes::FakeShim>> fakes;
  std::vector<shim::ShimNames> all;
  for (std::size_t i = 0; i < kShims; ++i) {
    auto& one = all.emplace_back(names);
    one.socket_path = dir / base::str(i, ".sock");
    fakes.push_back(std::make_unique<fakes::FakeShim>(loop, must(base::listen_unix(one.socket_path, 8)),
                                                      one.socket_path, fakes::FakeShimOptions{}));
  }
  std::vector<std::shared_ptr<Shim>> shims;
  std::size_t before = 0;
  for (const auto& one : all) {
    shims.push_back(must(Shim::adopt(soon(), loop, options, one)));
    if (shims.size() == 1) before = descriptors() - 2;  // with what the first one cost for all
  }
  loop.run([] {});
  CHECK(descriptors() == before + 2 * kShims);  // the other half are the fakes' ends
}

TEST_CASE_FIXTURE(Fixture, "adopting a shim whose service is neither version") {
  must(shim::prepare_bundle(names));
  fakes::FakeShimOptions fake_options;
  fake_options.service = "containerd.task.v9.Task";
  fake = std::make_unique<fakes::FakeShim>(loop, must(base::listen_unix(names.socket_path, 8)), names.socket_path,
                                           std::move(fake_options));
  CHECK(Shim::adopt(soon(), loop, options, names).error().code == Code::kUnimplemented);
}

TEST_CASE_FIXTURE(Fixture, "a shim object that goes away tells its waiters, and no listener") {
  serve();
  must(shim->create(soon(), {}));
  std::atomic<bool> closed{false};
  shim->on_closed([&closed] { closed = true; });
  const ExitShot exited = wait();
  shim.reset();
  CHECK(must(exited.wait(soon())).error().code == Code::kUnavailable);
  loop.run([] {});
  CHECK_FALSE(closed);
}
