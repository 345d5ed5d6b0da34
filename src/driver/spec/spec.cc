#include "driver/spec/spec.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "base/json.h"
#include "driver/spec/limits.h"
#include "driver/spec/seccomp_profile.h"
#include "driver/values/words.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

/// Where init lies in a container: in a folder that every image may have, under a name that none has.
const std::string kInitPath = "/run/containerd-driver-init";
constexpr std::string_view kDefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// MAX_ARG_STRLEN of the kernel, without the NUL: of one argument or "NAME=value" of the environment.
constexpr std::size_t kArgBytesMax = (128u << 10) - 1;
/// The kernel's bounds for cpu.shares.
constexpr std::int64_t kCpuSharesMin = 2;
constexpr std::int64_t kCpuSharesMax = 262144;

Result<Json> process_json(const SpecInput& input);
Json capabilities_json(const SpecInput& input, const std::set<std::string>& granted);
Result<Json> linux_json(const SpecInput& input);
std::map<std::string, std::string> sysctls_of(const SpecInput& input);
Result<Json> seccomp_json(const SpecInput& input);
Result<std::set<std::string>> capabilities_of(const SpecInput& input);
Json mounts_json(const SpecInput& input);
std::vector<Mount> standard_mounts(const SpecInput& input);
Json namespaces_json(const SpecInput& input);
Result<Json> resources_json(const SpecInput& input);
Json device_rules(const SpecInput& input);
Json devices_json(const std::vector<Device>& devices);
std::string rootfs_propagation(const std::vector<Mount>& mounts);
Json annotations_json(const TaskSpec& task);
Status check_env(const std::string& entry);
Status check_no_nul(std::string_view what, const std::string& value);

}  // namespace

Result<Json> build_spec(const SpecInput& input) {
  TRY_VOID(check_no_nul("hostname", input.hostname));
  TRY_VOID(check_sysctls(input.task.options, input.network));
  TRY(Json process, process_json(input));
  Json spec = {{"ociVersion", "1.0.2"},
               {"process", std::move(process)},
               {"root", {{"path", input.rootfs}, {"readonly", input.task.options.readonly_rootfs}}},
               {"mounts", mounts_json(input)}};
  if (Json annotations = annotations_json(input.task); !annotations.empty()) {
    spec["annotations"] = std::move(annotations);
  }
  if (!input.task.options.host_uts) spec["hostname"] = input.hostname;  // else it would be the host's that is set
  TRY(spec["linux"], linux_json(input));
  return spec;
}

Status check_sysctls(const TaskOptions& options, const NetworkPlan& network) {
  for (const auto& [key, value] : options.sysctl) {
    if (key.starts_with("net.") && network.kind == NetworkPlan::Kind::kHost) {
      return Error::invalid_argument(
          str("sysctl ", key, " would change the host's network: leave it out, or host_network"));
    }
    const bool of_ipc = key.starts_with("fs.mqueue.") || (key.starts_with("kernel.") && key != "kernel.domainname");
    if (of_ipc && options.host_ipc) {
      return Error::invalid_argument(str("sysctl ", key, " would change the host's: leave it out, or ipc_mode"));
    }
    if (key == "kernel.domainname" && options.host_uts) {
      return Error::invalid_argument(str("sysctl ", key, " would change the host's: leave it out, or uts_mode"));
    }
  }
  return {};
}

Result<std::vector<std::string>> container_args(const TaskOptions& options, const oci::ImageConfig& image) {
  std::vector<std::string> args = options.entrypoint ? *options.entrypoint : image.entrypoint;
  const bool has_entrypoint = options.entrypoint && !options.entrypoint->empty();
  const bool replaces_cmd = has_entrypoint || !options.command.empty() || !options.args.empty();
  if (!options.command.empty()) args.push_back(options.command);
  const std::vector<std::string>& rest = replaces_cmd ? options.args : image.cmd;
  args.insert(args.end(), rest.begin(), rest.end());
  if (args.empty() || args.front().empty()) {
    return Error::invalid_argument(str("there is nothing to run: the image ", options.image,
                                       options.entrypoint ? " has no CMD, and entrypoint is empty, so set command"
                                                          : " has neither ENTRYPOINT nor CMD, so set command or "
                                                            "entrypoint"));
  }
  for (const std::string& arg : args) TRY_VOID(check_no_nul("an argument", arg));
  return args;
}

std::int64_t cpu_shares_for(std::int64_t mhz, double node_compute_mhz) {
  const auto limit = static_cast<double>(kCpuSharesMax);
  const double scale = node_compute_mhz > limit ? limit / node_compute_mhz : 1;
  return std::clamp(static_cast<std::int64_t>(static_cast<double>(mhz) * scale), kCpuSharesMin, kCpuSharesMax);
}

std::vector<std::string> container_env(const TaskSpec& task, const oci::ImageConfig& image,
                                       const std::string& hostname) {
  std::map<std::string, std::string> merged;
  if (!hostname.empty()) merged["HOSTNAME"] = hostname;
  if (task.options.tty) merged["TERM"] = "xterm";
  for (const std::string& entry : image.env) {
    const std::size_t equals = entry.find('=');
    if (equals == 0 || equals == std::string::npos) continue;
    merged[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  for (const auto& [key, value] : task.env) merged[key] = value;
  std::vector<std::string> env;
  if (!merged.contains("PATH")) env.emplace_back(kDefaultPath);
  for (const auto& [key, value] : merged) env.push_back(str(key, "=", value));
  std::sort(env.begin(), env.end());
  return env;
}

const std::string& container_user(const TaskSpec& task, const oci::ImageConfig& image) {
  return task.user.empty() ? image.user : task.user;
}

std::string container_cwd(const TaskSpec& task, const oci::ImageConfig& image) {
  if (!task.options.cwd.empty()) return task.options.cwd;
  return image.working_dir.empty() ? "/" : image.working_dir;
}

std::string default_hostname(const TaskSpec& task) {
  if (!task.options.hostname.empty()) return task.options.hostname;
  if (task.network && !task.network->hosts_hostname.empty()) return task.network->hosts_hostname;
  const std::string suffix = task.alloc_id.empty() ? "" : "-" + task.alloc_id;
  const std::size_t room = kHostnameBytesMax - std::min(suffix.size(), kHostnameBytesMax);
  std::string name = (task.name.substr(0, room) + suffix).substr(0, kHostnameBytesMax);
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
  };
  std::replace_if(
      name.begin(), name.end(), [&](char c) { return !is_plain(c); }, '-');
  name.erase(0, std::min(name.find_first_not_of('-'), name.size()));
  while (name.ends_with('-')) name.pop_back();
  return name.empty() ? "container" : name;
}

Json exec_process(const Json& spec, const std::vector<std::string>& args) {
  Json process = spec.is_object() && spec.contains("process") ? spec["process"] : Json::object();
  process["args"] = args;
  process["terminal"] = false;
  return process;
}

namespace {

Result<Json> process_json(const SpecInput& input) {
  const TaskOptions& options = input.task.options;
  TRY(auto args, container_args(options, input.image));
  if (!input.init.empty()) args.insert(args.begin(), {kInitPath, "--"});
  TRY(const auto granted, capabilities_of(input));
  TRY(Json rlimits, rlimits_json(options, input.host));
  const auto env = container_env(input.task, input.image, input.hostname);
  for (const std::string& entry : env) TRY_VOID(check_env(entry));
  const std::string cwd = container_cwd(input.task, input.image);
  TRY_VOID(check_no_nul("cwd", cwd));
  if (!cwd.starts_with('/')) {
    return Error::invalid_argument(str("working directory \"", cwd, "\" must be an absolute path: set cwd"));
  }
  Json process = {
      {"terminal", options.tty},
      {"user", {{"uid", input.user.uid}, {"gid", input.user.gid}, {"additionalGids", input.user.additional_gids}}},
      {"args", args},
      {"env", env},
      {"cwd", cwd},
      {"capabilities", capabilities_json(input, granted)},
      {"rlimits", std::move(rlimits)},
      {"noNewPrivileges", options.no_new_privileges.value_or(!options.privileged)},
      // The plugin may run at -1000; its tasks must not inherit that.
      {"oomScoreAdj", options.oom_score_adj}};
  if (!options.apparmor_profile.empty() && options.apparmor_profile != "unconfined") {
    process["apparmorProfile"] = options.apparmor_profile;
  }
  return process;
}

// Of a process that is not root's the kernel leaves at execve(2) only what is ambient.
Json capabilities_json(const SpecInput& input, const std::set<std::string>& granted) {
  std::set<std::string> kept;
  if (input.user.uid != 0) kept = ambient_capabilities(input.task.options.cap_add, granted);
  return {
      {"bounding", granted}, {"effective", granted}, {"permitted", granted}, {"inheritable", kept}, {"ambient", kept}};
}

Result<Json> linux_json(const SpecInput& input) {
  const bool privileged = input.task.options.privileged;
  Json linux = {{"cgroupsPath", input.cgroups_path},
                {"namespaces", namespaces_json(input)},
                {"maskedPaths", Json::array()},
                {"readonlyPaths", Json::array()}};
  TRY(linux["resources"], resources_json(input));
  TRY(Json seccomp, seccomp_json(input));
  if (!seccomp.is_null()) linux["seccomp"] = std::move(seccomp);
  if (!privileged) {
    linux["maskedPaths"] = masked_paths(input.host);
    linux["readonlyPaths"] = readonly_paths();
  }
  if (!input.devices.empty()) linux["devices"] = devices_json(input.devices);
  if (const auto sysctl = sysctls_of(input); !sysctl.empty()) linux["sysctl"] = sysctl;
  if (const std::string mode = rootfs_propagation(input.mounts); !mode.empty()) linux["rootfsPropagation"] = mode;
  return linux;
}

// Where the network is the task's or its group's own, a program need not be root's for a low port, and none needs a
// capability for a ping: as Docker has it.
// spec: Linux ip-sysctl, of a network namespace since 4.11
std::map<std::string, std::string> sysctls_of(const SpecInput& input) {
  auto all = input.task.options.sysctl;
  const bool of_host = input.network.kind == NetworkPlan::Kind::kHost;
  if (of_host) return all;
  const auto add = [&all](const char* name, const char* with_slashes, const char* value) {
    if (!all.contains(with_slashes)) all.try_emplace(name, value);
  };
  add("net.ipv4.ip_unprivileged_port_start", "net/ipv4/ip_unprivileged_port_start", "0");
  add("net.ipv4.ping_group_range", "net/ipv4/ping_group_range", "0 2147483647");
  return all;
}

// Which calls are allowed depends on the final capabilities. A profile that the job names is for privileged tasks too.
Result<Json> seccomp_json(const SpecInput& input) {
  const TaskOptions& options = input.task.options;
  const bool own = !input.seccomp_profile.empty();
  if (!options.seccomp || (options.privileged && !own)) return Json();
  TRY(const auto bounding, capabilities_of(input));
  const HostFacts& host = input.host;
  if (!own) return default_seccomp_profile(bounding, host.kernel_major, host.kernel_minor);
  auto profile =
      resolve_seccomp_profile(input.seccomp_profile, {own_arch(), bounding, host.kernel_major, host.kernel_minor});
  if (!profile) return std::move(profile).error().wrap(options.seccomp_profile);
  return profile;
}

Result<std::set<std::string>> capabilities_of(const SpecInput& input) {
  const TaskOptions& options = input.task.options;
  if (options.privileged) return all_capabilities(input.host);
  return resolve_capabilities(options.cap_add, options.cap_drop, input.host, input.allowed_caps);
}

// A mount that the job asks for replaces the standard one at the same place.
Json mounts_json(const SpecInput& input) {
  std::vector<Mount> mounts = standard_mounts(input);
  std::erase_if(mounts, [&](const Mount& standard) {
    return std::any_of(input.mounts.begin(), input.mounts.end(),
                       [&](const Mount& wanted) { return wanted.destination == standard.destination; });
  });
  mounts.insert(mounts.end(), input.mounts.begin(), input.mounts.end());
  // Parents first, whoever wants them: a task's own /etc must not hide its hosts file.
  const auto depth = [](const Mount& m) { return std::count(m.destination.begin(), m.destination.end(), '/'); };
  std::stable_sort(mounts.begin(), mounts.end(), [&](const Mount& a, const Mount& b) { return depth(a) < depth(b); });
  Json out = Json::array();
  for (const Mount& mount : mounts) {
    out.push_back({{"destination", mount.destination},
                   {"type", mount.type},
                   {"source", mount.source},
                   {"options", mount.options}});
  }
  return out;
}

std::vector<Mount> standard_mounts(const SpecInput& input) {
  const char* const kernel_files = input.task.options.privileged ? "rw" : "ro";
  const std::uint64_t shm_bytes = input.task.options.shm_size == 0 ? kShmBytes : input.task.options.shm_size;
  std::vector<Mount> mounts = {
      {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {"/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
      {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", str("size=", shm_bytes)}},
      {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
      {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", kernel_files}},
      {"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", kernel_files}}};
  if (input.task.options.host_ipc) {  // POSIX shared memory lives in a file system, not in the namespace
    const auto shm =
        std::find_if(mounts.begin(), mounts.end(), [](const Mount& m) { return m.destination == "/dev/shm"; });
    *shm = {"/dev/shm", "bind", "/dev/shm", {"rbind", "rprivate", "nosuid", "noexec", "nodev"}};
  }
  const char* const etc_access = input.task.options.readonly_rootfs ? "ro" : "rw";
  const auto add_etc = [&](const char* target, const std::string& source) {
    if (!source.empty()) mounts.push_back({target, "bind", source, {"rbind", "rprivate", etc_access}});
  };
  add_etc("/etc/hosts", input.etc.hosts);
  add_etc("/etc/hostname", input.etc.hostname);
  add_etc("/etc/resolv.conf", input.etc.resolv_conf);
  if (!input.init.empty()) {
    mounts.push_back({kInitPath, "bind", input.init, {"bind", "rprivate", "ro", "nosuid", "nodev"}});
  }
  return mounts;
}

Json namespaces_json(const SpecInput& input) {
  const TaskOptions& options = input.task.options;
  Json namespaces = Json::array();
  if (!input.task.pid_namespace.empty()) {
    namespaces.push_back({{"type", "pid"}, {"path", input.task.pid_namespace}});
  } else if (!options.host_pid) {
    namespaces.push_back({{"type", "pid"}});
  }
  if (!options.host_ipc) namespaces.push_back({{"type", "ipc"}});
  if (!options.host_uts) namespaces.push_back({{"type", "uts"}});
  namespaces.push_back({{"type", "mount"}});
  const bool own_cgroup = input.host.cgroup_namespaces && !options.privileged && !options.host_cgroup;
  if (own_cgroup) namespaces.push_back({{"type", "cgroup"}});
  switch (input.network.kind) {
    case NetworkPlan::Kind::kHost:
      break;
    case NetworkPlan::Kind::kJoin:
    case NetworkPlan::Kind::kOwn:  // the start has put its path there
      namespaces.push_back({{"type", "network"}, {"path", input.network.netns_path}});
      break;
    case NetworkPlan::Kind::kPrivate:
      namespaces.push_back({{"type", "network"}});
      break;
  }
  return namespaces;
}

Result<Json> resources_json(const SpecInput& input) {
  Json resources = {{"devices", device_rules(input)}};
  const std::int64_t mhz = input.task.resources.cpu_shares;
  TRY(Json cpu, cpu_json(input.task, input.host, mhz > 0 ? cpu_shares_for(mhz, input.node_compute_mhz) : 0));
  if (!cpu.empty()) resources["cpu"] = std::move(cpu);
  TRY(Json memory, memory_json(input.task, input.host));
  if (!memory.empty()) resources["memory"] = std::move(memory);
  if (input.pids_limit > 0) resources["pids"] = {{"limit", input.pids_limit}};
  return resources;
}

// Deny comes first: without it a list of devices would be read as exceptions from "allow everything".
Json device_rules(const SpecInput& input) {
  if (input.task.options.privileged) return Json::array({{{"allow", true}, {"access", "rwm"}}});
  Json rules = Json::array({{{"allow", false}, {"access", "rwm"}}});
  const auto allow = [&](char type, std::int64_t major, std::int64_t minor, const std::string& access) {
    Json rule = {{"allow", true}, {"type", std::string(1, type)}, {"major", major}, {"access", access}};
    if (minor >= 0) rule["minor"] = minor;
    rules.push_back(std::move(rule));
  };
  constexpr std::array<std::pair<int, int>, 9> kDefaults = {
      {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}}};  // null … urandom, tty …, pts
  for (const auto& [major, minor] : kDefaults) allow('c', major, minor, "rwm");
  for (const Device& device : input.devices) allow(device.type, device.major, device.minor, device.access);
  return rules;
}

Json devices_json(const std::vector<Device>& devices) {
  Json out = Json::array();
  for (const Device& device : devices) {
    out.push_back({{"path", device.path},
                   {"type", std::string(1, device.type)},
                   {"major", device.major},
                   {"minor", device.minor},
                   {"fileMode", device.mode},
                   {"uid", device.uid},
                   {"gid", device.gid}});
  }
  return out;
}

// Mounts only travel between host and container if the container's root lets them through.
std::string rootfs_propagation(const std::vector<Mount>& mounts) {
  std::string mode;
  for (const Mount& mount : mounts) {
    for (const std::string& option : mount.options) {
      if (option == "shared" || option == "rshared") return "shared";
      if (option == "slave" || option == "rslave") mode = "rslave";
    }
  }
  return mode;
}

// Under names of our own: runtimes take orders from annotations that they know (run.oci.…), and a job's labels must not
// be orders.
Json annotations_json(const TaskSpec& task) {
  Json annotations = Json::object();
  for (const auto& [name, value] : task.options.labels) annotations["containerd-driver.label." + name] = value;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) annotations[str("containerd-driver.", name)] = value;
  };
  add("alloc_id", task.alloc_id);
  add("task", task.name);
  add("group", task.group_name);
  add("job_id", task.job_id);
  add("namespace", task.namespace_name);
  return annotations;
}

Status check_env(const std::string& entry) {
  const std::string name = entry.substr(0, entry.find('='));
  const std::string what = str("environment variable ", show_value(name));
  if (entry.size() > kArgBytesMax) {
    return Error::invalid_argument(str(what, " has ", entry.size(), " bytes, and the kernel takes ", kArgBytesMax,
                                       " at most: put the text into a file (template)"));
  }
  return check_no_nul(what, entry);
}

Status check_no_nul(std::string_view what, const std::string& value) {
  if (value.find('\0') == std::string::npos) return {};
  return Error::invalid_argument(str(what, " contains a NUL byte"));
}

}  // namespace
}  // namespace driver
