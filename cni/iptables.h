// Runs the programs of iptables, which are where a distribution put them: PATH of an agent often lacks /usr/sbin.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/process.h"
#include "base/result.h"

namespace cni {

/// The path of "iptables", "ip6tables-restore" …; nothing if the host has none.
std::optional<std::string> iptables_program(const std::string& name);

/// Runs one, which waits up to 5 s for others that change rules. At most 64 MiB of output.
///   blocks  until ctx ends
///   errors  it cannot be started, or ctx ended; its exit code is the caller's to look at
base::Result<base::RunResult> run_iptables(const base::Context& ctx, const std::string& program,
                                           const std::vector<std::string>& arguments, std::string_view input = "");

}  // namespace cni
