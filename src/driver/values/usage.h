// A task's resource use, as Nomad shows it.
#pragma once

#include <cstdint>

#include "driver/values/status.h"

namespace driver {

struct CpuUsage {
  double system_percent = 0;
  double user_percent = 0;
  double percent = 0;      ///< 100 = one core
  double total_ticks = 0;  ///< MHz
  std::uint64_t throttled_periods = 0;
  std::uint64_t throttled_ns = 0;
};

struct MemoryUsage {
  std::uint64_t rss = 0;
  std::uint64_t cache = 0;
  std::uint64_t swap = 0;
  std::uint64_t usage = 0;
  std::uint64_t max_usage = 0;
  std::uint64_t kernel_usage = 0;
  std::uint64_t kernel_max_usage = 0;
  bool has_max_usage = false;     ///< v1 always, v2 where memory.peak exists
  bool has_kernel_usage = false;  ///< v1 only
};

struct TaskStats {
  WallTime time;
  CpuUsage cpu;
  MemoryUsage memory;
};

}  // namespace driver
