// From what a job and Nomad want mounted to OCI mounts with real sources.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/task_spec.h"

namespace driver {

/// An OCI mount. spec: runtime-spec config.md "Mounts"
struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
  bool operator==(const Mount&) const = default;
};

/// The folders that Nomad made for a task, on the host. All "" without an allocation (command line).
struct TaskDirs {
  std::string alloc;    ///< <alloc_dir>/alloc, shared by the group's tasks
  std::string task;     ///< <alloc_dir>/<task>
  std::string local;    ///< <alloc_dir>/<task>/local
  std::string secrets;  ///< <alloc_dir>/<task>/secrets
};
TaskDirs task_dirs(const TaskSpec& spec);

/// Where a mount's source lies. Relative sources are kept apart from their base, because what is below the base may
/// have been made by the task: it is looked up without leaving the base.
struct MountSource {
  std::string base;  ///< "" for an absolute path of the host
  std::string path;  ///< absolute, or relative to base ("." = base itself)
};

/// Pure. "local/x", "secrets/x", "alloc/x" (and "../alloc/x", as seen from the task's folder) are below Nomad's
/// folders; absolute paths are the host's.
///   errors  kInvalidArgument naming `source`: any other relative path, ".." that leaves the folder, no allocation
base::Result<MountSource> resolve_mount_source(const std::string& source, const TaskDirs& dirs);

/// The real path of an existing source: links of a relative source are followed inside its base.
///   errors  kInvalidArgument naming `source` when it does not exist or leads outside
base::Result<std::string> locate_mount_source(const MountSource& source);

/// Everything that is mounted for this task beside the standard mounts: Nomad's alloc, local and secrets folders at the
/// places that the environment names, alloc/logs read-only, Nomad's mounts (volume_mount, devices, CSI), the job's
/// `mounts`. Parents before children. Looks at the host (sources must exist), changes nothing.
///   errors  kInvalidArgument naming the mount and the value; two mounts at one place
base::Result<std::vector<Mount>> plan_mounts(const TaskSpec& spec);

}  // namespace driver
