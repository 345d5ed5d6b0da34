// What a node lets jobs ask for: the gates of the plugin's configuration, with the profile applied where a gate is not
// set. Asked before anything is pulled or made.
// threads  any; pure
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "driver/image/policy.h"
#include "driver/spec/network.h"
#include "driver/values/options.h"
#include "driver/values/task_spec.h"

namespace driver {

struct Policy {
  bool privileged = true;
  bool host_files = true;
  bool require_seccomp = false;
  bool require_no_new_privileges = false;
  std::set<std::string> modes;                      ///< of pid, ipc, uts, cgroup, network
  std::optional<std::set<std::string>> caps;        ///< normalised names; unset: every one
  std::optional<std::vector<std::string>> devices;  ///< files and folders; unset: every one
  ImagePolicy images;
};

/// The gates in force. A gate that is set wins over the profile.
Policy policy_of(const PluginOptions& options);

/// Whether the node lets this task run.
///   errors  kPermissionDenied naming the option of the job, its value, and the gate that forbids it
base::Status check_policy(const TaskSpec& spec, const NetworkPlan& network, const Policy& policy);

/// The program of the task's runtime, as configured (a path, or a name to look up).
///   errors  kInvalidArgument: no such name, and which there are · kPermissionDenied: not in allow_runtimes
base::Result<std::string> choose_runtime(const std::string& wanted, const PluginOptions& options);

}  // namespace driver
