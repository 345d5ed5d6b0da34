// Needs root. Programs that stand in for the shim and misbehave: whatever they do, our deadline holds, the error names
// what is wrong, and delete_forced leaves nothing.
#include <stdlib.h>

#include "shim/shim.h"
#include "tests/root/shim_fixture.h"

using namespace shim_test;
using base::Code;
using base::Context;
using shim::Shim;
using namespace std::chrono_literals;

namespace {

struct Faulty : Container {
  base::Loop loop;

  /// Makes options.shim_binary the fake that misbehaves so; false if the test program was not told where it is.
  bool choose(const std::string& what) {
    const char* fake = ::getenv("FAKE_SHIM");
    if (fake == nullptr) {
      MESSAGE("FAKE_SHIM is not set: run by meson test");
      return false;
    }
    options.shim_binary = base::str(state_dir, "/fake_shim.", what);
    std::filesystem::create_symlink(fake, options.shim_binary);
    must(shim::write_bundle(names, base::dump_json(config({"/bin/sleep", "1000"}))));
    return true;
  }
  std::shared_ptr<Shim> launch() { return must(Shim::launch(soon(), loop, options, names)); }
  void nothing_is_left_after(const std::optional<base::ProcessId>& recorded) const {
    must(shim::delete_forced(soon(), options, names, recorded));
    CHECK(leftovers() == "");
  }
};

}  // namespace

TEST_CASE_FIXTURE(Faulty, "both versions of the service are found") {
  std::string what;
  SUBCASE("2") {
    what = "v2";
  }
  SUBCASE("3") {
    what = "v3";
  }
  if (!choose(what)) return;
  const auto shim = launch();
  CHECK(must(shim->create(soon(), {})) > 0);
  must(shim->start(soon()));
  CHECK(must(shim->state(soon())).status == shim::ContainerStatus::kRunning);
  nothing_is_left_after(shim->process());
}

TEST_CASE_FIXTURE(Faulty, "it ends at once, talks HTTP, or never answers at all") {
  Code wanted = Code::kFailedPrecondition;
  std::string what;
  options.launch_timeout = 10s;
  SUBCASE("ends") {
    what = "ends";
  }
  SUBCASE("garbage") {
    what = "garbage";
  }
  SUBCASE("Connect-dies") {
    what = "Connect-dies";
  }
  SUBCASE("silent") {
    what = "silent";
    wanted = Code::kDeadlineExceeded;
    options.launch_timeout = 200ms;
  }
  SUBCASE("Connect-silent") {
    what = "Connect-silent";
    wanted = Code::kDeadlineExceeded;
    options.launch_timeout = 200ms;
  }
  if (!choose(what)) return;
  const auto shim = must(Shim::spawn(loop, options, names));
  const base::ProcessId process = shim->process();
  const auto ready = shim->ready(soon());
  REQUIRE_FALSE(ready.has_value());
  CHECK_MESSAGE(ready.error().code == wanted, ready.error().message);
  CHECK(ready.error().message.find(options.shim_binary) != std::string::npos);
  CHECK_FALSE(base::open_pidfd(process).has_value());  // gone and reaped
  nothing_is_left_after(std::nullopt);
}

TEST_CASE_FIXTURE(Faulty,
                  "one that is killed while it comes up says nothing about the program, and can be tried again") {
  if (!choose("silent")) return;
  const auto shim = must(Shim::spawn(loop, options, names));
  must(base::send_signal(must(base::open_pidfd(shim->process())).get(), SIGKILL));
  const auto ready = shim->ready(soon());
  REQUIRE_FALSE(ready.has_value());
  CHECK(ready.error().code == Code::kUnavailable);
  CHECK(ready.error().message.ends_with("was killed by SIGKILL while it came up: try again"));
  nothing_is_left_after(std::nullopt);
}

TEST_CASE_FIXTURE(Faulty, "a start that is cancelled leaves no shim") {
  if (!choose("silent")) return;
  const auto shim = must(Shim::spawn(loop, options, names));
  std::stop_source stop;
  stop.request_stop();
  CHECK(shim->ready(soon().with_stop(stop.get_token())).error().code == Code::kCancelled);
  CHECK_FALSE(base::open_pidfd(shim->process()).has_value());
  nothing_is_left_after(std::nullopt);
}

TEST_CASE_FIXTURE(Faulty, "it dies during Create, or Start") {
  std::string what;
  SUBCASE("Create") {
    what = "Create-dies";
  }
  SUBCASE("Start") {
    what = "Start-dies";
  }
  if (!choose(what)) return;
  const auto shim = launch();
  base::OneShot<bool> closed;
  shim->on_closed([closed] { closed.set(true); });
  if (what == "Create-dies") {
    CHECK(shim->create(soon(), {}).error().code == Code::kUnavailable);
  } else {
    must(shim->create(soon(), {}));
    CHECK(shim->start(soon()).error().code == Code::kUnavailable);
  }
  CHECK(must(closed.wait(soon())));
  nothing_is_left_after(shim->process());
}

TEST_CASE_FIXTURE(Faulty, "Create never comes back, or too late") {
  std::string what;
  SUBCASE("never") {
    what = "Create-silent";
  }
  SUBCASE("late") {
    what = "Create-late";
  }
  if (!choose(what)) return;
  const auto shim = launch();
  const auto created = shim->create(Context::background().with_timeout(50ms), {});
  REQUIRE_FALSE(created.has_value());
  CHECK(created.error().code == Code::kDeadlineExceeded);
  if (what == "Create-late") {  // it did happen: which is why an unknown outcome is deleted, never assumed
    CHECK(must(shim->state(soon())).status == shim::ContainerStatus::kCreated);
  }
  nothing_is_left_after(shim->process());
}

TEST_CASE_FIXTURE(Faulty, "Shutdown is not answered, or not obeyed: SIGKILL after 3 s") {
  if (!choose("Shutdown-silent")) return;
  const auto shim = launch();
  const auto start = base::Clock::now();
  must(shim->shutdown(soon()));
  CHECK(base::Clock::now() - start < 10s);
  CHECK_FALSE(base::open_pidfd(shim->process()).has_value());
  nothing_is_left_after(std::nullopt);
}

TEST_CASE_FIXTURE(Faulty, "a delete that hangs does not hang us") {
  if (!choose("v2")) return;
  // A state directory that the runtime does not remove, and a runtime that never ends.
  const std::string hangs = state_dir + "/hangs";
  must(base::write_file_atomic(hangs, "#!/bin/sh\nexec sleep 1000\n", 0700, base::Durable::kNo));
  const std::string state = base::str(options.runtime_root, "/", shim::kNamespace, "/", names.container_id);
  must(base::make_dirs(state, 0700));
  auto hanging = options;
  hanging.runtime_binary = hangs;
  const auto undone = shim::delete_forced(Context::background().with_timeout(300ms), hanging, names, std::nullopt);
  if (undone) CHECK(leftovers() == "");
  nothing_is_left_after(std::nullopt);
}
