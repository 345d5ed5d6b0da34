// The two ways threads share: Guarded<T> (a value behind its mutex) and OneShot<T> (one value, handed over once).
#pragma once

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "base/context.h"
#include "base/result.h"

namespace base {

/// A value that cannot be touched unlocked. Never hold the guard across a blocking call.
///   if (auto tasks = tasks_.lock(); tasks->contains(id)) ...
template <typename T>
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(T value) : value_(std::move(value)) {}

  class Lock {
   public:
    T* operator->() { return value_; }
    T& operator*() { return *value_; }

   private:
    friend class Guarded;
    Lock(std::mutex& mutex, T* value) : lock_(mutex), value_(value) {}
    std::unique_lock<std::mutex> lock_;
    T* value_;
  };
  Lock lock() { return Lock(mutex_, &value_); }

 private:
  std::mutex mutex_;
  T value_{};
};

/// One value from one thread to any number of waiters. Copies share the same state, so it may be captured by value.
/// threads: set() from any thread, the first call wins; wait() from any thread.
template <typename T>
class OneShot {
 public:
  OneShot() : state_(std::make_shared<State>()) {}

  /// Returns false (and drops `value`) if a value was already set.
  bool set(T value) const {
    {
      std::lock_guard lock(state_->mutex);
      if (state_->value) return false;
      state_->value.emplace(std::move(value));
    }
    state_->changed.notify_all();
    return true;
  }

  /// Blocks until the value is there or ctx ends; the value is copied out, so every waiter gets it.
  Result<T> wait(const Context& ctx) const {
    std::unique_lock lock(state_->mutex);
    // A day at most per wait: wait_until(time_point::max()) overflows in libstdc++'s clock conversion.
    while (!state_->value) {
      TRY_VOID(ctx.check());
      const Deadline until = std::min(ctx.deadline(), Clock::now() + std::chrono::hours(24));
      state_->changed.wait_until(lock, ctx.stop(), until, [this] { return state_->value.has_value(); });
    }
    return *state_->value;
  }

  bool ready() const {
    std::lock_guard lock(state_->mutex);
    return state_->value.has_value();
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::optional<T> value;
  };
  std::shared_ptr<State> state_;
};

}  // namespace base
