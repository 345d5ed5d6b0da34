#include "cli/doctor/diagnose.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace cli {

using base::str;

namespace {

constexpr int kKernelMajorMin = 5;  // openat2, mount_setattr with id maps, close_range: 5.12
constexpr int kKernelMinorMin = 12;
constexpr std::uint64_t kPercentWarn = 85;  // as image_gc has it: from here images are removed
constexpr std::uint64_t kPercentFail = 98;
constexpr std::uint64_t kTasksMaxWarn = 8192;  // every task has a shim with a dozen threads
constexpr std::size_t kNamedMax = 3;

using Findings = std::vector<Finding>;

Finding ok(const char* check, std::string text);
Finding warn(const char* check, std::string text, std::string remedy);
Finding bad(const char* check, std::string text, std::string remedy);

Finding judge_kernel(const NodeFacts& facts);
Finding judge_cgroups(const NodeFacts& facts);
Finding judge_overlay(const NodeFacts& facts);
Finding judge_user_namespaces(const NodeFacts& facts);
Finding judge_apparmor(const NodeFacts& facts);
Finding judge_program(const ProgramFact& program);
Finding judge_cni(const NodeFacts& facts);
Finding judge_forwarding(const NodeFacts& facts);
Finding judge_disk(const NodeFacts& facts);
Finding judge_store(const NodeFacts& facts);
Finding judge_unit(const UnitFact& unit);
Finding judge_tasks(const NodeFacts& facts);
std::string some_of(const std::vector<std::string>& all);

}  // namespace

std::vector<Finding> diagnose(const NodeFacts& facts) {
  Findings all;
  all.push_back(facts.is_root ? ok("user", "root")
                              : bad("user", "containers are made with root's rights", "run it as root"));
  all.push_back(judge_kernel(facts));
  all.push_back(judge_cgroups(facts));
  all.push_back(judge_overlay(facts));
  all.push_back(judge_user_namespaces(facts));
  all.push_back(facts.seccomp ? ok("seccomp", "filters are there")
                              : warn("seccomp", "the kernel has no seccomp filters",
                                     "use a kernel with CONFIG_SECCOMP_FILTER; until then no task has a filter"));
  all.push_back(judge_apparmor(facts));
  for (const ProgramFact& program : facts.programs) all.push_back(judge_program(program));
  all.push_back(judge_cni(facts));
  all.push_back(judge_forwarding(facts));
  all.push_back(facts.bridge_netfilter
                    ? ok("br_netfilter", "loaded")
                    : warn("br_netfilter",
                           "not loaded: rules of the host do not see what goes from one container of a "
                           "bridge to another",
                           "modprobe br_netfilter, and name it in /etc/modules-load.d"));
  all.push_back(judge_disk(facts));
  all.push_back(judge_store(facts));
  all.push_back(facts.hosts_problems.empty()
                    ? ok("hosts.toml", "every file can be read")
                    : bad("hosts.toml", some_of(facts.hosts_problems), "correct or remove the file"));
  if (facts.unit) all.push_back(judge_unit(*facts.unit));
  all.push_back(judge_tasks(facts));
  all.push_back(!facts.leftovers_problem.empty()
                    ? warn("leftovers", facts.leftovers_problem, "see that data_dir and state_dir can be read")
                : facts.leftovers.empty()
                    ? ok("leftovers", "none")
                    : warn("leftovers", some_of(facts.leftovers),
                           "the plugin removes them when the agent starts it, `containerd-driver gc` those of images"));
  return all;
}

const char* name_of(Verdict verdict) {
  return verdict == Verdict::kOk ? "OK" : verdict == Verdict::kWarn ? "WARN" : "FAIL";
}

namespace {

Finding ok(const char* check, std::string text) {
  return {Verdict::kOk, check, std::move(text), ""};
}
Finding warn(const char* check, std::string text, std::string remedy) {
  return {Verdict::kWarn, check, std::move(text), std::move(remedy)};
}
Finding bad(const char* check, std::string text, std::string remedy) {
  return {Verdict::kFail, check, std::move(text), std::move(remedy)};
}

Finding judge_kernel(const NodeFacts& facts) {
  int major = 0;
  int minor = 0;
  if (std::sscanf(facts.kernel.c_str(), "%d.%d", &major, &minor) != 2) {
    return warn("kernel", str("its version \"", facts.kernel, "\" is not understood"), "use Linux 5.12 or later");
  }
  const bool is_new = major > kKernelMajorMin || (major == kKernelMajorMin && minor >= kKernelMinorMin);
  if (is_new) return ok("kernel", facts.kernel);
  return bad("kernel", str(facts.kernel, " is too old"), "use Linux 5.12 or later");
}

Finding judge_cgroups(const NodeFacts& facts) {
  if (facts.cgroup_mode.empty()) {
    return bad("cgroups", "none are mounted below /sys/fs/cgroup", "mount them: systemd does, or cgroupfs-mount");
  }
  std::string missing;
  for (const char* controller : {"cpu", "memory", "pids", "cpuset"}) {
    if (!facts.controllers.contains(controller)) missing += str(missing.empty() ? "" : ", ", controller);
  }
  if (missing.empty()) return ok("cgroups", str(facts.cgroup_mode, ", with cpu, memory, pids and cpuset"));
  return bad("cgroups", str(facts.cgroup_mode, ", without ", missing),
             "enable them on the kernel's command line (cgroup_enable=memory), or in the parent's subtree_control");
}

Finding judge_overlay(const NodeFacts& facts) {
  if (!facts.overlay) return warn("overlay", "/proc/filesystems cannot be read", "mount /proc");
  if (*facts.overlay) return ok("overlay", "the kernel has it");
  if (facts.overlay_module) return ok("overlay", "the kernel loads its module at the first start");
  return bad("overlay", "the kernel does not have it", "modprobe overlay, and name it in /etc/modules-load.d");
}

Finding judge_user_namespaces(const NodeFacts& facts) {
  if (facts.user_namespaces_max.value_or(0) > 0) return ok("user namespaces", "allowed");
  return warn("user namespaces", "not allowed", "sysctl user.max_user_namespaces=10000, if tasks are to have them");
}

Finding judge_apparmor(const NodeFacts& facts) {
  if (!facts.apparmor) return ok("apparmor", "not enabled on this node");
  if (facts.apparmor_parser) return ok("apparmor", "enabled");
  return warn("apparmor", "enabled, and there is no apparmor_parser to load a profile with",
              "apt-get install apparmor");
}

Finding judge_program(const ProgramFact& program) {
  const std::string name = str(program.what, " ", program.path);
  if (program.path.empty()) {
    return bad(program.what.c_str(), program.problem,
               str("install it, or name it with the plugin's option ", program.option));
  }
  if (!program.writable_by_others.empty()) {
    return bad(program.what.c_str(),
               str(program.path, ": somebody else than root can change ", program.writable_by_others, " (",
                   program.owner_and_mode, ")"),
               str("chown root ", program.writable_by_others, " && chmod go-w ", program.writable_by_others));
  }
  if (program.is_slow) {
    return warn(program.what.c_str(), str(program.path, " did not answer in time"),
                "look again when the node is calmer");
  }
  if (!program.problem.empty()) {
    return bad(program.what.c_str(), str(program.path, ": ", program.problem), "install it anew");
  }
  return ok(program.what.c_str(),
            str(program.path, program.version.empty() ? "" : ", ", program.version, " (", program.owner_and_mode, ")"));
}

Finding judge_cni(const NodeFacts& facts) {
  if (facts.cni_missing.empty() && facts.iptables) return ok("cni", "the plugins of the bridge and iptables are there");
  if (facts.cni_missing.empty()) {
    return warn("cni", "there is no iptables", "apt-get install iptables, if tasks are to have a bridge");
  }
  return warn("cni", str("not in ", facts.cni_path, ": ", some_of(facts.cni_missing)),
              "apt-get install containernetworking-plugins, if tasks are to have a bridge");
}

Finding judge_forwarding(const NodeFacts& facts) {
  if (!facts.ip_forward) return warn("ip_forward", "/proc/sys/net/ipv4/ip_forward cannot be read", "mount /proc");
  if (*facts.ip_forward) return ok("ip_forward", "on");
  return warn("ip_forward", "off: containers of a bridge reach nothing beyond this node",
              "sysctl net.ipv4.ip_forward=1, and write it into /etc/sysctl.d");
}

std::uint64_t percent(std::uint64_t total, std::uint64_t free) {
  return total == 0 ? 0 : (total - std::min(total, free)) * 100 / total;
}

Finding judge_disk(const NodeFacts& facts) {
  if (!facts.disk) return bad("disk", facts.disk_problem, "see that data_dir can be read");
  const std::uint64_t bytes = percent(facts.disk->bytes_total, facts.disk->bytes_free);
  const std::uint64_t inodes = percent(facts.disk->inodes_total, facts.disk->inodes_free);
  const std::string text =
      str(facts.data_dir, ": ", bytes, "% of the bytes and ", inodes, "% of the inodes are in use");
  const std::uint64_t most = std::max(bytes, inodes);
  if (most < kPercentWarn) return ok("disk", text);
  const char* const remedy = "containerd-driver gc --all, or give data_dir a larger disk";
  return most < kPercentFail ? warn("disk", text, remedy) : bad("disk", text, remedy);
}

Finding judge_store(const NodeFacts& facts) {
  if (!facts.store_problem.empty()) {
    return bad("images", facts.store_problem, "containerd-driver fsck --repair");
  }
  if (facts.damaged_images.empty()) return ok("images", str(facts.images, " in the store"));
  return warn("images", some_of(facts.damaged_images), "containerd-driver fsck --repair --pull");
}

Finding judge_unit(const UnitFact& unit) {
  if (unit.kill_mode != "process" && unit.kill_mode != "none") {
    return bad(
        "agent's unit",
        str(unit.name, " has KillMode=", unit.kill_mode, ": a restart of the agent would kill the plugin's children"),
        str("systemctl edit ", unit.name, ": [Service] KillMode=process"));
  }
  if (unit.delegate != "yes") {
    return warn("agent's unit",
                str(unit.name, " has Delegate=", unit.delegate, ": systemd may change the cgroups of tasks"),
                str("systemctl edit ", unit.name, ": [Service] Delegate=yes"));
  }
  unsigned long long most = 0;
  const bool is_number = std::sscanf(unit.tasks_max.c_str(), "%llu", &most) == 1;
  if (is_number && most < kTasksMaxWarn) {
    return warn("agent's unit", str(unit.name, " has TasksMax=", unit.tasks_max, ", which many tasks exceed"),
                str("systemctl edit ", unit.name, ": [Service] TasksMax=infinity"));
  }
  return ok("agent's unit", unit.name);
}

Finding judge_tasks(const NodeFacts& facts) {
  if (!facts.tasks_problem.empty()) return bad("tasks", facts.tasks_problem, "see that data_dir can be read");
  if (facts.unreadable_records.empty()) return ok("tasks", "every record can be read");
  return warn("tasks", some_of(facts.unreadable_records),
              "nothing of such a task is touched: correct what the message says, or `containerd-driver rm` it");
}

std::string some_of(const std::vector<std::string>& all) {
  std::string out;
  for (std::size_t i = 0; i < std::min(all.size(), kNamedMax); ++i) out += str(i == 0 ? "" : "; ", all[i]);
  if (all.size() > kNamedMax) out += str("; and ", all.size() - kNamedMax, " more");
  return out;
}

}  // namespace
}  // namespace cli
