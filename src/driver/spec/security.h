// What a container may do by default: capabilities, the seccomp profile, hidden and read-only paths, host devices.
//
// The profile is data from three sources that agree (containerd, Docker, and what runc adds), generated after the final
// capabilities are known: a rule for a capability that was dropped would be a hole, one missing for a capability that
// was added would make the capability useless.
// threads  any; everything but read_host_facts() and host_devices() is pure
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "driver/host/stats.h"

namespace driver {

/// What of the host decides how a container looks. Read once per process (read_host_facts), given as a value to the
/// pure functions.
struct HostFacts {
  CgroupMode cgroup_mode = CgroupMode::kV1;
  int cap_last = 40;               ///< the kernel's highest capability number
  std::set<std::string> own_caps;  ///< our bounding set: more cannot be given to anyone; empty = not known, no bound
  std::uint64_t nofile_hard_max = 1048576;  ///< the most open files that a process here may be allowed
  /// What a task's hard limits cannot exceed, by setrlimit(2)'s names ("nproc"); missing: no bound.
  std::map<std::string, std::uint64_t> rlimit_max;
  bool cgroup_namespaces = true;  ///< kernel >= 4.6
  bool swap_accounting = true;    ///< v1: memory.memsw.* exists; v2: always true
  int kernel_major = 5;
  int kernel_minor = 10;
  int cores = 1;  ///< that are online
  bool apparmor = false;
  std::string hostname;                    ///< the host's own
  std::vector<std::string> thermal_paths;  ///< /sys/devices/system/cpu/cpu*/thermal_throttle that exist
};
/// Never fails: what cannot be read keeps its default.
HostFacts read_host_facts();

/// The 13 capabilities that Nomad's own drivers give by default: Docker's list without NET_RAW (ARP spoofing between
/// the tasks of a bridge). Sorted.
const std::set<std::string>& default_capabilities();

/// "net_admin", "NET_ADMIN", "CAP_NET_ADMIN" → "CAP_NET_ADMIN"; "all" → "ALL". kInvalidArgument for what no kernel
/// knows.
base::Result<std::string> normalize_capability(std::string_view name);

/// defaults + add − drop, with "ALL" in either. A capability that is named in both lists is dropped; an explicit name
/// beats "ALL" of the other list (drop ALL, add X gives X; add ALL, drop X gives all but X).
/// Nothing outside facts.own_caps comes out, as the runtime would refuse the container, and nothing outside `allowed`
/// (unset: everything is), to which the defaults are cut down.
///   errors  kInvalidArgument naming the unknown capability, or one that this process cannot give
///           kPermissionDenied naming those that are added but not allowed
base::Result<std::set<std::string>> resolve_capabilities(const std::vector<std::string>& add,
                                                         const std::vector<std::string>& drop, const HostFacts& facts,
                                                         const std::optional<std::set<std::string>>& allowed = {});

/// Those of `granted` that a process keeps which is not root's: what the job added by name or as "ALL". The kernel
/// takes the others away from it at execve(2).
std::set<std::string> ambient_capabilities(const std::vector<std::string>& add, const std::set<std::string>& granted);

/// Go's name of the architecture that this was built for: amd64, arm64, …; "" for one that seccomp profiles do not
/// know.
std::string_view own_arch();

/// The default profile as an OCI LinuxSeccomp object for the machine this was built for.
///   in      `bounding` as normalized names: capability-conditional rules follow it
///   spec    runtime-spec config-linux.md "Seccomp"
base::Json default_seccomp_profile(const std::set<std::string>& bounding, int kernel_major, int kernel_minor);
/// The same for another architecture (Go names: amd64, arm64, 386, …); for tests.
base::Json default_seccomp_profile_for(std::string_view arch, const std::set<std::string>& bounding, int kernel_major,
                                       int kernel_minor);

/// Everything that can be given on this host, for privileged containers.
std::set<std::string> all_capabilities(const HostFacts& facts);

/// Paths that a container must not read: containerd's and moby's lists.
std::vector<std::string> masked_paths(const HostFacts& facts);
const std::vector<std::string>& readonly_paths();

/// A device node for a container.
struct Device {
  std::string path;            ///< inside the container
  std::string access = "rwm";  ///< what its cgroup rule allows
  char type = 'c';             ///< 'c' or 'b'
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint32_t mode = 0;  ///< permission bits
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};
/// Every device node below `dev_dir`, except what a container has of its own (pts, shm, fd, mqueue, console). Sorted by
/// path. What disappears meanwhile is left out.
std::vector<Device> host_devices(const std::string& dev_dir = "/dev");
/// One device node, symbolic links followed. kInvalidArgument naming `path` when it is missing or not a device.
base::Result<Device> stat_device(const std::string& path);

}  // namespace driver
