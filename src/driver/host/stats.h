// A task's resource use, from its cgroup's files.
//
// cost    The files are opened at the first sample and kept; a sample is one pread(2) per file, no process, no parsing
//         beyond the lines wanted. All readers keep a quarter of the descriptors that the process may have: where that
//         is little, the others open their files for each sample.
// seam    Every path starts at a root directory ("/sys/fs/cgroup"), so tests read recorded trees.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "driver/values/usage.h"

namespace driver {

enum class CgroupMode { kOff, kV1, kV2 };

/// As the Nomad agent decides it: the first line of mountinfo with a /sys/fs/cgroup token that is also tmpfs → v1 (so
/// hybrid hosts are v1), cgroup2 → v2, else off. Pure.
CgroupMode parse_cgroup_mode(std::string_view mountinfo);
/// The same for this process, looked at once.
CgroupMode detect_cgroup_mode();

struct CgroupLocation {
  CgroupMode mode = CgroupMode::kV1;
  std::string path;                     ///< OCI cgroupsPath: "/nomad/<alloc>.<task>", below every v1 controller
  std::string root = "/sys/fs/cgroup";  ///< of the hierarchy or hierarchies
};

/// Counters since the cgroup was made; memory as of now.
struct CgroupSample {
  base::Clock::time_point at;
  std::uint64_t cpu_ns = 0;
  std::uint64_t user_ns = 0;
  std::uint64_t system_ns = 0;
  std::uint64_t throttled_periods = 0;
  std::uint64_t throttled_ns = 0;
  MemoryUsage memory;
};

/// A reader's right to keep its files open between samples. Move-only; given back at its end.
class KeptFiles {
 public:
  KeptFiles() = default;
  /// Empty if all readers together would keep more than a quarter of RLIMIT_NOFILE.
  static KeptFiles take();
  ~KeptFiles();
  KeptFiles(KeptFiles&& other) noexcept : count_(std::exchange(other.count_, 0)) {}
  KeptFiles& operator=(KeptFiles&& other) noexcept {
    std::swap(count_, other.count_);
    return *this;
  }
  explicit operator bool() const { return count_ > 0; }

 private:
  std::uint64_t count_ = 0;
};

/// Reads one cgroup. threads: one at a time.
class CgroupReader {
 public:
  explicit CgroupReader(CgroupLocation location) : location_(std::move(location)) {}

  /// kNotFound while there is no cgroup of that name. A file that this kernel does not have counts as zero.
  base::Result<CgroupSample> read();

 private:
  base::Result<CgroupSample> read_v1();
  base::Result<CgroupSample> read_v2();
  base::Status open_files();
  base::Status open_v1();
  base::Status open_v2();

  CgroupLocation location_;
  bool open_ = false;
  KeptFiles kept_;
  base::Fd cpu_usage_;  ///< v1 cpuacct.usage
  base::Fd cpu_split_;  ///< v1 cpuacct.stat
  base::Fd cpu_stat_;   ///< cpu.stat of either
  base::Fd memory_stat_;
  base::Fd memory_usage_;
  base::Fd memory_max_usage_;
  base::Fd memory_swap_;   ///< v2
  base::Fd kernel_usage_;  ///< v1
  base::Fd kernel_max_usage_;
};

/// Turns pairs of samples into what Nomad shows.
class StatsSampler {
 public:
  /// `core_mhz` 0 = as /proc/cpuinfo says.
  StatsSampler(CgroupLocation location, double core_mhz);

  /// Percentages are over the time since the previous call, zero in the first one. kNotFound: the task is gone.
  base::Result<TaskStats> sample();

 private:
  CgroupReader reader_;
  double core_mhz_;
  std::optional<CgroupSample> previous_;
};

/// The arithmetic of StatsSampler::sample. Pure.
CpuUsage cpu_usage_between(const CgroupSample& earlier, const CgroupSample& later, double core_mhz);

/// How many processes of the cgroup the kernel has killed for want of memory. Valid until the cgroup is removed, so ask
/// between exit and delete. 0 where the kernel does not count.
base::Result<std::uint64_t> read_oom_kills(const CgroupLocation& location);

/// What a person sees beside a sample.
struct CgroupFigures {
  std::uint64_t memory_limit_bytes = 0;  ///< 0 = none
  std::uint64_t processes = 0;           ///< threads are counted
  std::uint64_t block_read_bytes = 0;
  std::uint64_t block_written_bytes = 0;
};
/// As of now; nothing is kept open. A file that this kernel does not have counts as zero.
///   errors  by errno
base::Result<CgroupFigures> read_figures(const CgroupLocation& location);

/// What has passed through network interfaces since they were made.
struct InterfaceBytes {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
};
/// The sum over /proc/PID/net/dev without the loopback. Pure.
InterfaceBytes parse_interfaces(std::string_view net_dev);

/// The mean of the "cpu MHz" lines of /proc/cpuinfo, 0 if it has none (arm64). Pure.
double parse_core_mhz(std::string_view cpuinfo);

}  // namespace driver
