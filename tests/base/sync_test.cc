#include "base/sync.h"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "base/subscription.h"

using base::Code;
using base::Context;
using namespace std::chrono_literals;

TEST_CASE("OneShot hands one value to every waiter; the first set wins") {
  base::OneShot<int> shot;
  std::vector<std::jthread> waiters;
  base::Guarded<int> sum;
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] { *sum.lock() += *shot.wait(Context::background()); });
  }
  CHECK_FALSE(shot.ready());
  CHECK(shot.set(5));
  CHECK_FALSE(shot.set(6));
  waiters.clear();
  CHECK_EQ(*sum.lock(), 20);
}

TEST_CASE("OneShot::wait honours deadline and stop") {
  const base::OneShot<int> shot;
  CHECK_EQ(shot.wait(Context::background().with_timeout(1ms)).error().code, Code::kDeadlineExceeded);
  std::stop_source source;
  std::jthread stopper([&] { source.request_stop(); });
  CHECK_EQ(shot.wait(Context::background().with_stop(source.get_token())).error().code, Code::kCancelled);
}

TEST_CASE("Hub publishes to those who are subscribed") {
  base::Hub<int> hub;
  int a = 0, b = 0;
  base::Subscription first = hub.subscribe([&](int n) { a += n; });
  {
    const base::Subscription second = hub.subscribe([&](int n) { b += n; });
    hub.publish(1);
  }
  hub.publish(10);
  CHECK_EQ(a, 11);
  CHECK_EQ(b, 1);
  first.reset();
  hub.publish(100);
  CHECK_EQ(a, 11);
}

TEST_CASE("a subscription may outlive its hub") {
  base::Subscription left;
  {
    base::Hub<int> hub;
    left = hub.subscribe([](int) {});
  }
  left.reset();
}
