// On cgroup v1 Nomad decides about processors in a hierarchy of its own: <root>/cpuset/nomad/share for all tasks
// without `cores`, <root>/cpuset/nomad/reserve/<alloc>.<task> for one with. It rewrites them as reservations come and
// go. OCI has one path for all controllers, so the runtime makes the container a cpuset group of its own, which would
// keep to what was free at its start: the processes are moved from there into Nomad's. On v2 the container's only
// cgroup is Nomad's, and there is nothing to do.
#pragma once

#include <string>

#include "base/result.h"
#include "driver/host/stats.h"
#include "driver/values/task_spec.h"

namespace driver {

/// Moves what runs in the container's own cpuset group into the one that Nomad named, with the task's cores if it has
/// any. OK without effect on v2, and where the agent keeps no cpusets.
///   in       container.path: TaskNames::cgroup_path
///   blocks   some 5 ms for the kernel (an RCU grace period) if there is something to move
///   threads  any; a process forked meanwhile is moved as well
base::Status join_nomad_cpuset(const CgroupLocation& container, const Resources& resources);

/// The same for a process that came in later (an exec): to wherever the process `init` is.
base::Status follow_into_cpuset(const CgroupLocation& container, pid_t init);

/// "/nomad/share" of the line "N:cpuset:/nomad/share" of a /proc/<pid>/cgroup, "" if it has none. Pure.
std::string parse_cpuset_path(std::string_view proc_cgroup);

}  // namespace driver
