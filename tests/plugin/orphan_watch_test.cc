#include "plugin/orphan_watch.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "base/result.h"
#include "base/sync.h"

namespace {

using std::chrono::milliseconds;

// A host is a pipe whose reading end it holds.
struct Fixture {
  ~Fixture() {
    loop.run([&] { watch.reset(); });
  }
  void begin(plugin::OrphanTimes times) {
    auto pipe = base::make_pipe();
    REQUIRE(pipe.has_value());
    host = std::move(pipe->read_end);
    loop.run([&] {
      watch = std::make_unique<plugin::OrphanWatch>(
          loop, std::move(pipe->write_end), times,
          plugin::OrphanWatch::Deps{[this] { return was_connected.load(); }, [this] { return looked() && connected; },
                                    [why = why](std::string text) { why.set(std::move(text)); }});
    });
  }
  bool looked() {
    ++looks;
    return true;
  }
  std::string reason(milliseconds within) {
    const auto text = why.wait(base::Context::background().with_timeout(within));
    return text ? *text : "";
  }

  base::Loop loop;
  base::Fd host;
  std::unique_ptr<plugin::OrphanWatch> watch;
  std::atomic<bool> was_connected{false};
  std::atomic<bool> connected{false};
  std::atomic<int> looks{0};
  base::OneShot<std::string> why;
};

constexpr std::chrono::seconds kPatience{30};
constexpr plugin::OrphanTimes kQuick{.first = milliseconds(1), .next = milliseconds(20), .look = milliseconds(1)};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a host that is gone without having connected ends its plugin") {
  begin(kQuick);
  CHECK(reason(milliseconds(50)).empty());
  host.reset();
  CHECK(reason(kPatience) == "the host is gone without having connected");
}

TEST_CASE_FIXTURE(Fixture, "one that had connected is waited for, and so is the next one") {
  was_connected = connected = true;
  begin(kQuick);
  host.reset();
  while (looks < 100) std::this_thread::yield();  // another agent has come
  CHECK(reason(milliseconds(0)).empty());
  connected = false;
  CHECK(reason(kPatience) == "the host is gone, and no other one has come");
}
