// The options of the plugin and of a task, as values. Their names, defaults and texts for people are declared in the
// rows of driver/options; the defaults are the initialisers here.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace driver {

/// User name and secret for a registry. Never logged, never on disk, never in argv or environ.
struct RegistryAuth {
  std::string username;
  std::string password;
  std::string server_address;               ///< the registry that they are for; "" = image/credentials.h says which
  std::vector<std::string> without_effect;  ///< options of other drivers that were given
  std::string config;                       ///< plugin only: a Docker config.json
  std::string helper;                       ///< plugin only: a docker-credential-… program
  bool empty() const { return username.empty() && password.empty(); }
};

/// image_gc { … }: when images that nobody uses are removed
struct ImageGcOptions {
  bool enabled = true;
  std::chrono::milliseconds interval{std::chrono::minutes(10)};
  std::int64_t high_percent = 85;  ///< of the file system's bytes or inodes: above it room is made …
  std::int64_t low_percent = 80;   ///< … down to this
  std::uint64_t max_size = 0;      ///< bytes that the store may hold, 0 = no limit but the file system's
  std::optional<std::chrono::milliseconds> unused_for;  ///< an image unused for longer goes; unset: room decides
  std::chrono::milliseconds keep_for{std::chrono::minutes(5)};
  std::vector<std::string> keep;  ///< references, '*' for anything
};

/// gc { dangling_containers { … } }: tasks that no agent asks for
struct DanglingOptions {
  bool enabled = true;
  bool dry_run = false;
  std::chrono::milliseconds period{std::chrono::minutes(5)};
  std::chrono::milliseconds creation_grace{std::chrono::minutes(5)};
};

/// gc { … }
struct GcOptions {
  DanglingOptions dangling_containers;
};

/// image_verifier { … }: programs that are asked about each image
struct ImageVerifierOptions {
  std::string bin_dir;  ///< "" = nobody is asked
  std::int64_t max_verifiers = 10;
  std::chrono::milliseconds per_verifier_timeout{std::chrono::seconds(10)};
};

/// volumes { … }
struct VolumesOptions {
  std::optional<bool> enabled;  ///< unset: as the profile has it
};

/// bridge_network { … }: the driver's own network
struct BridgeNetworkOptions {
  std::string name = "cdnet0";  ///< of the network and of its bridge
  std::string subnet = "172.31.240.0/20";
  std::string subnet_v6 = "fd63:6474:6e74::/64";  ///< "" = IPv4 alone
  std::int64_t mtu = 0;                           ///< 0 = the kernel's
  bool firewall = true;
  std::vector<std::string> dns;  ///< name servers of its tasks; empty: the host's
};

/// The network of a task that asks for none, and whose agent tells of none.
enum class DefaultNetwork { kNone, kHost, kBridge };

/// Who makes the network namespaces of groups.
enum class NetworksBy { kAgent, kDriver };

/// plugin "containerd-driver" { config { … } }
struct PluginOptions {
  bool enabled = true;
  std::string containerd_runtime = "io.containerd.runc.v2";  ///< kept for agent files of the Go driver
  std::optional<std::chrono::milliseconds> stats_interval;   ///< unset: the interval that Nomad asks for
  RegistryAuth auth;
  std::string data_dir = "/var/lib/containerd-driver";
  std::string state_dir = "/run/containerd-driver";
  std::string shim = "containerd-shim-runc-v2";  ///< absolute, or a name looked up in PATH's usual folders
  std::string runtime_binary = "runc";           ///< the same
  ImageGcOptions image_gc;
  GcOptions gc;
  // What jobs may ask for. Unset: as the profile has it (life/gates.h).
  std::string profile = "default";  ///< default | hardened
  std::optional<bool> allow_privileged;
  std::optional<std::vector<std::string>> allow_caps;     ///< names, or "ALL"
  std::optional<std::vector<std::string>> allowed_modes;  ///< namespaces of the host: pid, ipc, uts, cgroup, network
  std::optional<std::vector<std::string>> allow_devices;  ///< device files, or folders of them
  std::optional<bool> require_seccomp;
  std::optional<bool> require_no_new_privileges;
  VolumesOptions volumes;
  std::map<std::string, std::string> runtimes;  ///< name for jobs → program
  std::optional<std::vector<std::string>> allow_runtimes;
  std::optional<std::vector<std::string>> allowed_registries;  ///< patterns (image/policy.h); unset: every one
  bool require_digest = false;
  ImageVerifierOptions image_verifier;
  std::int64_t starts_at_once = 0;    ///< 0 = as many as serve the node (life/turns.h)
  DefaultNetwork default_network = DefaultNetwork::kNone;
  NetworksBy networks = NetworksBy::kAgent;
  BridgeNetworkOptions bridge_network;
  std::string cni_path = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";  ///< where plugins are
  std::string cni_config_dir = "/etc/cni/net.d:/opt/cni/config";        ///< where networks of the node are
  std::int64_t pids_limit = 0;        ///< default and most of a task's; 0 = none
  std::string init_path;              ///< "" = beside the running binary, else the installed libexec
  std::string image_helper;           ///< "" = beside the running binary, else the installed libexec
  /// Folders with hosts.toml files (mirrors, certificates), separated by ":".
  std::string hosts_dir = "/etc/containerd-driver/certs.d:/etc/containerd/certs.d:/etc/docker/certs.d";
};

constexpr std::uint64_t kShmBytes = 64u << 20;  ///< of /dev/shm, as Docker has it

constexpr std::size_t kLabelsBytesMax = 256u << 10;  ///< all labels of a task as JSON

struct MountOption {
  std::string type = "volume";  ///< volume | bind | tmpfs
  std::string target;
  std::string source;
  std::vector<std::string> options;
  bool make_source = false;  ///< a missing source in the task's own folders is made: as `volumes` have it
};

/// When a task's image is asked for at its registry.
enum class PullPolicy {
  kDefault,  ///< kAlways for the tag "latest", with the local copy if the registry cannot be asked; else kMissing
  kMissing,
  kAlways,
  kNever,
};

struct DeviceOption {
  std::string host_path;
  std::string container_path = {};  ///< "" = host_path
  std::string permissions = "rwm";
};

/// A resource limit of setrlimit(2); unset: no limit.
struct Ulimit {
  std::optional<std::uint64_t> soft;
  std::optional<std::uint64_t> hard;
  bool operator==(const Ulimit&) const = default;
};

/// task { config { … } }
struct TaskOptions {
  std::string image;
  std::string platform;  ///< "linux/arm64"; "" = the node's
  PullPolicy image_pull_policy = PullPolicy::kDefault;
  bool auth_soft_fail = false;
  bool force_pull = false;  ///< decoded into image_pull_policy
  std::chrono::milliseconds image_pull_timeout{std::chrono::minutes(5)};
  std::string command;
  std::vector<std::string> args;
  std::optional<std::vector<std::string>> entrypoint;  ///< unset: the image's; given: the image's CMD is dropped too
  std::string cwd;
  std::string hostname;
  std::vector<std::string> group_add;
  bool init = false;
  bool tty = false;
  std::map<std::string, std::string> labels;
  std::vector<MountOption> mounts;  ///< of `mounts`, `mount`, `volumes` and `tmpfs`
  std::uint64_t shm_size = 0;       ///< bytes; 0 = kShmBytes
  bool readonly_rootfs = false;
  std::string network_mode;  ///< "", "host" (decoded into host_network), "bridge", "none"
  std::vector<std::string> ports;
  std::vector<std::string> extra_hosts;
  bool host_dns = true;
  std::vector<std::string> dns_servers;
  std::vector<std::string> dns_search_domains;
  std::vector<std::string> dns_options;
  std::vector<std::string> cap_add;
  std::vector<std::string> cap_drop;
  bool privileged = false;
  bool seccomp = true;
  std::string seccomp_profile;            ///< a file of this node; "" = the default profile
  std::string apparmor_profile;           ///< "" = none
  std::optional<bool> no_new_privileges;  ///< unset: true, but false for privileged tasks
  std::vector<std::string> security_opt;  ///< merged into the four above
  std::vector<std::string> selinux_opts;  ///< "disable" only
  bool host_network = false;
  bool host_pid = false;
  bool host_ipc = false;
  bool host_uts = false;
  bool host_cgroup = false;
  std::string userns_mode;  ///< "" or "host": containers have no user namespace of their own
  std::vector<DeviceOption> devices;
  std::string runtime;                     ///< "" = the node's default
  std::map<std::string, Ulimit> ulimit;    ///< by its name in setrlimit(2): "nofile"
  std::optional<std::int64_t> file_limit;  ///< merged into ulimit
  bool cpu_hard_limit = false;
  std::int64_t cpu_cfs_period = 100'000;  ///< microseconds
  std::string cpuset_cpus;                ///< "" = every core
  std::string cpuset_mems;                ///< "" = every NUMA node
  std::int64_t memory_hard_limit = 0;     ///< MiB; 0 = as Nomad's resources have it
  std::uint64_t memory_reservation = 0;   ///< bytes; 0 = as Nomad's resources have it
  std::string memory_swap;                ///< memory and swap together, a size or "-1" for no limit; "" = no swap
  std::optional<std::int64_t> memory_swappiness;  ///< 0 to 100; unset: the node's
  std::int64_t oom_score_adj = 0;
  std::int64_t pids_limit = 0;                ///< 0 = the node's; -1 = no limit
  std::map<std::string, std::string> sysctl;  ///< of the container's own namespaces
  RegistryAuth auth;
  std::string load;  ///< an archive in local/ that the image is in; "" or not there: a registry's
  std::vector<std::string> without_effect;  ///< options of other drivers that the job has and that change nothing here
};

}  // namespace driver
