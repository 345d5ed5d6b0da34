#include "base/context.h"

#include <doctest/doctest.h>

#include <thread>

using base::Code;
using base::Context;
using namespace std::chrono_literals;

TEST_CASE("a timeout can only shorten") {
  const Context outer = Context::background().with_timeout(1h);
  CHECK(outer.with_timeout(1s).deadline() < outer.deadline());
  CHECK_EQ(outer.with_timeout(2h).deadline(), outer.deadline());
  CHECK_FALSE(Context::background().has_deadline());
  CHECK_EQ(Context::background().remaining_poll_ms(), -1);
  CHECK_FALSE(Context::background().with_timeout(std::chrono::nanoseconds::max()).has_deadline());
}

TEST_CASE("check tells deadline from cancellation") {
  CHECK(Context::background().check().has_value());
  CHECK_EQ(Context::background().with_timeout(0s).check().error().code, Code::kDeadlineExceeded);
  std::stop_source source;
  const Context ctx = Context::background().with_stop(source.get_token());
  CHECK(ctx.check().has_value());
  source.request_stop();
  CHECK_EQ(ctx.check().error().code, Code::kCancelled);
}

TEST_CASE("sleep ends with the deadline or the stop") {
  CHECK(Context::background().sleep(1ms).has_value());
  CHECK_EQ(Context::background().with_timeout(1ms).sleep(1h).error().code, Code::kDeadlineExceeded);
  std::stop_source source;
  std::jthread stopper([&] { source.request_stop(); });
  CHECK_EQ(Context::background().with_stop(source.get_token()).sleep(1h).error().code, Code::kCancelled);
}
