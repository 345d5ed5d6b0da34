// The values that name and configure one container's shim.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace shim {

/// containerd's word for a set of ids; the shim puts it below the runtime's root: <runtime_root>/<namespace>/<id>.
inline constexpr char kNamespace[] = "containerd-driver";

inline constexpr std::size_t kContainerIdBytesMax = 76;  ///< as containerd; it is a file and cgroup name
inline constexpr std::size_t kExecIdBytesMax = 64;
inline constexpr std::size_t kSocketPathBytesMax = 106;  ///< the shim's own limit

/// Everything that names one shim and its container, decided before anything is made.
struct ShimNames {
  std::string container_id;  ///< [A-Za-z0-9]+([._-][A-Za-z0-9]+)*, at most 76 bytes; also the bundle's base name
  std::string bundle_dir;    ///< absolute: <state_dir>/bundles/<container id>
  std::string socket_path;   ///< absolute, at most 106 bytes
  std::string cgroup_name;   ///< where the shim process itself lives: "containerd-driver/<id>" (cgroup.h)
};

/// kInvalidArgument, naming what is wrong, unless the names keep the rules above.
base::Status check_names(const ShimNames& names);

struct ShimOptions {
  std::string shim_binary;                           ///< absolute
  std::string runtime_binary;                        ///< absolute path of runc, crun, …
  std::string runtime_root;                          ///< <state_dir>/runtime: runc's --root, less the namespace
  std::string events_socket = "/dev/null";           ///< TTRPC_ADDRESS; "/dev/null" = no event server. Never a path
                                                     ///< that does not exist: each event would then wait 5 s
  std::chrono::milliseconds launch_timeout{10'000};  ///< exec to first reply; 10 to 25 ms on an idle machine
  std::chrono::milliseconds call_timeout{60'000};    ///< Create/Start/Exec/Delete: a shorter one kills runc half-way
};

struct ContainerExit {
  std::uint32_t exit_status = 0;  ///< exit code, or 128 + signal
  std::optional<std::chrono::system_clock::time_point> exited_at;
};

}  // namespace shim
