#include "driver/net/bridge_rules.h"

#include <vector>

#include "base/fd.h"
#include "base/text.h"
#include "cni/iptables.h"
#include "cni/lock.h"

namespace driver {

namespace {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kStderrShown = 512;

/// A chain of ours, and the rule of the kernel's chain that leads to it. It carries all that the chain was made from,
/// so that the rules of other options are told from these.
struct Chain {
  std::string table;   ///< "nat"
  std::string parent;  ///< "POSTROUTING"
  std::string name;
  std::vector<std::string> rules;
  bool first = false;  ///< before what the host has in `parent`, or behind it
  bool wanted = true;
};

std::string update_of(const Chain& chain, const std::string& subnet, std::string_view listed);
Chain masquerade(const BridgeNetworkOptions& options, IpFamily family);
Chain forward(const BridgeNetworkOptions& options, IpFamily family);
const std::string& subnet_of(const BridgeNetworkOptions& options, IpFamily family);
Status ensure_family(const Context& ctx, const BridgeNetworkOptions& options, IpFamily family,
                     const std::string& lock_dir);
Result<ListedRules> list_rules(const Context& ctx, const std::string& tool);
Result<std::string> output_of(const Context& ctx, const std::string& tool, const std::vector<std::string>& arguments,
                              std::string_view input = "");

}  // namespace

std::string missing_rules(const BridgeNetworkOptions& options, IpFamily family, const ListedRules& listed) {
  const std::string& subnet = subnet_of(options, family);
  return update_of(masquerade(options, family), subnet, listed.postrouting) +
         update_of(forward(options, family), subnet, listed.forward);
}

Status ensure_bridge_rules(const Context& ctx, const BridgeNetworkOptions& options, bool ipv6,
                           const std::string& lock_dir) {
  TRY_VOID(ensure_family(ctx, options, IpFamily::kV4, lock_dir));
  if (ipv6 && !options.subnet_v6.empty()) TRY_VOID(ensure_family(ctx, options, IpFamily::kV6, lock_dir));
  return {};
}

bool host_has_iptables() {
  return cni::iptables_program("iptables").has_value();
}

namespace {

std::string update_of(const Chain& chain, const std::string& subnet, std::string_view listed) {
  const std::string jump =
      str(chain.parent, " -m comment --comment \"containerd-driver: ", subnet, "\" -j ", chain.name);
  const std::string target = str(" -j ", chain.name);
  std::string stale;
  int found = 0;
  for (const std::string_view line : base::split(listed, '\n')) {
    if (!line.starts_with("-A ") || !line.ends_with(target)) continue;
    const std::string_view rule = line.substr(3);
    if (chain.wanted && rule == jump && ++found == 1) continue;
    stale += str("-D ", rule, "\n");
  }
  if (stale.empty() && (found == 1 || !chain.wanted)) return "";
  std::string update = str("*", chain.table, "\n:", chain.name, " - [0:0]\n");
  for (const std::string& rule : chain.rules) update += str("-A ", chain.name, " ", rule, "\n");
  update += stale;
  if (found == 0 && chain.wanted) update += str(chain.first ? "-I " : "-A ", jump, "\n");
  return str(update, "COMMIT\n");
}

// What leaves the subnet has the host's address; what stays in it keeps its own.
Chain masquerade(const BridgeNetworkOptions& options, IpFamily family) {
  const std::string& subnet = subnet_of(options, family);
  const char* const multicast = family == IpFamily::kV4 ? "224.0.0.0/4" : "ff00::/8";
  return {"nat",
          "POSTROUTING",
          "CD-NAT-" + options.name,
          {str("! -s ", subnet, " -j RETURN"), str("-d ", subnet, " -j RETURN"), str("-d ", multicast, " -j RETURN"),
           "-j MASQUERADE"}};
}

// On hosts that forward nothing else (Docker's, firewalld's): out of the subnet, answers into it, published ports.
Chain forward(const BridgeNetworkOptions& options, IpFamily family) {
  const std::string& subnet = subnet_of(options, family);
  return {"filter",
          "FORWARD",
          "CD-FORWARD-" + options.name,
          {str("-o ", options.name, " -d ", subnet, " -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"),
           str("-i ", options.name, " -s ", subnet, " -j ACCEPT")},
          true,
          options.firewall};
}

const std::string& subnet_of(const BridgeNetworkOptions& options, IpFamily family) {
  return family == IpFamily::kV4 ? options.subnet : options.subnet_v6;
}

Status ensure_family(const Context& ctx, const BridgeNetworkOptions& options, IpFamily family,
                     const std::string& lock_dir) {
  const std::string tool = family == IpFamily::kV4 ? "iptables" : "ip6tables";
  TRY(const ListedRules seen, list_rules(ctx, tool));
  if (missing_rules(options, family, seen).empty()) return {};
  // Who is first makes them; the others find them made.
  TRY(const base::Fd lock, cni::lock_name(ctx, lock_dir + "/.rules.lock", options.name, cni::Share::kExclusive));
  TRY(const ListedRules listed, list_rules(ctx, tool));
  const std::string update = missing_rules(options, family, listed);
  if (update.empty()) return {};
  TRY_VOID(output_of(ctx, tool + "-restore", {"--noflush"}, update));
  return {};
}

Result<ListedRules> list_rules(const Context& ctx, const std::string& tool) {
  ListedRules listed;
  TRY(listed.postrouting, output_of(ctx, tool, {"-t", "nat", "-S", "POSTROUTING"}));
  TRY(listed.forward, output_of(ctx, tool, {"-t", "filter", "-S", "FORWARD"}));
  return listed;
}

Result<std::string> output_of(const Context& ctx, const std::string& tool, const std::vector<std::string>& arguments,
                              std::string_view input) {
  const auto program = cni::iptables_program(tool);
  if (!program) {
    return Error::failed_precondition(
        str("the driver's bridge network needs ", tool, ", which this host does not have: install iptables"));
  }
  TRY(auto ran, cni::run_iptables(ctx, *program, arguments, input));
  if (ran.exit.success()) return std::move(ran.stdout_text);
  const char* const remedy =
      tool.starts_with("ip6") ? ": a kernel that cannot translate IPv6 needs bridge_network { subnet_v6 = \"\" }" : "";
  // iptables begins with warnings ("# …") where the host uses both of its kinds.
  std::string_view told;
  for (const std::string_view line : base::split(ran.stderr_text, '\n')) {
    if (told.empty() && !line.starts_with('#')) told = line.substr(0, kStderrShown);
  }
  return Error::failed_precondition(str(*program, ": ", base::printable(told), remedy));
}

}  // namespace
}  // namespace driver
