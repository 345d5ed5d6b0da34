#include "cni/rules.h"

#include <set>

#include "base/text.h"
#include "cni/iptables.h"

namespace cni {

namespace {

using base::Context;
using base::Error;
using base::Status;
using base::str;

constexpr std::string_view kAppend = "-A ";
constexpr std::string_view kTarget = " -j CNI-";

Status remove_of_family(const Context& ctx, const std::string& tool, const std::string& network,
                        const std::string& container_id);

}  // namespace

std::string removal_of_rules(std::string_view listed, const std::string& network, const std::string& container_id) {
  const std::string comment = str(R"(name: \")", network, R"(\" id: \")", container_id, R"(\")");
  std::string rules;
  std::set<std::string> chains;
  for (const std::string_view line : base::split(listed, '\n')) {
    if (!line.starts_with("-A POSTROUTING ") || line.find(comment) == std::string_view::npos) continue;
    const std::size_t target = line.rfind(kTarget);
    if (target == std::string_view::npos) continue;
    const std::string_view chain = line.substr(target + std::string_view(" -j ").size());
    if (chain.find_first_of(" \t") != std::string_view::npos) continue;
    rules += str("-D ", line.substr(kAppend.size()), "\n");
    chains.emplace(chain);
  }
  if (rules.empty()) return "";
  for (const std::string& chain : chains) rules += str("-F ", chain, "\n-X ", chain, "\n");
  return str("*nat\n", rules, "COMMIT\n");
}

Status remove_forgotten_rules(const Context& ctx, const std::string& network, const std::string& container_id) {
  Status first;
  for (const char* tool : {"iptables", "ip6tables"}) {
    auto removed = remove_of_family(ctx, tool, network, container_id);
    if (!removed && first) first = std::move(removed);
  }
  return first;
}

namespace {

Status remove_of_family(const Context& ctx, const std::string& tool, const std::string& network,
                        const std::string& container_id) {
  const auto list = iptables_program(tool);
  const auto restore = iptables_program(tool + "-restore");
  if (!list || !restore) return {};
  TRY(const auto listed, run_iptables(ctx, *list, {"-t", "nat", "-S"}));
  if (!listed.exit.success()) return {};  // a kernel without such tables
  const std::string removal = removal_of_rules(listed.stdout_text, network, container_id);
  if (removal.empty()) return {};
  TRY(const auto done, run_iptables(ctx, *restore, {"--noflush"}, removal));
  if (done.exit.success()) return {};
  return Error::failed_precondition(str(*restore, ": removing the rules of container ", container_id, ": ",
                                        base::printable(done.stderr_text.substr(0, 512))));
}

}  // namespace
}  // namespace cni
