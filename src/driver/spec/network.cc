#include "driver/spec/network.h"

#include <algorithm>

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

Result<NetworkPlan> choose_network(const TaskSpec& spec);
Status check_ports(const TaskSpec& spec, const NetworkPlan& plan);

}  // namespace

Result<NetworkPlan> plan_network(const TaskSpec& spec) {
  TRY(NetworkPlan plan, choose_network(spec));
  TRY_VOID(check_ports(spec, plan));
  return plan;
}

namespace {

Result<NetworkPlan> choose_network(const TaskSpec& spec) {
  const std::string& mode = spec.options.network_mode;
  const bool isolated = spec.network &&
                        (spec.network->mode == NetworkMode::kGroup || spec.network->mode == NetworkMode::kTask) &&
                        !spec.network->path.empty();
  if (isolated && spec.options.host_network) {
    return Error::invalid_argument(
        "host_network and bridge network mode are mutually exclusive, and only one of them should be set");
  }
  if (isolated && mode == "none") {
    return Error::invalid_argument(
        "network_mode = \"none\" contradicts the group's network block: leave one of them out");
  }
  if (isolated) return NetworkPlan{NetworkPlan::Kind::kJoin, spec.network->path};
  if (mode == "bridge") {
    return Error::invalid_argument(
        "network_mode = \"bridge\" needs a network of the group's: write network { mode = \"bridge\" } in the group");
  }
  if (spec.network && spec.network->mode == NetworkMode::kNone) return NetworkPlan{};
  // A group with ports but no namespace of its own is network { mode = "host" }: a private namespace would make its
  // ports unreachable.
  if (mode != "none" && (spec.options.host_network || !spec.ports.empty())) {
    return NetworkPlan{NetworkPlan::Kind::kHost, ""};
  }
  return NetworkPlan{};
}

// Docker's `ports` asks for a mapping; here Nomad has made it, or there is none.
Status check_ports(const TaskSpec& spec, const NetworkPlan& plan) {
  for (const std::string& label : spec.options.ports) {
    if (std::none_of(spec.ports.begin(), spec.ports.end(), [&](const PortMapping& p) { return p.label == label; })) {
      return Error::invalid_argument(str(
          "ports: \"", label, "\" is not a port of the group's network block: add port \"", label, "\" { … } there"));
    }
    if (plan.kind == NetworkPlan::Kind::kPrivate) {
      return Error::invalid_argument(str("ports: \"", label, "\" cannot be reached with network_mode = \"none\""));
    }
    const auto mapped = [&](const PortMapping& p) { return p.label == label && p.to > 0 && p.to != p.value; };
    if (plan.kind == NetworkPlan::Kind::kHost && std::any_of(spec.ports.begin(), spec.ports.end(), mapped)) {
      return Error::invalid_argument(str("ports: \"", label,
                                         "\" is mapped to another port (`to`), which a task in the host's network "
                                         "cannot have: write network { mode = \"bridge\" } in the group"));
    }
  }
  return {};
}

}  // namespace
}  // namespace driver
