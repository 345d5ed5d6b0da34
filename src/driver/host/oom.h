// What the kernel's OOM killer did in a task's cgroup, and how that is told.
//
// truth   The cgroup's own counter, which also counts children of a task that goes on, and is there until the container
//         is deleted. The shim's TaskOOM events only say when to look; the kernel's log only adds the victim's name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "driver/host/stats.h"

namespace driver {

struct OomVictim {
  int pid = 0;  ///< as the host sees it
  std::string name;
};

struct OomReport {
  std::uint64_t kills = 0;        ///< processes killed since the cgroup was made; 0 where the kernel does not count
  std::uint64_t limit_bytes = 0;  ///< 0 = none: the whole host ran out
  std::uint64_t peak_bytes = 0;   ///< 0 = not known (v2 before memory.peak)
  std::optional<OomVictim> victim;
};

/// The cgroup's counters; the victim is left open. Valid until the cgroup is removed, so ask between exit and delete.
///   errors  kNotFound: the cgroup is gone
base::Result<OomReport> read_oom_report(const CgroupLocation& location);

/// The last process of cgroup `path`, or below it, that the kernel's log says was killed for want of memory. Nothing
/// when the log has none (it is a ring) or may not be read.
///   blocks  for the reading of the log's buffer, some milliseconds
std::optional<OomVictim> find_oom_victim(const std::string& path);

/// One line of the kernel's log: "oom-kill:constraint=…,task_memcg=/nomad/a.web,task=java,pid=17,uid=0". Pure.
std::optional<OomVictim> parse_oom_line(std::string_view line, std::string_view path);

/// "OOM killed: memory limit 256 MiB, peak 256 MiB, victim pid 17 (java), kills 1". Pure.
std::string oom_message(const OomReport& report);

}  // namespace driver
