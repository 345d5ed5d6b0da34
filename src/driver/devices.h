// Devices of the host that a job names: read from their three written forms, found on the host, put into a container.
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "driver/config.h"
#include "driver/security.h"
#include "driver/task_spec.h"

namespace driver {

/// "/dev/fuse", "/dev/loop0:/dev/xvdc:r", "/dev/loop0:r", or a block with host_path, container_path and
/// cgroup_permissions; one, or a list of them.
///   errors  kInvalidArgument naming the entry and the form that is expected
base::Result<std::vector<DeviceOption>> decode_devices(const base::Json& value, const std::string& where);

/// What the job and Nomad's device plugins name, as device nodes for the container; symbolic links of the host are
/// followed, a folder is every device below it. Sorted by path; of two for one path the one that is named last counts.
///   errors  kInvalidArgument: it does not exist, is no device, or is a folder without any
base::Result<std::vector<Device>> find_devices(const std::vector<DeviceOption>& wanted,
                                               const std::vector<NomadDevice>& from_nomad);

}  // namespace driver
