// Which network namespace a task lives in. CNI for Nomad's groups is run by the agent; we join what it made.
#pragma once

#include <string>

#include "base/result.h"
#include "driver/values/task_spec.h"

namespace driver {

struct NetworkPlan {
  enum class Kind {
    kHost,     ///< the host's
    kJoin,     ///< the namespace file at `netns_path`, made by the agent for the allocation
    kPrivate,  ///< one of its own with nothing but lo
    kOwn,      ///< one that the driver makes and attaches to the network `own`
  };
  Kind kind = Kind::kPrivate;
  std::string netns_path;
  std::string note = {};  ///< what a job's author may not expect of it, "" = nothing
  OwnNetwork own = {};
};

/// Pure. An agent says nothing of a group's network that has no namespace: one without `mode`, one with mode = "host"
/// and none at all look alike, but for the ports of it. So a task that asks for nothing itself gets `fallback`;
/// private, unless the operator wants otherwise, as in the Go driver: jobs set net.* sysctls there.
///   errors  kInvalidArgument: host_network, network_mode or ports contradict the group's network
base::Result<NetworkPlan> plan_network(const TaskSpec& spec, NetworkPlan::Kind fallback = NetworkPlan::Kind::kPrivate);

}  // namespace driver
