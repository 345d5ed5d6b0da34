#include "driver/spec/network.h"

#include <algorithm>

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

Result<NetworkPlan> choose_network(const TaskSpec& spec, NetworkPlan::Kind fallback);
NetworkPlan network_for_ports(const TaskSpec& spec);
const PortMapping* find_port(const TaskSpec& spec, const std::string& label);
bool is_mapped(const PortMapping& port);
Status check_ports(const TaskSpec& spec, const NetworkPlan& plan);

}  // namespace

Result<NetworkPlan> plan_network(const TaskSpec& spec, NetworkPlan::Kind fallback) {
  TRY(NetworkPlan plan, choose_network(spec, fallback));
  TRY_VOID(check_ports(spec, plan));
  return plan;
}

namespace {

Result<NetworkPlan> choose_network(const TaskSpec& spec, NetworkPlan::Kind fallback) {
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
  if (spec.own_network) {
    return NetworkPlan{.kind = NetworkPlan::Kind::kOwn, .netns_path = {}, .note = {}, .own = *spec.own_network};
  }
  if (isolated) return NetworkPlan{.kind = NetworkPlan::Kind::kJoin, .netns_path = spec.network->path};
  if (mode == "bridge") {
    return Error::invalid_argument(
        "network_mode = \"bridge\" needs a network of the group's: write network { mode = \"bridge\" } in the group");
  }
  if (spec.network && spec.network->mode == NetworkMode::kNone) return NetworkPlan{};
  if (mode == "none") return NetworkPlan{};
  if (spec.options.host_network) return NetworkPlan{.kind = NetworkPlan::Kind::kHost, .netns_path = {}};
  if (!spec.ports.empty()) return network_for_ports(spec);
  const auto& sysctl = spec.options.sysctl;
  const auto asks_for_own = [](const auto& entry) { return entry.first.starts_with("net"); };
  const bool own = std::any_of(sysctl.begin(), sysctl.end(), asks_for_own);
  if (fallback == NetworkPlan::Kind::kHost && !own) {
    return NetworkPlan{NetworkPlan::Kind::kHost, {}, "This task is in the host's network (default_network = \"host\")",
                       {}};
  }
  if (fallback == NetworkPlan::Kind::kOwn) {
    return NetworkPlan{.kind = fallback, .netns_path = {}, .note = {}, .own = {}};
  }
  return NetworkPlan{NetworkPlan::Kind::kPrivate,
                     {},
                     "This task has no network but loopback: for one of its own write network { mode = \"bridge\" } in "
                     "the group, for the host's host_network = true in the task",
                     {}};
}

// A group with ports but no namespace of its own is network { mode = "host" }, or one without a mode: a private
// namespace would make its ports unreachable. But a job that has Docker map a port to another one expects not to be in
// the host's, and there nobody would find it at the port that the group was given.
NetworkPlan network_for_ports(const TaskSpec& spec) {
  for (const std::string& label : spec.options.ports) {
    const PortMapping* port = find_port(spec, label);
    if (port == nullptr || !is_mapped(*port)) continue;
    return {
        NetworkPlan::Kind::kPrivate,
        {},
        str("This task has no network but loopback: port \"", label, "\" of its group is to lead from ", port->value,
            " to ", port->to, ", and nothing does that without network { mode = \"bridge\" } in the group"),
        {}};
  }
  if (spec.options.ports.empty()) return {NetworkPlan::Kind::kHost, {}, {}, {}};
  return {NetworkPlan::Kind::kHost,
          {},
          "This task is in the host's network, as its group has ports and no mode of network: for a network of its own "
          "write network { mode = \"bridge\" } in the group",
          {}};
}

const PortMapping* find_port(const TaskSpec& spec, const std::string& label) {
  const auto found =
      std::find_if(spec.ports.begin(), spec.ports.end(), [&](const PortMapping& port) { return port.label == label; });
  return found == spec.ports.end() ? nullptr : &*found;
}

bool is_mapped(const PortMapping& port) {
  return port.to > 0 && port.to != port.value;
}

// Docker's `ports` asks for a mapping; here Nomad has made it, or there is none.
Status check_ports(const TaskSpec& spec, const NetworkPlan& plan) {
  for (const std::string& label : spec.options.ports) {
    const PortMapping* port = find_port(spec, label);
    if (port == nullptr) {
      return Error::invalid_argument(str(
          "ports: \"", label, "\" is not a port of the group's network block: add port \"", label, "\" { … } there"));
    }
    if (plan.kind == NetworkPlan::Kind::kPrivate && plan.note.empty()) {
      return Error::invalid_argument(str("ports: \"", label, "\" cannot be reached with network_mode = \"none\""));
    }
    if (plan.kind == NetworkPlan::Kind::kHost && is_mapped(*port)) {
      return Error::invalid_argument(str("ports: \"", label,
                                         "\" is mapped to another port (`to`), which a task in the host's network "
                                         "cannot have: write network { mode = \"bridge\" } in the group"));
    }
  }
  return {};
}

}  // namespace
}  // namespace driver
