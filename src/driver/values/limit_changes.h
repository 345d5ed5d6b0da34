// Limits that a running task is to have from now on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace driver {

/// What has no value stays as it is.
struct LimitChanges {
  std::optional<std::int64_t> memory_bytes = {};       ///< -1 = no limit
  std::optional<std::int64_t> memory_swap_bytes = {};  ///< memory and swap together; -1 = no limit
  std::optional<std::int64_t> memory_reservation_bytes = {};
  std::optional<double> cpus = {};  ///< 0 = no limit
  std::optional<std::int64_t> cpu_shares = {};
  std::optional<std::string> cpuset_cpus = {};
  std::optional<std::int64_t> pids_max = {};  ///< -1 = no limit
};

}  // namespace driver
