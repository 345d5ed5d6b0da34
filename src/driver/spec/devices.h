// Devices of the host that a job names: found on the host and put into a container.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "driver/spec/security.h"
#include "driver/values/task_spec.h"

namespace driver {

/// What the job and Nomad's device plugins name, as device nodes for the container; symbolic links of the host are
/// followed, a folder is every device below it. Sorted by path; of two for one path the one that is named last counts.
///   errors  kInvalidArgument: it does not exist, is not a device, or is a folder without devices
base::Result<std::vector<Device>> find_devices(const std::vector<DeviceOption>& wanted,
                                               const std::vector<NomadDevice>& from_nomad);

}  // namespace driver
