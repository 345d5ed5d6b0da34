// From what a job and Nomad want mounted to OCI mounts with real sources.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "driver/files/sources.h"
#include "driver/values/task_spec.h"

namespace driver {

/// An OCI mount. spec: runtime-spec config.md "Mounts"
struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
  /// Set for sources that somebody else than root may have had a hand in: stage_mounts opens them there.
  std::optional<MountSource> from = {};
  bool operator==(const Mount&) const = default;
};

/// Whether a job may mount what lies outside of its allocation (the node's volumes.enabled).
enum class HostFiles : bool { kNo, kYes };

/// Everything that is mounted for this task beside the standard mounts: Nomad's alloc, local and secrets folders at the
/// places that the environment names, alloc/logs read-only, Nomad's mounts (volume_mount, devices, CSI), the job's
/// `mounts`. Parents before children. Looks at the host: sources must exist, only those of `volumes` are made.
///   errors  kInvalidArgument naming the mount and the value; two mounts at one place
///           kPermissionDenied: HostFiles::kNo and a source that is, links resolved, not in a folder of the task's own
base::Result<std::vector<Mount>> plan_mounts(const TaskSpec& spec, HostFiles host_files = HostFiles::kYes);

}  // namespace driver
