// One container's shim: containerd-shim-runc-v2 started directly (no `start` action, no containerd), spoken to over
// ttrpc on a socket that we made and the shim inherited as descriptor 3.
//
// life   launch (or adopt after a restart) → create → wait (subscription) → start → kill/exec … → delete → shutdown
// truth  the reply to Wait; events are hints. A Create or Start of unknown outcome is followed by delete_forced.
// spec   the shim's own protocol: docs/shim.md
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/loop.h"
#include "base/process.h"
#include "base/result.h"

namespace shim {

/// Everything that names one shim and its container, decided before anything is made.
struct ShimNames {
  std::string container_id;  ///< [A-Za-z0-9]+([._-][A-Za-z0-9]+)*, at most 76 bytes; also the bundle's base name
  std::string bundle_dir;    ///< <state_dir>/bundles/<container id>
  std::string socket_path;   ///< at most 106 bytes
  std::string cgroup_name;   ///< where the shim process itself lives below each hierarchy: "containerd-driver/<id>"
};

struct ShimOptions {
  std::string shim_binary;      ///< absolute
  std::string runtime_binary;   ///< absolute path of runc, crun, …
  std::string runtime_root;     ///< <state_dir>/runtime: runc's --root; "/<namespace>" is appended by the shim
  std::string events_socket;    ///< TTRPC_ADDRESS; "/dev/null" = no event server
  std::chrono::milliseconds launch_timeout{10'000};  ///< exec to first reply; 10 to 25 ms on an idle machine
  std::chrono::milliseconds call_timeout{60'000};    ///< Create/Start/Exec/Delete: a shorter one kills runc half-way
};

struct ContainerExit {
  std::uint32_t exit_status = 0;  ///< exit code, or 128 + signal
  std::optional<std::chrono::system_clock::time_point> exited_at;
};

struct Stdio {
  std::string stdin_path;   ///< "" = /dev/null
  std::string stdout_path;  ///< FIFO or file
  std::string stderr_path;
  bool terminal = false;
};

enum class ContainerStatus { kUnknown, kCreated, kRunning, kStopped, kPaused };
struct ContainerState {
  ContainerStatus status = ContainerStatus::kUnknown;
  pid_t pid = 0;
  ContainerExit exit;
};

/// A live connection to one shim. Cheap to hold: no thread, one socket, one pidfd.
/// threads  any, except the loop's for methods that take a Context
class Shim {
 public:
  /// Starts the shim in names.bundle_dir (write_bundle has run). The process: own session, own cgroup, oom_score_adj
  /// -999 at best (the kernel kills tasks first), none of our descriptors, signals at default, a built environment.
  ///   errors  kNotFound no such program · kFailedPrecondition it is not a usable shim (its last log line is quoted) ·
  ///           kDeadlineExceeded. On error the process is gone; the files are teardown's business.
  static base::Result<std::shared_ptr<Shim>> launch(const base::Context& ctx, base::Loop& loop,
                                                    const ShimOptions& options, const ShimNames& names);

  /// Connects to a shim that an earlier process started. kNotFound when nobody listens any more.
  static base::Result<std::shared_ptr<Shim>> adopt(const base::Context& ctx, base::Loop& loop,
                                                   const ShimOptions& options, const ShimNames& names);

  ~Shim();

  base::ProcessId process() const;  ///< the shim itself, to be recorded

  /// `runc create`. The rootfs is already mounted at <bundle>/rootfs. Returns init's pid.
  base::Result<pid_t> create(const base::Context& ctx, const Stdio& stdio);
  /// `runc start`. Never retried: a second Start can kill the shim.
  base::Status start(const base::Context& ctx);
  base::Result<ContainerState> state(const base::Context& ctx);
  /// Subscribes to the end of the container ("" = init) or of an exec. Called once, on the loop thread: with the exit, or
  /// with kUnavailable when the shim is gone.
  void wait(const std::string& exec_id, std::function<void(base::Result<ContainerExit>)> callback);
  /// To init or to an exec; kNotFound when it has ended. `all`: every process of the container.
  base::Status kill(const base::Context& ctx, const std::string& exec_id, int signal, bool all);

  /// `process_json` is an OCI Process. exec_id: [a-z0-9]+.
  base::Status exec(const base::Context& ctx, const std::string& exec_id, const std::string& process_json,
                    const Stdio& stdio);
  base::Result<pid_t> start_exec(const base::Context& ctx, const std::string& exec_id);
  base::Status resize(const base::Context& ctx, const std::string& exec_id, std::uint32_t width, std::uint32_t height);
  base::Status close_stdin(const base::Context& ctx, const std::string& exec_id);
  /// Deletes an ended exec, or ("") the ended container. Unknown = OK. Waits for output to drain.
  base::Result<ContainerExit> remove(const base::Context& ctx, const std::string& exec_id);

  /// Ends the shim: Shutdown, then (3 s) SIGKILL by pidfd; reaps it if it is our child. Its socket is unlinked.
  base::Status shutdown(const base::Context& ctx);

  /// Called once on the loop thread when the connection is lost.
  void on_closed(std::function<void()> callback);

 private:
  struct Impl;
  explicit Shim(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

/// Writes config.json, rootfs/, log (a plain file), address: everything the shim expects in its bundle. The directory
/// and its parents get 0711 for the bundle (user namespaces must traverse) and files 0600. Idempotent.
base::Status write_bundle(const ShimNames& names, const std::string& config_json);

/// The last lines of <bundle>/log and log.json that explain a failure, "" if none; at most 2 KiB.
std::string bundle_log_tail(const ShimNames& names);

/// Undoes everything that launch/create made, by name only, whether or not the shim lives: shim killed through its
/// cgroup and socket, container killed (`<shim> delete`, else the runtime's delete --force, else SIGKILL to its cgroup),
/// socket unlinked, shim cgroups removed, bundle removed. The rootfs must be unmounted afterwards by the caller if still
/// there; the bundle is only removed when nothing is mounted in it. Idempotent.
///   blocks  until ctx ends
base::Status delete_forced(const base::Context& ctx, const ShimOptions& options, const ShimNames& names,
                           const std::optional<base::ProcessId>& recorded_shim);

/// "1.6.20~ds1" from `<shim> -v`; errors when the program is missing or is not a runc-v2 shim.
base::Result<std::string> probe_version(const base::Context& ctx, const std::string& shim_binary);

}  // namespace shim
