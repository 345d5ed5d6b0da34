// Killing a command inside a container together with what it started, and nothing else.
//
// An exec shares the container's cgroup and pid namespace with the task, so neither names its processes. What does: the
// runtime makes each command the leader of a session, children point to their parents, and what has left both by setsid
// and a parent's death still has the command's pipes or its terminal, unless it let go of them on purpose.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/process.h"
#include "base/result.h"

namespace driver {

/// What one line of /proc/<pid>/stat says of kinship.
struct Kin {
  base::ProcessId id;
  pid_t parent = 0;
  pid_t session = 0;
  bool dead = false;  ///< a zombie: only its parent can do more
};

/// nullopt for text that is not a stat line. Pure; a command name may hold anything, ") 1 (" as well.
std::optional<Kin> parse_kin(std::string_view stat);

/// The living members of the family of `root`: itself, its session, and all descendants of those. Nobody if another
/// process has its pid by now, which no process can have while one of its session lives. Pure.
///   in      root.start_ticks 0: not known, its pid is trusted
std::vector<base::ProcessId> family_of(const base::ProcessId& root, const std::vector<Kin>& all);

/// A pipe or a terminal, by its inode.
struct StreamId {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  auto operator<=>(const StreamId&) const = default;
};

/// The pipes that `process` has as stdin, stdout and stderr, by a look into /proc. Empty if it has ended.
std::vector<StreamId> pipes_of(const base::ProcessId& process);

/// Whom kill_family kills.
struct Family {
  base::ProcessId root;
  std::string cgroup_path;  ///< only processes in this cgroup or below it are touched, so a recycled pid is not
  std::vector<StreamId>
      pipes;             ///< of the root when it began; while it lives it is asked again, for its terminal as well
  base::ProcessId init;  ///< the task's own process, spared in any case: others may have handed it a pipe
};

/// Kills the family with SIGKILL, again and again until a look finds none of it: family_of(root), and whoever else in
/// the cgroup holds one of its pipes or its terminal and is not older than it.
///   blocks  for a walk through /proc each time, some 10 µs a process
///   errors  kDeadlineExceeded: some are left
base::Status kill_family(const base::Context& ctx, const Family& family);

/// True if /proc/<pid>/cgroup `text` places the process in `cgroup_path` or below it, in any hierarchy. Pure.
bool in_cgroup(std::string_view text, std::string_view cgroup_path);

}  // namespace driver
