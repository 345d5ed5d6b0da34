#include "base/context.h"

#include <algorithm>
#include <condition_variable>
#include <limits>
#include <mutex>

namespace base {

Context Context::with_timeout(std::chrono::nanoseconds timeout) const {
  const auto now = Clock::now();
  if (timeout >= Deadline::max() - now) return *this;
  return with_deadline(now + timeout);
}

Context Context::with_deadline(Deadline deadline) const {
  return Context(std::min(deadline_, deadline), stop_);
}

std::chrono::nanoseconds Context::remaining() const {
  if (!has_deadline()) return std::chrono::nanoseconds::max();
  return std::max(std::chrono::nanoseconds(0), std::chrono::nanoseconds(deadline_ - Clock::now()));
}

int Context::remaining_poll_ms() const {
  if (!has_deadline()) return -1;
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(remaining()).count();
  return static_cast<int>(std::min<std::int64_t>(ms, std::numeric_limits<int>::max()));
}

Status Context::check() const {
  if (stop_.stop_requested()) return Error::cancelled("cancelled by the caller");
  if (has_deadline() && Clock::now() >= deadline_) return Error::deadline_exceeded("deadline exceeded");
  return {};
}

Status Context::sleep(std::chrono::nanoseconds duration) const {
  std::mutex mutex;
  std::condition_variable_any never;
  const Deadline until =
      std::min(deadline_, Clock::now() + std::min<std::chrono::nanoseconds>(duration, std::chrono::hours(24 * 365)));
  std::unique_lock lock(mutex);
  never.wait_until(lock, stop_, until, [] { return false; });
  return check();
}

}  // namespace base
