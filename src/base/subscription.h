// Being told later without a waiting thread: the one who waits leaves a callback, the one who knows calls it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "base/sync.h"

namespace base {

/// Keeps a callback registered; destroying it (any thread) ends the subscription. A call that is already under way may
/// still finish, so callbacks own what they touch (shared_ptr), never borrow.
class [[nodiscard]] Subscription {
 public:
  Subscription() = default;
  explicit Subscription(std::function<void()> on_end) : on_end_(std::move(on_end)) {}
  ~Subscription() { reset(); }
  Subscription(Subscription&& other) noexcept : on_end_(std::exchange(other.on_end_, nullptr)) {}
  Subscription& operator=(Subscription&& other) noexcept {
    if (this != &other) {
      reset();
      on_end_ = std::exchange(other.on_end_, nullptr);
    }
    return *this;
  }
  void reset() {
    if (auto fn = std::exchange(on_end_, nullptr)) fn();
  }

 private:
  std::function<void()> on_end_;
};

/// Hands every published value to all present subscribers. Any thread; callbacks run on the publisher's thread, without
/// the lock held, and must not block.
template <typename T>
class Hub {
 public:
  using Callback = std::function<void(const T&)>;

  Subscription subscribe(Callback callback) {
    auto list = list_.lock();
    const auto id = list->next_id++;
    list->callbacks.emplace(id, std::make_shared<Callback>(std::move(callback)));
    return Subscription([self = weak(), id] {
      if (auto hub = self.lock()) hub->lock()->callbacks.erase(id);
    });
  }

  void publish(const T& value) {
    std::map<std::uint64_t, std::shared_ptr<Callback>> now;
    now = list_.lock()->callbacks;
    for (auto& [id, callback] : now) (*callback)(value);
  }

 private:
  struct List {
    std::uint64_t next_id = 1;
    std::map<std::uint64_t, std::shared_ptr<Callback>> callbacks;
  };
  std::weak_ptr<Guarded<List>> weak() { return shared_; }
  std::shared_ptr<Guarded<List>> shared_ = std::make_shared<Guarded<List>>();
  Guarded<List>& list_ = *shared_;
};

}  // namespace base
