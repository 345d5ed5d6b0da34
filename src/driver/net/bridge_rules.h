// Masquerading and forwarding for the driver's own network: one set of rules for the subnet, looked at before each
// start. Plugins would make one for each container, which takes some fifty runs of iptables, and leave some behind.
#pragma once

#include <string>
#include <string_view>

#include "base/context.h"
#include "base/result.h"
#include "driver/values/options.h"

namespace driver {

enum class IpFamily { kV4, kV6 };

/// What iptables says of the two chains of the kernel that lead to ours.
struct ListedRules {
  std::string postrouting;  ///< iptables -t nat -S POSTROUTING
  std::string forward;      ///< iptables -t filter -S FORWARD
};

/// Pure. What iptables-restore --noflush has to be told so that the rules are there once and fit the options: what was
/// made for another subnet, or for a firewall that is not wanted any more, goes. Only what leads to our chains is
/// looked at. "" = they are.
std::string missing_rules(const BridgeNetworkOptions& options, IpFamily family, const ListedRules& listed);

/// Makes what is missing, of IPv6 if the network has it. The rules stay, as the bridge itself does.
///   disk    <lock_dir>/.rules.lock, between processes
///   blocks  until ctx ends; 5 ms for each chain, mostly
///   errors  kFailedPrecondition naming the program that is missing or failed · kDeadlineExceeded, kCancelled
base::Status ensure_bridge_rules(const base::Context& ctx, const BridgeNetworkOptions& options, bool ipv6,
                                 const std::string& lock_dir);

/// Whether this host has the program.
bool host_has_iptables();

}  // namespace driver
