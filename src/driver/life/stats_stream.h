// One subscriber's samples of one task's resource use.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "base/crew.h"
#include "base/loop.h"
#include "base/subscription.h"
#include "driver/host/stats.h"

namespace driver {

/// A timer on the loop asks, the crew (one thread is enough for thousands) reads: nothing waits between samples. The
/// first sample comes at once; after `on_end` nothing more does. Lives as long as its subscription.
class StatsStream : public std::enable_shared_from_this<StatsStream> {
 public:
  static std::shared_ptr<StatsStream> start(base::Loop& loop, base::Crew& crew, CgroupLocation location,
                                            double core_mhz, std::chrono::milliseconds interval,
                                            std::function<void(const TaskStats&)> on_sample,
                                            std::function<void()> on_end);
  /// Says on_end once and stops the timer. Any thread.
  void end();

 private:
  StatsStream(base::Loop& loop, base::Crew& crew, CgroupLocation location, double core_mhz)
      : loop_(loop), crew_(crew), sampler_(std::move(location), core_mhz) {}
  void tick();
  void take_sample();

  base::Loop& loop_;
  base::Crew& crew_;
  StatsSampler sampler_;  ///< used by one job at a time (busy_)
  std::function<void(const TaskStats&)> on_sample_;
  std::function<void()> on_end_;
  std::atomic<bool> busy_{false};
  std::atomic<bool> ended_{false};
  std::unique_ptr<base::Timer> timer_;  ///< loop thread only
};

}  // namespace driver
