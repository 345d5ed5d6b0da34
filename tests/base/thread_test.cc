// clang-format off
#include "base/thread.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include <pthread.h>
#include <signal.h>

#include <array>

#include "base/crew.h"
#include "base/loop.h"
#include "base/process.h"
#include "base/sync.h"
#include "tests/base/no_threads.h"

using base::Code;
using base::Context;

namespace {

bool exhausted(const base::Status& status) {
  return !status && status.error().code == Code::kResourceExhausted &&
         status.error().message.find("pids.max") != std::string::npos;
}

}  // namespace

TEST_CASE("a thread carries its name, leaves signals to others, and is stopped and joined by its owner") {
  base::OneShot<std::string> name;
  base::OneShot<bool> blocked;
  bool ended = false;
  {
    const auto thread = base::start_thread("a name of more than 15", [&](const std::stop_token& stop) {
      std::array<char, 16> text{};
      ::pthread_getname_np(::pthread_self(), text.data(), text.size());
      name.set(text.data());
      sigset_t mask;
      ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      blocked.set(::sigismember(&mask, SIGTERM) == 1 && ::sigismember(&mask, SIGINT) == 1);
      [[maybe_unused]] const auto slept = Context::background().with_stop(stop).sleep(std::chrono::hours(1));
      ended = true;
    });
    REQUIRE(thread.has_value());
    CHECK_EQ(*name.wait(Context::background()), "a name of more ");
    CHECK(*blocked.wait(Context::background()));
  }
  CHECK(ended);
  sigset_t mask;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  CHECK_EQ(::sigismember(&mask, SIGTERM), 0);  // the caller's own are as they were
}

TEST_CASE("no thread to be had is an error that says what to raise, wherever one is asked for") {
  CHECK(tests::without_threads([] {
    const auto thread = base::start_thread("x", [] {});
    return exhausted(thread ? base::Status() : base::Status(thread.error()));
  }));
  CHECK(tests::without_threads([] {
    base::Crew crew({.name = "calls"});
    return exhausted(crew.submit("job", [] {})) && exhausted(crew.submit("job", [] {}));
  }));
  CHECK(tests::without_threads([] {
    base::Loop loop;
    bool ran = false;
    loop.post([&] { ran = true; });
    loop.run([&] { ran = true; });
    return exhausted(loop.status()) && !ran;
  }));
  CHECK(tests::without_threads([] {
    base::SpawnOptions options;
    options.argv = {"/bin/true"};
    const auto process = base::Process::spawn(options);
    return exhausted(process ? base::Status() : base::Status(process.error()));
  }));
}

TEST_CASE("a crew with a loop keeps a job that no thread can be had for, until one can") {
  CHECK(tests::without_threads([] {
    if (!tests::allow_threads(true)) return false;
    base::Loop loop;
    base::OneShot<bool> first;
    base::OneShot<bool> second;
    base::Crew crew({.name = "exits", .retry_on = &loop});
    if (!tests::allow_threads(false)) return false;
    if (!crew.submit("first", [first] { first.set(true); })) return false;
    if (!crew.submit("second", [second] { second.set(true); })) return false;
    const bool waits = !first.wait(Context::background().with_timeout(std::chrono::milliseconds(300))).has_value();
    if (!waits || !tests::allow_threads(true)) return false;
    const auto soon = Context::background().with_timeout(std::chrono::seconds(20));
    return first.wait(soon).has_value() && second.wait(soon).has_value();
  }));
  // Closed while it still waits: the job is dropped, and nothing is left on the loop.
  CHECK(tests::without_threads([] {
    if (!tests::allow_threads(true)) return false;
    base::Loop loop;
    bool ran = false;
    {
      base::Crew crew({.name = "exits", .retry_on = &loop});
      if (!tests::allow_threads(false) || !crew.submit("job", [&] { ran = true; })) return false;
    }
    return !ran;
  }));
}
