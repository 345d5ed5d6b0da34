// What a start knows before it has an image: everything that only needs the job, the node's configuration and the node.
// All that the job says wrong in itself, and all that the node does not allow, is found here.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "driver/files/mounts.h"
#include "driver/spec/network.h"
#include "driver/spec/security.h"
#include "driver/values/options.h"
#include "driver/values/task_spec.h"

namespace driver {

struct StartPlan {
  NetworkPlan network;
  std::vector<Mount> mounts;
  std::vector<Device> devices;  ///< the job's, those of Nomad's device plugins, and for privileged tasks the host's
  std::string seccomp_profile;  ///< the text of the job's own profile; "" = the default one
  std::optional<std::set<std::string>> allowed_caps;
  std::int64_t pids_limit = 0;  ///< 0 = none
  std::string init;             ///< the program for `init = true`, else ""
};

/// Looks at the files and devices of the node that the job names; makes nothing.
///   errors  kPermissionDenied: the node's gates · kInvalidArgument: the job contradicts itself or the node
base::Result<StartPlan> plan_start(const TaskSpec& spec, const PluginOptions& options, const HostFacts& host);

/// Of these the limits of memory, CPUs and setrlimit(2) alone.
///   errors  kInvalidArgument
base::Status check_limits(const TaskSpec& spec, const HostFacts& host);

}  // namespace driver
