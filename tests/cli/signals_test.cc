#include "cli/signals.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>

using namespace std::chrono_literals;

namespace {

template <typename Condition>
bool becomes_true(const Condition& condition) {
  const auto until = base::Clock::now() + 10s;
  while (!condition() && base::Clock::now() < until) std::this_thread::yield();
  return condition();
}

}  // namespace

TEST_CASE("at first a signal stops what is under way") {
  cli::SignalRelay relay;
  CHECK_FALSE(relay.stop_token().stop_requested());
  ::kill(::getpid(), SIGINT);
  CHECK(becomes_true([&] { return relay.stop_token().stop_requested(); }));
  CHECK(relay.stopped_by() == SIGINT);
}

TEST_CASE("then signals are kept for the target and go to it") {
  cli::SignalRelay relay;
  relay.hold();
  ::kill(::getpid(), SIGUSR1);
  ::kill(::getpid(), SIGTERM);
  std::atomic<int> usr1{0};
  std::atomic<int> term{0};
  relay.set_target([&](int signal) {
    usr1 += signal == SIGUSR1;
    term += signal == SIGTERM;
  });
  CHECK(becomes_true([&] { return usr1 == 1 && term == 1; }));
  ::kill(::getpid(), SIGUSR1);
  CHECK(becomes_true([&] { return usr1 == 2; }));
  relay.set_target({});
  ::kill(::getpid(), SIGTERM);
  CHECK_FALSE(relay.stop_token().stop_requested());
  CHECK(relay.stopped_by() == 0);
}
