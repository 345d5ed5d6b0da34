// Ports of the host: whether they are free, and which, where anyone will do.
#pragma once

#include <vector>

#include "base/result.h"
#include "driver/values/task_spec.h"

namespace driver {

/// Checks that nobody has the wanted ports, neither a process of the host nor one of `taken`, and picks those that are
/// 0. What is free now may be taken the next moment by a process of the host; containers are kept apart by the caller.
///   errors  kInvalidArgument two of them are the same · kFailedPrecondition taken, or the address is not this host's;
///           the port is named · by errno
base::Result<std::vector<PublishedPort>> settle_ports(std::vector<PublishedPort> wanted,
                                                      const std::vector<PublishedPort>& taken);

/// "0.0.0.0:8080", "[::1]:8080". Pure.
std::string show_host_address(const PublishedPort& port);
/// "127.0.0.1:8080/tcp", with "0.0.0.0" for every address.
std::string show_host_port(const PublishedPort& port);

}  // namespace driver
