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

Status check_names(const TaskSpec& spec);
Result<std::string> load_seccomp_profile(const TaskSpec& spec, const StartPlan& plan, const HostFacts& host);
Status check_apparmor(const std::string& profile, const HostFacts& host);
Status check_limits(const TaskSpec& spec, const HostFacts& host);
Result<std::vector<Device>> all_devices(const TaskSpec& spec);

}  // namespace

Result<StartPlan> plan_start(const TaskSpec& spec, const PluginOptions& options, const HostFacts& host) {
  const Policy policy = policy_of(options);
  StartPlan plan;
  TRY_VOID(check_names(spec));
  TRY(plan.network, plan_network(spec));
  TRY_VOID(check_policy(spec, plan.network, policy));
  TRY_VOID(choose_runtime(spec.options.runtime, options));
  plan.allowed_caps = policy.caps;
  TRY_VOID(resolve_capabilities(spec.options.cap_add, spec.options.cap_drop, host, policy.caps));
  TRY(plan.seccomp_profile, load_seccomp_profile(spec, plan, host));
  TRY_VOID(check_apparmor(spec.options.apparmor_profile, host));
  TRY_VOID(check_limits(spec, host));
  TRY_VOID(check_sysctls(spec.options, plan.network));
  TRY(plan.mounts, plan_mounts(spec, policy.host_files ? HostFiles::kYes : HostFiles::kNo));
  TRY(plan.pids_limit, effective_pids_limit(spec.options.pids_limit, options.pids_limit));
  if (spec.options.init) {
    TRY(plan.init, find_init(options.init_path));
  }
  TRY(plan.devices, all_devices(spec));
  return plan;
}

namespace {

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

Result<std::string> load_seccomp_profile(const TaskSpec& spec, const StartPlan& plan, const HostFacts& host) {
  const TaskOptions& options = spec.options;
  if (options.seccomp_profile.empty()) return std::string();
  TRY(std::string text, read_seccomp_profile(options.seccomp_profile));
  TRY(const auto caps, resolve_capabilities(options.cap_add, options.cap_drop, host, plan.allowed_caps));
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

Status check_limits(const TaskSpec& spec, const HostFacts& host) {
  TRY_VOID(rlimits_json(spec.options, host));
  TRY_VOID(cpu_json(spec, host, 0));
  TRY_VOID(memory_json(spec, host));
  return {};
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
