#include "cli/signals.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>

#include "base/context.h"
#include "tests/base/no_threads.h"

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
  const auto started = cli::SignalRelay::start();
  REQUIRE(started);
  cli::SignalRelay& relay = **started;
  CHECK_FALSE(relay.stop_token().stop_requested());
  ::kill(::getpid(), SIGINT);
  CHECK(becomes_true([&] { return relay.stop_token().stop_requested(); }));
  CHECK(relay.stopped_by() == SIGINT);
}

TEST_CASE("then signals are kept for the target and go to it") {
  const auto started = cli::SignalRelay::start();
  REQUIRE(started);
  cli::SignalRelay& relay = **started;
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

TEST_CASE("without a thread there is no relay, and signals are as they were") {
  CHECK(tests::without_threads([] {
    const auto relay = cli::SignalRelay::start();
    sigset_t mask;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return !relay && relay.error().code == base::Code::kResourceExhausted && ::sigismember(&mask, SIGTERM) == 0;
  }));
}
