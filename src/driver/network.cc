#include "driver/network.h"

namespace driver {

base::Result<NetworkPlan> plan_network(const TaskSpec& spec) {
  const bool isolated = spec.network &&
                        (spec.network->mode == NetworkMode::kGroup || spec.network->mode == NetworkMode::kTask) &&
                        !spec.network->path.empty();
  if (isolated && spec.options.host_network) {
    return base::Error::invalid_argument(
        "host_network and bridge network mode are mutually exclusive, and only one of them should be set");
  }
  if (isolated) return NetworkPlan{NetworkPlan::Kind::kJoin, spec.network->path};
  if (spec.network && spec.network->mode == NetworkMode::kNone) return NetworkPlan{};
  // A group with ports but no namespace of its own is network { mode = "host" }: a private namespace would make its
  // ports unreachable.
  if (spec.options.host_network || !spec.ports.empty()) return NetworkPlan{NetworkPlan::Kind::kHost, ""};
  return NetworkPlan{};
}

}  // namespace driver
