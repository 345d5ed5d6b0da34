// The OCI runtime configuration (config.json) of a task, from values only: no clock, no file system, no environment, so
// that the same input gives the same bytes (golden files in tests/data/spec).
// spec: runtime-spec config.md, config-linux.md
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "driver/files/hosts.h"
#include "driver/files/mounts.h"
#include "driver/files/user.h"
#include "driver/spec/network.h"
#include "driver/spec/security.h"
#include "driver/values/task_spec.h"
#include "oci/images.h"

namespace driver {

/// References outlive the call.
struct SpecInput {
  const TaskSpec& task;
  const oci::ImageConfig& image;
  const HostFacts& host;
  ResolvedUser user;              ///< resolve_user(rootfs, container_user(task, image))
  NetworkPlan network;            ///< plan_network(task)
  std::string rootfs = "rootfs";  ///< relative to the bundle, or absolute
  std::string cgroups_path;       ///< TaskNames::cgroup_path
  std::string hostname;           ///< default_hostname(task)
  EtcFiles etc;                   ///< "" = that file is not mounted
  std::vector<Mount> mounts;      ///< plan_mounts(task)
  std::int64_t pids_limit = 0;    ///< StartPlan::pids_limit
  std::string init = {};          ///< StartPlan::init
  /// Policy::caps: what the node allows at all; unset: everything.
  std::optional<std::set<std::string>> allowed_caps = {};
  std::string seccomp_profile = {};  ///< the text of the job's own profile; "" = the default one
  std::vector<Device> devices;       ///< host_devices() for privileged tasks and Nomad's devices, else empty
  double node_compute_mhz = 0;       ///< NodeInfo::total_compute_mhz; 0 = not known
};

/// The whole config.json.
///   errors  kInvalidArgument: no command, a capability that does not exist, NUL in a string, a relative cwd
base::Result<base::Json> build_spec(const SpecInput& input);

/// cpu.shares of a task: its MHz, within the kernel's bounds. On a node whose total is beyond them all tasks' shares
/// are scaled, or big ones would all count the same.
std::int64_t cpu_shares_for(std::int64_t mhz, double node_compute_mhz);

/// Whether the task's sysctls stay inside of its namespaces; which can be a container's at all is checked with the
/// options.
///   errors  kInvalidArgument naming the parameter and the option that shares its namespace with the host
base::Status check_sysctls(const TaskOptions& options, const NetworkPlan& network);

/// What build_spec puts in process.args: with `entrypoint`, the image's entrypoint and command are dropped and argv is
/// entrypoint + command + args; else the image's entrypoint + (command + args, or the image's command if neither is
/// given). An empty `entrypoint` drops the image's, and its command only if the job has one.
///   errors  kInvalidArgument when nothing is left to run
base::Result<std::vector<std::string>> container_args(const TaskOptions& options, const oci::ImageConfig& image);

/// "K=V", sorted by key: the image's, overridden by the job's; PATH, HOSTNAME and, with a terminal, TERM set if neither
/// has one.
///   in      hostname  "" = no HOSTNAME
std::vector<std::string> container_env(const TaskSpec& task, const oci::ImageConfig& image,
                                       const std::string& hostname = "");

/// The job's user, else the image's.
const std::string& container_user(const TaskSpec& task, const oci::ImageConfig& image);

/// The job's cwd, else the image's, else "/".
std::string container_cwd(const TaskSpec& task, const oci::ImageConfig& image);

constexpr std::size_t kHostnameBytesMax = 63;       ///< of one that is made here: one DNS label
constexpr std::size_t kGivenHostnameBytesMax = 64;  ///< of one that is asked for: what the kernel takes

/// The job's hostname, else the group's, else "<task>-<alloc id>" cut to 63 bytes of [A-Za-z0-9-].
std::string default_hostname(const TaskSpec& task);

/// The OCI Process of a command run inside a container that was made from `spec`: same user, environment, directory,
/// capabilities; no terminal.
base::Json exec_process(const base::Json& spec, const std::vector<std::string>& args);

}  // namespace driver
