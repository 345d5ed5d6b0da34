// What a task's network namespace looks like from inside: for /etc/hosts.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace driver {

struct NetnsFacts {
  std::string address;  ///< the first of an interface other than lo, IPv4 if there is one; "" = none
  std::string gateway;  ///< of the default route: how the host is reached; "" = none
};

/// Looks into the namespace at `path` from a thread of its own, which ends with this call.
///   errors  kNotFound and others by errno, naming the path
base::Result<NetnsFacts> look_into_netns(const std::string& path);

/// Pure: the default gateway that the texts of /proc/net/route and /proc/net/ipv6_route name, IPv4 first; "" if none.
std::string default_gateway(std::string_view route, std::string_view ipv6_route);

}  // namespace driver
