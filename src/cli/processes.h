// What `top` shows: the processes of a container as /proc has them, in columns that are called as podman calls them.
// threads  pure
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/files/user.h"

namespace cli {

struct ProcessFacts {
  // By the numbers of the host.
  pid_t pid = 0;
  pid_t parent = 0;
  // By those of the container.
  pid_t inside = 0;
  pid_t group_inside = 0;
  std::uint32_t uid = 0;  ///< effective
  std::uint32_t gid = 0;
  char state = '?';
  std::int64_t terminal = 0;  ///< a device number; 0 = none
  std::int64_t nice = 0;
  std::uint64_t cpu_ticks = 0;
  std::uint64_t start_ticks = 0;  ///< since boot
  std::uint64_t virtual_bytes = 0;
  std::uint64_t resident_pages = 0;
  std::string name;
  std::vector<std::string> words;
};

/// From the texts of /proc/PID/stat, status and cmdline. `depth`: how many pid namespaces the container's lies below
/// the reader's. nullopt: the texts are not those of a process of that namespace.
std::optional<ProcessFacts> parse_process(std::string_view stat, std::string_view status, std::string_view cmdline,
                                          std::size_t depth);
/// How many pid namespaces the process of /proc/PID/status lies below the reader's.
std::size_t pid_namespace_depth(std::string_view status);

/// Titles, then a row for each process.
///   in      columns  none = those of podman · since_boot  now
///   errors  kInvalidArgument a column that there is not
base::Result<std::vector<std::vector<std::string>>> process_table(const std::vector<ProcessFacts>& processes,
                                                                  const std::vector<std::string>& columns,
                                                                  const driver::AccountNames& names,
                                                                  std::chrono::nanoseconds since_boot);

/// "1h2m3.5s", as Go writes durations; hundredths of a second at most.
std::string show_go_duration(std::chrono::nanoseconds duration);

}  // namespace cli
