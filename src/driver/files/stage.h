// Bind mounts by descriptor. A runtime opens a mount's source by its path, as root and long after we have looked at it;
// whoever can write to a folder on that path could put a link there in between and have any part of the host mounted.
// So each source is opened once (open_mount_source), what was opened is attached below the task's bundle, where only
// root can change names, and the runtime is given that path.
//
// The stage is a mount of its own, private, so that nothing of it propagates to other mount namespaces. A staged tree
// that is not shared on purpose is cut loose from its source's peers before it is attached: unmounting it could
// otherwise unmount the source's own submounts. spec: mount_namespaces(7), open_tree(2), mount_setattr(2) (Linux 5.12)
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "driver/files/mounts.h"

namespace driver {

/// The mounts with every source that plan_mounts opened (Mount::from) replaced by a path below `dir`, which is made.
/// Must run in the mount namespace that the runtime is started from.
///   errors  kInvalidArgument as open_mount_source; kFailedPrecondition: propagation to or from a source that the
///           host does not share; else by errno. What was staged so far stays for unstage_mounts.
base::Result<std::vector<Mount>> stage_mounts(std::vector<Mount> mounts, const std::string& dir);

/// Unmounts the stage, leaving sources and running containers as they are. Idempotent.
base::Status unstage_mounts(const std::string& dir);

}  // namespace driver
