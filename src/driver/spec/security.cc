#include "driver/spec/security.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "driver/spec/limits.h"

namespace driver {

using base::Error;
using base::Result;
using base::str;

namespace {

namespace fs = std::filesystem;

/// By number, as in linux/capability.h.
constexpr std::array<std::string_view, 41> kCapabilities = {"CAP_CHOWN",
                                                            "CAP_DAC_OVERRIDE",
                                                            "CAP_DAC_READ_SEARCH",
                                                            "CAP_FOWNER",
                                                            "CAP_FSETID",
                                                            "CAP_KILL",
                                                            "CAP_SETGID",
                                                            "CAP_SETUID",
                                                            "CAP_SETPCAP",
                                                            "CAP_LINUX_IMMUTABLE",
                                                            "CAP_NET_BIND_SERVICE",
                                                            "CAP_NET_BROADCAST",
                                                            "CAP_NET_ADMIN",
                                                            "CAP_NET_RAW",
                                                            "CAP_IPC_LOCK",
                                                            "CAP_IPC_OWNER",
                                                            "CAP_SYS_MODULE",
                                                            "CAP_SYS_RAWIO",
                                                            "CAP_SYS_CHROOT",
                                                            "CAP_SYS_PTRACE",
                                                            "CAP_SYS_PACCT",
                                                            "CAP_SYS_ADMIN",
                                                            "CAP_SYS_BOOT",
                                                            "CAP_SYS_NICE",
                                                            "CAP_SYS_RESOURCE",
                                                            "CAP_SYS_TIME",
                                                            "CAP_SYS_TTY_CONFIG",
                                                            "CAP_MKNOD",
                                                            "CAP_LEASE",
                                                            "CAP_AUDIT_WRITE",
                                                            "CAP_AUDIT_CONTROL",
                                                            "CAP_SETFCAP",
                                                            "CAP_MAC_OVERRIDE",
                                                            "CAP_MAC_ADMIN",
                                                            "CAP_SYSLOG",
                                                            "CAP_WAKE_ALARM",
                                                            "CAP_BLOCK_SUSPEND",
                                                            "CAP_AUDIT_READ",
                                                            "CAP_PERFMON",
                                                            "CAP_BPF",
                                                            "CAP_CHECKPOINT_RESTORE"};

constexpr std::size_t kProcFileBytesMax = 1u << 20;

Result<std::set<std::string>> normalize_all(const std::vector<std::string>& names, std::string_view option);
base::Status check_added(const std::set<std::string>& added, const HostFacts& facts,
                         const std::optional<std::set<std::string>>& allowed);
std::set<std::string> own_bounding_set(int cap_last);
std::map<std::string, std::uint64_t> own_hard_limits();
bool apparmor_enabled();
std::optional<std::uint64_t> nofile_max(bool may_raise);
std::vector<std::string> find_thermal_paths();
std::optional<Device> device_of(const std::string& path, const struct stat& info);

}  // namespace

HostFacts read_host_facts() {
  HostFacts facts;
  facts.cgroup_mode = detect_cgroup_mode();
  if (const auto text = base::read_file("/proc/sys/kernel/cap_last_cap", kProcFileBytesMax)) {
    std::from_chars(text->data(), text->data() + text->size(), facts.cap_last);
  }
  facts.own_caps = own_bounding_set(facts.cap_last);
  const bool may_raise = ::geteuid() == 0 && facts.own_caps.contains("CAP_SYS_RESOURCE");
  facts.nofile_hard_max = nofile_max(may_raise).value_or(facts.nofile_hard_max);
  if (!may_raise) facts.rlimit_max = own_hard_limits();
  facts.cores = std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
  facts.apparmor = apparmor_enabled();
  facts.cgroup_namespaces = ::access("/proc/self/ns/cgroup", F_OK) == 0;
  facts.swap_accounting =
      facts.cgroup_mode == CgroupMode::kV2 || ::access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0;
  struct utsname kernel = {};
  if (::uname(&kernel) == 0) {
    std::sscanf(kernel.release, "%d.%d", &facts.kernel_major, &facts.kernel_minor);
    facts.hostname = kernel.nodename;
  }
  facts.thermal_paths = find_thermal_paths();
  return facts;
}

const std::set<std::string>& default_capabilities() {
  static const std::set<std::string> caps = {
      "CAP_AUDIT_WRITE", "CAP_CHOWN",  "CAP_DAC_OVERRIDE",     "CAP_FOWNER",  "CAP_FSETID",
      "CAP_KILL",        "CAP_MKNOD",  "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID",
      "CAP_SETPCAP",     "CAP_SETUID", "CAP_SYS_CHROOT"};
  return caps;
}

Result<std::string> normalize_capability(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  if (upper == "ALL" || upper == "CAP_ALL") return std::string("ALL");
  if (!upper.starts_with("CAP_")) upper.insert(0, "CAP_");
  if (std::find(kCapabilities.begin(), kCapabilities.end(), upper) != kCapabilities.end()) return upper;
  return Error::invalid_argument(
      str("\"", name.substr(0, 64),
          "\" is not a Linux capability: use a name from capabilities(7), like NET_ADMIN, or ALL"));
}

Result<std::set<std::string>> resolve_capabilities(const std::vector<std::string>& add,
                                                   const std::vector<std::string>& drop, const HostFacts& facts,
                                                   const std::optional<std::set<std::string>>& allowed) {
  TRY(const auto added, normalize_all(add, "cap_add"));
  TRY(const auto dropped, normalize_all(drop, "cap_drop"));
  TRY_VOID(check_added(added, facts, allowed));

  std::set<std::string> result = default_capabilities();
  if (allowed) std::erase_if(result, [&](const std::string& name) { return !allowed->contains(name); });
  if (dropped.contains("ALL")) result.clear();
  if (added.contains("ALL") && !dropped.contains("ALL")) result.insert(kCapabilities.begin(), kCapabilities.end());
  result.insert(added.begin(), added.end());
  for (const std::string& name : dropped) result.erase(name);
  result.erase("ALL");
  if (!facts.own_caps.empty()) {
    std::erase_if(result, [&](const std::string& name) { return !facts.own_caps.contains(name); });
  }
  return result;
}

std::set<std::string> ambient_capabilities(const std::vector<std::string>& add, const std::set<std::string>& granted) {
  const auto added = normalize_all(add, "cap_add");
  if (!added) return {};  // resolve_capabilities has said why
  if (added->contains("ALL")) return granted;
  std::set<std::string> kept = *added;
  std::erase_if(kept, [&](const std::string& name) { return !granted.contains(name); });
  return kept;
}

std::set<std::string> all_capabilities(const HostFacts& facts) {
  if (!facts.own_caps.empty()) return facts.own_caps;
  return {kCapabilities.begin(), kCapabilities.end()};
}

std::vector<std::string> masked_paths(const HostFacts& facts) {
  std::vector<std::string> paths = {"/proc/acpi",
                                    "/proc/asound",
                                    "/proc/interrupts",
                                    "/proc/kcore",
                                    "/proc/keys",
                                    "/proc/latency_stats",
                                    "/proc/sched_debug",
                                    "/proc/scsi",
                                    "/proc/timer_list",
                                    "/proc/timer_stats",
                                    "/sys/devices/virtual/powercap",
                                    "/sys/firmware"};
  paths.insert(paths.end(), facts.thermal_paths.begin(), facts.thermal_paths.end());
  return paths;
}

const std::vector<std::string>& readonly_paths() {
  static const std::vector<std::string> paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                                 "/proc/sysrq-trigger"};
  return paths;
}

std::vector<Device> host_devices(const std::string& dev_dir) {
  static const std::set<std::string> kNotThese = {"pts",  "shm",         "fd",    "mqueue",
                                                  ".lxc", ".lxd-mounts", ".udev", "console"};
  std::vector<Device> devices;
  std::error_code error;  // what disappears or cannot be read is left out
  auto it = fs::recursive_directory_iterator(dev_dir, fs::directory_options::skip_permission_denied, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (it.depth() == 0 && kNotThese.contains(it->path().filename().string())) {
      it.disable_recursion_pending();
      continue;
    }
    struct stat info = {};
    if (::lstat(it->path().c_str(), &info) != 0) continue;
    if (auto device = device_of(it->path().string(), info)) devices.push_back(std::move(*device));
  }
  std::sort(devices.begin(), devices.end(), [](const Device& a, const Device& b) { return a.path < b.path; });
  return devices;
}

Result<Device> stat_device(const std::string& path) {
  struct stat info = {};
  if (::stat(path.c_str(), &info) != 0) {
    return Error::invalid_argument(str("device ", path, " does not exist on this host"));
  }
  auto device = device_of(path, info);
  if (!device) return Error::invalid_argument(str(path, " is not a device: name a character or block device"));
  return std::move(*device);
}

namespace {

Result<std::set<std::string>> normalize_all(const std::vector<std::string>& names, std::string_view option) {
  std::set<std::string> normal;
  for (const std::string& name : names) {
    auto one = normalize_capability(name);
    if (!one) return std::move(one).error().wrap(option);
    normal.insert(std::move(*one));
  }
  return normal;
}

base::Status check_added(const std::set<std::string>& added, const HostFacts& facts,
                         const std::optional<std::set<std::string>>& allowed) {
  std::string forbidden;
  for (const std::string& name : added) {
    if (allowed && !allowed->contains(name)) forbidden += str(forbidden.empty() ? "" : ", ", name);
    if (name == "ALL" || facts.own_caps.empty() || facts.own_caps.contains(name)) continue;
    return Error::invalid_argument(str("cap_add: ", name,
                                       " cannot be given: this node's agent does not have it itself; leave it out, or "
                                       "run the agent with it"));
  }
  if (forbidden.empty()) return {};
  return Error::permission_denied(str("driver does not have the following capabilities allowed: ", forbidden,
                                      ". Leave them out of cap_add, or add them to allow_caps in the plugin's "
                                      "configuration"));
}

std::set<std::string> own_bounding_set(int cap_last) {
  std::uint64_t bits = ~0ull;
  if (const auto status = base::read_file("/proc/self/status", kProcFileBytesMax)) {
    constexpr std::string_view kKey = "\nCapBnd:\t";
    if (const auto at = status->find(kKey); at != std::string::npos) {
      const char* digits = status->data() + at + kKey.size();
      std::from_chars(digits, status->data() + status->size(), bits, 16);
    }
  }
  std::set<std::string> names;
  for (std::size_t i = 0; i < kCapabilities.size() && i <= static_cast<std::size_t>(std::max(cap_last, 0)); ++i) {
    if ((bits >> i & 1) != 0) names.emplace(kCapabilities[i]);
  }
  return names;
}

// With CAP_SYS_RESOURCE the kernel's own ceiling counts, without it our hard limit.
std::optional<std::uint64_t> nofile_max(bool may_raise) {
  std::optional<std::uint64_t> ceiling;
  if (const auto text = base::read_file("/proc/sys/fs/nr_open", kProcFileBytesMax)) {
    std::uint64_t value = 0;
    if (std::from_chars(text->data(), text->data() + text->size(), value).ec == std::errc()) ceiling = value;
  }
  struct rlimit limit = {};
  if (!may_raise && ::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    ceiling = std::min<std::uint64_t>(ceiling.value_or(limit.rlim_max), limit.rlim_max);
  }
  return ceiling;
}

std::map<std::string, std::uint64_t> own_hard_limits() {
  std::map<std::string, std::uint64_t> limits;
  for (const auto& [name, number] : rlimit_names()) {
    struct rlimit own = {};
    if (::getrlimit(static_cast<__rlimit_resource_t>(number), &own) == 0 && own.rlim_max != RLIM_INFINITY) {
      limits.emplace(name, own.rlim_max);
    }
  }
  return limits;
}

bool apparmor_enabled() {
  const auto text = base::read_file("/sys/module/apparmor/parameters/enabled", kProcFileBytesMax);
  return text && text->starts_with('Y');
}

std::vector<std::string> find_thermal_paths() {
  std::vector<std::string> paths;
  std::error_code error;
  for (auto it = fs::directory_iterator("/sys/devices/system/cpu", error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    const fs::path path = it->path() / "thermal_throttle";
    if (it->path().filename().string().starts_with("cpu") && ::access(path.c_str(), F_OK) == 0) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::optional<Device> device_of(const std::string& path, const struct stat& info) {
  if (!S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode)) return std::nullopt;
  constexpr mode_t kPermissions = 07777;
  Device device;
  device.path = path;
  device.type = S_ISCHR(info.st_mode) ? 'c' : 'b';
  device.major = major(info.st_rdev);
  device.minor = minor(info.st_rdev);
  device.mode = info.st_mode & kPermissions;
  device.uid = info.st_uid;
  device.gid = info.st_gid;
  return device;
}

}  // namespace
}  // namespace driver
