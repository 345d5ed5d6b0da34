// How the shim's program is run: as the daemon, for `delete`, for its version.
#pragma once

#include "base/process.h"
#include "shim/types.h"

namespace shim {

/// argv, environment and working directory of the shim as daemon (no action). Descriptors, cgroup and session are the
/// caller's. What runc inherits is exactly this environment.
base::SpawnOptions shim_program(const ShimOptions& options, const ShimNames& names);

/// The same for `<shim> delete`, which works without a running shim.
base::SpawnOptions shim_delete_program(const ShimOptions& options, const ShimNames& names);

/// `<runtime> delete --force <id>` with the root that the shim uses.
base::SpawnOptions runtime_delete_program(const ShimOptions& options, const ShimNames& names);

/// Where the runtime keeps the container's state while it exists.
std::string runtime_state_dir(const ShimOptions& options, const ShimNames& names);

}  // namespace shim
