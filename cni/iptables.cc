#include "cni/iptables.h"

#include <unistd.h>

namespace cni {

namespace {

constexpr std::size_t kRulesBytesMax = 64u << 20;  // a node with thousands of containers
constexpr const char* kLockSeconds = "5";          // others change rules, too

}  // namespace

std::optional<std::string> iptables_program(const std::string& name) {
  for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/usr/local/sbin/"}) {
    const std::string path = folder + name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return std::nullopt;
}

base::Result<base::RunResult> run_iptables(const base::Context& ctx, const std::string& program,
                                           const std::vector<std::string>& arguments, std::string_view input) {
  base::SpawnOptions options;
  options.argv = {program, "-w", kLockSeconds};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  options.new_process_group = true;
  return base::run(ctx, options, input, kRulesBytesMax);
}

}  // namespace cni
