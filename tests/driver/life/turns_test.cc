#include "driver/life/turns.h"

#include <doctest/doctest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

using base::Context;
using driver::Turns;
using namespace std::chrono_literals;

namespace {
Context soon() {
  return Context::background().with_timeout(20s);
}
Context shortly() {
  return Context::background().with_timeout(30ms);
}
}  // namespace

TEST_CASE("as many starts as the node serves, the next one when one is over") {
  Turns turns(2);
  auto first = turns.wait_for_start(soon());
  std::optional<base::Result<Turns::Turn>> second(turns.wait_for_start(soon()));
  REQUIRE(first.has_value());
  REQUIRE(second->has_value());
  CHECK_EQ(turns.wait_for_start(shortly()).error().code, base::Code::kDeadlineExceeded);
  second.reset();
  CHECK(turns.wait_for_start(soon()).has_value());
}

TEST_CASE("in the order of arrival, and who gave up waiting is not waited for") {
  Turns turns(1);
  std::optional<base::Result<Turns::Turn>> holder(turns.wait_for_start(soon()));
  base::Guarded<std::vector<int>> order;
  std::atomic<int> waiting{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back([&, i] {
      ++waiting;
      const auto turn = turns.wait_for_start(i == 2 ? Context::background().with_timeout(1ms) : soon());
      if (turn) order.lock()->push_back(i);
    });
    while (waiting != i + 1) std::this_thread::yield();
    std::this_thread::sleep_for(5ms);  // until it stands in the queue
  }
  holder.reset();
  threads.clear();
  CHECK_EQ(*order.lock(), std::vector<int>{0, 1, 3, 4});
}

TEST_CASE("what is urgent does not wait, and starts wait for it") {
  Turns turns(1);
  std::optional<Turns::Turn> one(turns.urgent());
  std::optional<Turns::Turn> two(turns.urgent());
  CHECK_FALSE(turns.wait_for_start(shortly()));
  one.reset();
  CHECK_FALSE(turns.wait_for_start(shortly()));
  two.reset();
  CHECK(turns.wait_for_start(soon()));
}

TEST_CASE("a turn that lasts too long keeps nobody back") {
  Turns turns(1);
  const auto hangs = turns.wait_for_start(soon());
  const auto begin = base::Clock::now();
  CHECK(turns.wait_for_start(soon()).has_value());
  CHECK(base::Clock::now() - begin >= Turns::kTurnMax - 1s);
}
