#include "base/crew.h"

#include <doctest/doctest.h>
#include <pthread.h>

#include <array>
#include <atomic>

#include "base/sync.h"

using base::Context;

TEST_CASE("jobs run on threads that carry their name") {
  base::Crew crew({.name = "jobs"});
  base::OneShot<std::string> name;
  REQUIRE(crew.submit("StartTask",
                      [=] {
                        std::array<char, 16> text{};
                        ::pthread_getname_np(::pthread_self(), text.data(), text.size());
                        name.set(text.data());
                      })
              .has_value());
  CHECK_EQ(*name.wait(Context::background()), "StartTask");
}

TEST_CASE("more jobs than threads wait in the queue; more than the queue are refused") {
  base::OneShot<bool> go;
  std::atomic<int> done{0};
  std::array<base::OneShot<bool>, 2> started;
  const auto job = [&] {
    [[maybe_unused]] const auto waited = go.wait(Context::background());
    ++done;
  };
  base::Crew crew({.name = "calls", .threads_max = 2, .queue_max = 3});  // ends first: its jobs use the others
  for (auto& s : started) {
    REQUIRE(crew.submit("busy",
                        [&, s] {
                          s.set(true);
                          job();
                        })
                .has_value());
  }
  for (auto& s : started) REQUIRE(s.wait(Context::background()).has_value());
  for (int i = 0; i < 3; ++i) CHECK(crew.submit("queued", job).has_value());
  const auto refused = crew.submit("one too many", job);
  REQUIRE_FALSE(refused.has_value());
  CHECK_EQ(refused.error().message, "too many calls at once (limit 3)");
  go.set(true);
  base::OneShot<bool> last;
  while (!crew.submit("last", [=] { last.set(true); }).has_value()) {
  }
  REQUIRE(last.wait(Context::background()).has_value());
}

TEST_CASE("the destructor waits for running jobs") {
  std::atomic<bool> finished{false};
  base::OneShot<bool> started;
  {
    base::Crew crew({.name = "jobs"});
    REQUIRE(crew.submit("job",
                        [&] {
                          started.set(true);
                          finished = true;
                        })
                .has_value());
    REQUIRE(started.wait(Context::background()).has_value());
  }
  CHECK(finished);
}
