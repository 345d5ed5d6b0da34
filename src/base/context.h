// Deadline and cancellation, passed first and by reference to every function that can block.
//
// Every blocking primitive is one of: OneShot::wait (sync.h), wait_fd (fd.h), Process::wait (process.h),
// Context::sleep. All honour the context and return kCancelled or kDeadlineExceeded.
#pragma once

#include <chrono>
#include <stop_token>

#include "base/result.h"

namespace base {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

class Context {
 public:
  /// No deadline, never cancelled. For programs' outermost frames; everything below derives from one.
  static Context background() { return Context(Deadline::max(), {}); }
  /// Undoing must not die of what killed the doing: 30 s of its own, not cancellable.
  static Context cleanup() { return background().with_timeout(std::chrono::seconds(30)); }

  /// A context that ends at the earlier of this deadline and `timeout` from now: it can only shorten.
  Context with_timeout(std::chrono::nanoseconds timeout) const;
  Context with_deadline(Deadline deadline) const;
  /// The same deadline, cancelled by `stop` (replaces this context's token).
  Context with_stop(std::stop_token stop) const { return Context(deadline_, std::move(stop)); }

  Deadline deadline() const { return deadline_; }
  bool has_deadline() const { return deadline_ != Deadline::max(); }
  const std::stop_token& stop() const { return stop_; }
  /// Time left, never negative; nanoseconds::max() without a deadline.
  std::chrono::nanoseconds remaining() const;
  /// Time left as poll(2) wants it: rounded up to ms, -1 without a deadline.
  int remaining_poll_ms() const;

  /// kCancelled or kDeadlineExceeded once this context has ended.
  Status check() const;
  /// Sleeps for `duration` unless the context ends first.
  Status sleep(std::chrono::nanoseconds duration) const;

 private:
  Context(Deadline deadline, std::stop_token stop) : deadline_(deadline), stop_(std::move(stop)) {}
  Deadline deadline_;
  std::stop_token stop_;
};

}  // namespace base
