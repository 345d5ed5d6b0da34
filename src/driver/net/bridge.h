// The driver's own network, for tasks that have none of an agent: its configuration list, and whether it fits the host.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "driver/values/options.h"

namespace driver {

/// Pure. Of 0.4.0, which every plugin since 2019 speaks. Plugins that have nothing to do are left out, for each costs:
/// portmap without ports. Masquerading and forwarding are the network's own (bridge_rules.h).
std::string bridge_conflist(const BridgeNetworkOptions& options, bool ipv6, bool ports);

/// Pure. Whether the subnet overlaps with a route in `routes`, the text of /proc/net/route, that is not the bridge's
/// own; a default route is none.
///   errors  kFailedPrecondition naming the route, its interface and the option to change
base::Status check_routes(const BridgeNetworkOptions& options, std::string_view routes);

/// The same with the routes of this host.
base::Status check_host_routes(const BridgeNetworkOptions& options);

/// Whether this kernel has IPv6.
bool host_has_ipv6();

}  // namespace driver
