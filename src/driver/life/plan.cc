#include "driver/life/plan.h"

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "driver/host/programs.h"
#include "driver/life/gates.h"
#include "driver/spec/devices.h"
#include "driver/spec/limits.h"
#include "driver/spec/seccomp_profile.h"
#include "driver/spec/spec.h"
#include "driver/values/words.h"

namespace driver {

namespace {

using base::Error;
using base::Result;
using base::Status;
using base::str;

/// With the allocation's id and ".scope" in one name of a file system.
constexpr std::size_t kTaskNameInCgroupMax = 200;

NetworkPlan::Kind fallback_network(DefaultNetwork network);
Status check_names(const TaskSpec& spec);
template <typename T>
Status failure_of(const Result<T>& result) {
  return result ? Status() : Status(result.error());
}

Result<std::string> load_seccomp_profile(const TaskSpec& spec, const std::set<std::string>& caps,
                                         const HostFacts& host);
Status check_apparmor(const std::string& profile, const HostFacts& host);
Status check_cpu_numbers(const char* option, const std::string& wanted, const char* online_file, const char* what);
Result<std::vector<Device>> all_devices(const TaskSpec& spec);

}  // namespace

Result<StartPlan> plan_start(const TaskSpec& spec, const PluginOptions& options, const HostFacts& host) {
  const Policy policy = policy_of(options);
  StartPlan plan;
  Mistakes wrong;
  wrong.add(check_names(spec));
  wrong.take(plan.network, plan_network(spec, fallback_network(options.default_network)));
  wrong.add(check_policy(spec, plan.network, policy));
  wrong.add(failure_of(choose_runtime(spec.options.runtime, options)));
  plan.allowed_caps = policy.caps;
  const auto caps = resolve_capabilities(spec.options.cap_add, spec.options.cap_drop, host, policy.caps);
  wrong.add(failure_of(caps));
  if (caps) wrong.take(plan.seccomp_profile, load_seccomp_profile(spec, *caps, host));
  wrong.add(check_apparmor(spec.options.apparmor_profile, host));
  wrong.add(check_limits(spec, host));
  wrong.add(check_sysctls(spec.options, plan.network));
  wrong.take(plan.mounts, plan_mounts(spec, policy.host_files ? HostFiles::kYes : HostFiles::kNo));
  wrong.take(plan.pids_limit, effective_pids_limit(spec.options.pids_limit, options.pids_limit));
  if (spec.options.init) wrong.take(plan.init, find_init(options.init_path));
  wrong.take(plan.devices, all_devices(spec));
  TRY_VOID(std::move(wrong).status());
  return plan;
}

Status check_limits(const TaskSpec& spec, const HostFacts& host) {
  Mistakes wrong;
  wrong.add(failure_of(rlimits_json(spec.options, host)));
  wrong.add(failure_of(cpu_json(spec, host, 0)));
  wrong.add(failure_of(memory_json(spec, host)));
  wrong.add(check_cpu_numbers("cpuset_cpus", spec.options.cpuset_cpus, "/sys/devices/system/cpu/online", "core"));
  wrong.add(
      check_cpu_numbers("cpuset_mems", spec.options.cpuset_mems, "/sys/devices/system/node/online", "memory node"));
  return std::move(wrong).status();
}

namespace {

NetworkPlan::Kind fallback_network(DefaultNetwork network) {
  switch (network) {
    case DefaultNetwork::kHost:
      return NetworkPlan::Kind::kHost;
    case DefaultNetwork::kBridge:
      return NetworkPlan::Kind::kOwn;
    case DefaultNetwork::kNone:
      break;
  }
  return NetworkPlan::Kind::kPrivate;
}


// The agent's control group is called after both, as they are. It refuses most of this itself, when a job is submitted.
Status check_names(const TaskSpec& spec) {
  if (spec.resources.cpuset_cgroup.empty()) return {};
  for (const std::string& name : {spec.alloc_id, spec.name}) {
    const bool bad = base::has_control(name) || name.find('/') != std::string::npos;
    if (name.size() <= kTaskNameInCgroupMax && !bad) continue;
    return Error::invalid_argument(str("the name ", show_value(name),
                                       " cannot be a control group's: rename the task, to at most ",
                                       kTaskNameInCgroupMax, " bytes without \"/\" and control characters"));
  }
  return {};
}

Result<std::string> load_seccomp_profile(const TaskSpec& spec, const std::set<std::string>& caps,
                                         const HostFacts& host) {
  const TaskOptions& options = spec.options;
  if (options.seccomp_profile.empty()) return std::string();
  TRY(std::string text, read_seccomp_profile(options.seccomp_profile));
  auto resolved = resolve_seccomp_profile(text, {own_arch(), caps, host.kernel_major, host.kernel_minor});
  if (!resolved) return std::move(resolved).error().wrap(options.seccomp_profile);
  return text;
}

Status check_apparmor(const std::string& profile, const HostFacts& host) {
  if (profile.empty() || profile == "unconfined") return {};
  if (!host.apparmor) {
    return Error::invalid_argument(str("apparmor_profile = \"", profile,
                                       "\" cannot be used: AppArmor is not enabled on this node; leave it out, or use "
                                       "\"unconfined\""));
  }
  constexpr std::size_t kProfilesBytesMax = 4u << 20;
  const auto loaded = base::read_file("/sys/kernel/security/apparmor/profiles", kProfilesBytesMax);
  if (!loaded) return {};  // securityfs is not mounted: the runtime will find out
  if (str("\n", *loaded).find(str("\n", profile, " (")) != std::string::npos) return {};
  return Error::invalid_argument(
      str("apparmor_profile = \"", profile, "\" is not loaded on this node: load it with apparmor_parser"));
}

// The kernel says "numerical result out of range" or "permission denied".
Status check_cpu_numbers(const char* option, const std::string& wanted, const char* online_file, const char* what) {
  constexpr std::size_t kOnlineBytesMax = 64u << 10;
  if (wanted.empty()) return {};
  const auto online = base::read_file(online_file, kOnlineBytesMax);
  if (!online) return {};  // then it is the kernel that knows
  const auto missing = first_not_in(wanted, *online);
  if (!missing) return {};
  return refuse(option, wanted,
                str("names ", what, " ", *missing, ", and this node has ", online->substr(0, online->find('\n'))));
}

Result<std::vector<Device>> all_devices(const TaskSpec& spec) {
  TRY(std::vector<Device> named, find_devices(spec.options.devices, spec.devices));
  if (!spec.options.privileged) return named;
  std::vector<Device> all = host_devices();
  std::erase_if(all, [&](const Device& device) {
    return std::any_of(named.begin(), named.end(), [&](const Device& other) { return other.path == device.path; });
  });
  all.insert(all.end(), named.begin(), named.end());
  return all;
}

}  // namespace
}  // namespace driver
