// `--publish` and how published ports are shown. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/values/task_spec.h"

namespace cli {

inline constexpr std::size_t kPortsMax = 1000;  ///< of one container: each is a few rules of the host

/// "[[IP:][HOST]:]CONTAINER[/tcp|udp|sctp]", in which both numbers may be ranges of the same length. Without a number
/// of the host it is any that is free. An IPv6 address stands in brackets.
///   errors  kInvalidArgument naming the flag's value
base::Result<std::vector<driver::PublishedPort>> parse_ports(const std::vector<std::string>& values);

}  // namespace cli
