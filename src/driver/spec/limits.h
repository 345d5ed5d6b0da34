// Limits of a task beyond what Nomad's resources block gives: setrlimit(2), and CPU and memory as other drivers name
// them.
// threads  any; pure
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/json_fwd.h"
#include "base/result.h"
#include "driver/spec/security.h"
#include "driver/values/limit_changes.h"
#include "driver/values/options.h"
#include "driver/values/task_spec.h"

namespace driver {

/// The resources of setrlimit(2) by the names that `ulimit` takes ("nofile"), with their numbers.
const std::map<std::string, int>& rlimit_names();

/// "1024", "1024:4096" (soft:hard), "-1" or "unlimited" for no limit.
///   errors  kInvalidArgument naming `where` and the value
base::Result<Ulimit> parse_ulimit(const std::string& text, const std::string& where);

/// process.rlimits of OCI: the job's, and open files as 1024:1048576 (within what the host allows) unless it says
/// otherwise.
///   errors  kInvalidArgument: a limit that this node cannot give
base::Result<base::Json> rlimits_json(const TaskOptions& options, const HostFacts& host);

/// linux.resources.cpu (with these shares, 0 = none) and .memory of OCI; empty objects when nothing is limited. Every
/// limit is said each time: the cgroup may be left over from the task's previous run.
///   errors  kInvalidArgument: limits that contradict each other, or that this node's cgroups do not know
base::Result<base::Json> cpu_json(const TaskSpec& task, const HostFacts& host, std::int64_t shares);
base::Result<base::Json> memory_json(const TaskSpec& task, const HostFacts& host);

/// linux.resources of OCI with the changed limits alone. A memory limit without one for swap leaves none for swap, as
/// in memory_json. Pure.
///   errors  kInvalidArgument: a limit of swap where the kernel does not count it
base::Result<base::Json> changes_json(const LimitChanges& changes, const HostFacts& host);

/// The limit of a task that asks for `of_task` (0 = nothing, -1 = none) on a node with `of_node` (0 = none) as default
/// and most: a number of processes, 0 = no limit. Pure.
///   errors  kPermissionDenied when it asks for more than the node allows
base::Result<std::int64_t> effective_pids_limit(std::int64_t of_task, std::int64_t of_node);

/// The first number of the list `wanted` that is not in the list `all`; none if all are, or a list is not understood.
/// spec: cpuset(7) "List format"
std::optional<unsigned> first_not_in(const std::string& wanted, const std::string& all);

}  // namespace driver
