#include "driver/life/gates.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "driver/image/archive.h"
#include "driver/spec/security.h"
#include "driver/values/words.h"

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

const std::set<std::string> kAllModes = {"pid", "ipc", "uts", "cgroup", "network"};

std::optional<std::set<std::string>> allowed_caps(const PluginOptions& options, bool hardened);
std::set<std::string> allowed_modes(const PluginOptions& options, bool hardened, bool privileged);
Status check_modes(const TaskOptions& options, const NetworkPlan& network, const Policy& policy);
Status check_filters(const TaskOptions& options, const Policy& policy);
Status check_host_files(const TaskOptions& options, const Policy& policy);
Status check_devices(const TaskOptions& options, const Policy& policy);
std::string list_of(const std::set<std::string>& names);

}  // namespace

Policy policy_of(const PluginOptions& options) {
  const bool hardened = options.profile == "hardened";
  Policy policy;
  policy.privileged = options.allow_privileged.value_or(!hardened);
  policy.host_files = options.volumes.enabled.value_or(!hardened);
  policy.require_seccomp = options.require_seccomp.value_or(hardened);
  policy.require_no_new_privileges = options.require_no_new_privileges.value_or(hardened);
  policy.modes = allowed_modes(options, hardened, policy.privileged);
  policy.caps = allowed_caps(options, hardened);
  policy.devices = options.allow_devices;
  if (!policy.devices && hardened) policy.devices.emplace();
  // Not the profile's to say: which registries are trusted only the operator knows.
  policy.images = {options.allowed_registries, options.require_digest};
  return policy;
}

Status check_policy(const TaskSpec& spec, const NetworkPlan& network, const Policy& policy) {
  const TaskOptions& options = spec.options;
  Mistakes wrong;
  if (options.privileged && !policy.privileged) {
    wrong.add(Error::permission_denied(
        "Running privileged jobs are not allowed. Set allow_privileged to true in plugin config to allow running "
        "privileged jobs."));
  }
  wrong.add(check_image(options.image, policy.images));
  wrong.add(check_modes(options, network, policy));
  wrong.add(check_filters(options, policy));
  wrong.add(check_host_files(options, policy));
  wrong.add(check_devices(options, policy));
  return std::move(wrong).status();
}

Result<std::string> choose_runtime(const std::string& wanted, const PluginOptions& options) {
  const std::string fallback = std::filesystem::path(options.runtime_binary).filename();
  // The Go driver's agents and other drivers' jobs name the default by the type of its shim.
  const std::string name = wanted.empty() || wanted == "io.containerd.runc.v2" ? fallback : wanted;
  std::map<std::string, std::string> known = {{"runc", "runc"}};
  known[fallback] = options.runtime_binary;
  for (const auto& [key, program] : options.runtimes) known[key] = program;
  if (wanted.empty()) return options.runtime_binary;
  const auto found = known.find(name);
  if (found == known.end()) {
    std::set<std::string> names;
    for (const auto& [key, program] : known) names.insert(key);
    return refuse("runtime", wanted,
                  str("is not known on this node: use one of ", list_of(names),
                      ", or name its program in runtimes of the plugin's configuration"));
  }
  if (options.allow_runtimes && std::count(options.allow_runtimes->begin(), options.allow_runtimes->end(), name) == 0) {
    return Error::permission_denied(str("runtime = ", hcl_quote(wanted),
                                        " is not allowed on this node: add it to allow_runtimes in the plugin's "
                                        "configuration, or leave runtime out"));
  }
  return found->second;
}

namespace {

std::optional<std::set<std::string>> allowed_caps(const PluginOptions& options, bool hardened) {
  if (!options.allow_caps) return hardened ? std::optional(default_capabilities()) : std::nullopt;
  std::set<std::string> names;
  for (const std::string& name : *options.allow_caps) {
    // Checked when the configuration was decoded.
    if (const auto normal = normalize_capability(name)) names.insert(*normal);
  }
  if (names.contains("ALL")) return std::nullopt;
  return names;
}

// Who may not be privileged must not get the same by way of the host's processes.
std::set<std::string> allowed_modes(const PluginOptions& options, bool hardened, bool privileged) {
  if (options.allowed_modes) {
    std::set<std::string> modes(options.allowed_modes->begin(), options.allowed_modes->end());
    modes.erase("none");
    return modes;
  }
  if (hardened) return {};
  return privileged ? kAllModes : std::set<std::string>{"network"};
}

Status check_modes(const TaskOptions& options, const NetworkPlan& network, const Policy& policy) {
  Mistakes wrong;
  const auto check = [&](bool wanted, const char* mode, const char* option) {
    if (!wanted || policy.modes.contains(mode)) return;
    wrong.add(Error::permission_denied(str(option, " would put the task into the host's ", mode,
                                           " namespace, which this node does not allow: leave it out, or add \"", mode,
                                           "\" to allowed_modes in the plugin's configuration")));
  };
  check(options.host_pid, "pid", "pid_mode = \"host\"");
  check(options.host_ipc, "ipc", "ipc_mode = \"host\"");
  check(options.host_uts, "uts", "uts_mode = \"host\"");
  check(options.host_cgroup, "cgroup", "cgroupns = \"host\"");
  const bool host_network = network.kind == NetworkPlan::Kind::kHost;
  check(host_network, "network", options.host_network ? "host_network = true" : "network { mode = \"host\" }");
  return std::move(wrong).status();
}

Status check_filters(const TaskOptions& options, const Policy& policy) {
  if (policy.require_seccomp && (!options.seccomp || !options.seccomp_profile.empty())) {
    const std::string what = options.seccomp ? str("seccomp_profile = ", hcl_quote(options.seccomp_profile))
                                             : std::string("seccomp = false");
    return Error::permission_denied(str(what,
                                        " is not allowed: this node requires the default seccomp profile "
                                        "(require_seccomp); leave the option out"));
  }
  if (policy.require_no_new_privileges && options.no_new_privileges == false) {
    return Error::permission_denied(
        "no_new_privileges = false is not allowed: this node requires it (require_no_new_privileges); leave the option "
        "out");
  }
  return {};
}

// Relative sources are looked up inside of the task's own folders, wherever links in them point (mounts.cc).
Status check_host_files(const TaskOptions& options, const Policy& policy) {
  if (policy.host_files) return {};
  if (const auto archive = archive_source(options.image); archive && archive->path.starts_with('/')) {
    return Error::permission_denied(str("image archive ", hcl_quote(archive->path),
                                        " is outside of the allocation, which this node does not allow "
                                        "(volumes.enabled): fetch it into local/ with an artifact block, or use an "
                                        "image from a registry"));
  }
  for (const MountOption& mount : options.mounts) {
    if (mount.type == "tmpfs" || !mount.source.starts_with('/')) continue;
    return Error::permission_denied(str("mount source ", hcl_quote(mount.source),
                                        " is outside of the allocation, which this node does not allow "
                                        "(volumes.enabled): use local/, secrets/ or alloc/, or a volume of Nomad"));
  }
  return {};
}

Status check_devices(const TaskOptions& options, const Policy& policy) {
  if (!policy.devices) return {};
  for (const DeviceOption& device : options.devices) {
    const std::string path = std::filesystem::path(device.host_path).lexically_normal();
    const auto covers = [&](const std::string& allowed) {
      return path == allowed || path.starts_with(allowed.ends_with('/') ? allowed : allowed + "/");
    };
    if (std::any_of(policy.devices->begin(), policy.devices->end(), covers)) continue;
    return Error::permission_denied(str("device ", hcl_quote(device.host_path),
                                        " is not allowed on this node: add it to allow_devices in the plugin's "
                                        "configuration, or leave it out"));
  }
  return {};
}

std::string list_of(const std::set<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += str(out.empty() ? "" : ", ", name);
  return out;
}

}  // namespace
}  // namespace driver
