// Where shims live in the cgroup tree, and killing whole cgroups.
//
// A shim must leave the plugin's cgroups, or stopping the plugin would kill it. Moving a process costs about 9 ms (the
// kernel waits for an RCU grace period), so:
//   v2 (pure or beside v1)  the shim is born in its own cgroup <root>/containerd-driver/<id>, which costs nothing
//   v1 hierarchies          moved to the root beside the call of Create, unless it is there already; no cgroup of ours
//   pure v1                 its own cgroup is one of the freezer hierarchy, joined before exec
// So that a shim, and whatever runc it runs, can be found by name and killed as a set by a process that knows nothing
// else. Containers are not in there: their own cgroup is an absolute path.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace shim {

/// One mounted hierarchy, and where this process is in it.
struct CgroupHierarchy {
  std::string root;  ///< "/sys/fs/cgroup/memory"
  bool v2 = false;
  bool freezer = false;  ///< the v1 one
  bool at_root = false;  ///< this process is in its root cgroup
};
/// From the text of /proc/self/cgroup and the mounts at their customary places below `mount_root`.
std::vector<CgroupHierarchy> cgroup_hierarchies(const std::string& mount_root = "/sys/fs/cgroup");

/// What the shim is started with.
struct ShimCgroup {
  base::Fd dir;    ///< v2: to be born in
  base::Fd procs;  ///< pure v1: to join before exec
};
/// Makes the shim's own cgroup. Idempotent. kFailedPrecondition when no hierarchy is mounted that could hold it.
base::Result<ShimCgroup> make_shim_cgroup(const std::string& cgroup_name);

/// Moves shim `pid` to the root of every v1 hierarchy other than the one of its own cgroup; writes to its own cgroup
/// when there is nothing to move (Shim::create says why). A process that ends meanwhile is OK.
base::Status leave_v1_cgroups(pid_t pid, const std::string& cgroup_name);

/// Kills all that lives in cgroup `path` ("/a/b", below every hierarchy) or below it, and waits until it is empty.
/// Absent = OK. Frozen cgroups are thawed, below it too: on v1 a frozen process does not die.
///   errors  kDeadlineExceeded: it still holds processes, which the message lists
base::Status kill_cgroup(const base::Context& ctx, const std::string& path);

/// Lets run what was frozen in cgroup `path` or below it, whoever froze it: signals reach a process only then. Not what
/// is above it. Absent, not frozen and no freezer here are all fine.
void thaw_cgroup(const std::string& path);

/// Whether cgroup `path` is frozen, or being so. False also where it is not, or nothing freezes.
///   errors  by errno: that cannot be read
base::Result<bool> is_frozen(const std::string& path);

/// Removes the empty cgroup `path` and all below it in every hierarchy. Absent = OK.
///   errors  kResourceExhausted (EBUSY): a process is in it
///   blocks  for the moment that a killed process needs to leave, 200 ms at most
base::Status remove_cgroup(const base::Context& ctx, const std::string& path);

/// "containerd-driver" of "containerd-driver/<id>".
std::string cgroup_parent(const std::string& cgroup_name);

/// Removes an empty cgroup's directory in every hierarchy and says nothing if it is in use: for a shared parent.
void remove_cgroup_if_empty(const std::string& path);

}  // namespace shim
