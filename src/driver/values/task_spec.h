// What Nomad (or the command line) asks for, as values. Nothing here knows protobuf, msgpack or HCL; src/plugin and
// src/cli fill these structs, src/driver reads them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "driver/values/options.h"

namespace driver {

/// "<alloc uuid>/<task>/<8 hex>" from Nomad, new for every start. Free text from our point of view: it never becomes a
/// file name (see TaskNames).
struct TaskId {
  std::string text;
  auto operator<=>(const TaskId&) const = default;
};

struct Resources {
  std::int64_t cpu_shares = 0;        ///< MHz; 0 = not set
  std::int64_t memory_bytes = 0;      ///< reservation, or the limit if there is no max; 0 = none
  std::int64_t memory_max_bytes = 0;  ///< hard limit; 0 = memory_bytes is the limit; -1 = no hard limit
  double node_cpu_share = 0;          ///< of the node's whole CPU, 0 to 1; 0 = not told
  std::string cpuset_cpus;            ///< "0,2" for tasks with reserved cores, else ""
  std::string cpuset_cgroup;          ///< absolute path as the agent sent it; on v2 it is the task's cgroup
};

/// A mount that Nomad asks for: volume_mount, device plugins, CSI.
struct NomadMount {
  std::string task_path;
  std::string host_path;
  bool readonly = false;
  std::string propagation;  ///< "", "private", "host-to-task", "bidirectional"
};

struct NomadDevice {
  std::string task_path;
  std::string host_path;
  std::string permissions;  ///< subset of "rwm", "" = rwm
};

enum class NetworkMode { kHost, kGroup, kTask, kNone };

/// The network namespace that the agent made for the allocation.
struct NetworkIsolation {
  NetworkMode mode = NetworkMode::kHost;
  std::string path;  ///< netns file
  std::map<std::string, std::string> labels;
  std::string hosts_hostname;  ///< "" if the agent sent no hostsConfig
  std::string hosts_address;
};

struct Dns {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;
};

struct PortMapping {
  std::string label;
  std::int32_t value = 0;  ///< host port
  std::int32_t to = 0;     ///< port inside, 0 = the same
  std::string host_ip;
};

/// A port of the host that leads into a container.
struct PublishedPort {
  std::string host_ip;          ///< "" = every address of the host
  std::uint16_t host_port = 0;  ///< 0 = any that is free
  std::uint16_t container_port = 0;
  std::string protocol = "tcp";  ///< tcp, udp or sctp
  bool operator==(const PublishedPort&) const = default;
};

/// A network that the driver itself attaches the task to.
struct OwnNetwork {
  std::string name = "bridge";  ///< bridge, or cni/NAME
  std::vector<PublishedPort> ports;
  std::vector<std::string> ips;  ///< without a prefix
  std::string mac;
};

struct TaskSpec {
  TaskId id;
  std::string name;
  std::string alloc_id;
  std::string job_name;
  std::string job_id;
  std::string group_name;
  std::string namespace_name;
  std::string node_name;
  std::string node_id;
  TaskOptions options;
  std::map<std::string, std::string> env;
  std::string user;       ///< "" = the image's
  std::string alloc_dir;  ///< on the host; "" from the command line
  /// Command line only: the FIFO that the task reads its input from, "" = none. Its end is told by close_stdin().
  std::string stdin_path;
  /// FIFOs (or /dev/null) that the task's output goes to; opened by the shim, never read or written by us. Command
  /// line only: a logging program that the shim starts, "binary:///path?argument=value", for both.
  std::string stdout_path;
  std::string stderr_path;
  Resources resources;
  std::vector<NomadMount> mounts;
  std::vector<NomadDevice> devices;
  std::optional<NetworkIsolation> network;
  std::optional<Dns> dns;
  std::optional<OwnNetwork> own_network;  ///< command line only
  std::vector<PortMapping> ports;
  /// Command line only: the file of another container's pid namespace, which this one shares; "" = as the options say.
  std::string pid_namespace;
  /// Started by a person: the reaper leaves it alone as long as it is wanted.
  bool from_command_line = false;
  std::string stop_signal;  ///< command line only; "" = the image's
  /// Command line only: where the writable layer of an earlier run of this container is kept while there is no record
  /// of it. A run that has ended is started again on what it had written; "" = an earlier run is not looked at.
  std::string kept_dir;
  /// Command line only (`run --rm`): once the starting process is gone, so may the task be.
  bool remove_on_exit = false;
};

}  // namespace driver
