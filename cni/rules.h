// Rules that plugins forget: bridge and ptp find what they have masqueraded by the addresses of the interface, and
// leave the rules where that is gone before its DEL. They carry the container's id in their comments.
#pragma once

#include <string>
#include <string_view>

#include "base/context.h"
#include "base/result.h"

namespace cni {

/// Pure. What iptables-restore has to be told to remove the rules of a container, and the chains that they lead to,
/// from `listed`, the output of `iptables -t nat -S`. "" = there are none.
std::string removal_of_rules(std::string_view listed, const std::string& network, const std::string& container_id);

/// Removes them, of IPv4 and IPv6. A host without iptables has none.
///   blocks  until ctx ends
///   errors  iptables' own, when there are rules and they cannot be removed
base::Status remove_forgotten_rules(const base::Context& ctx, const std::string& network,
                                    const std::string& container_id);

}  // namespace cni
