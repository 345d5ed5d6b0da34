// One container's shim: containerd-shim-runc-v2 started directly (no `start` action, no containerd), spoken to over
// ttrpc on a socket that we made and the shim inherited as descriptor 3.
//
// life   spawn → ready (or adopt after a restart) → create → wait (subscription) → start → kill/exec … → remove →
//        shutdown
// truth  the reply to Wait; events are hints. A Create or Start of unknown outcome is followed by delete_forced.
// spec   the shim's own protocol: docs/shim.md
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/loop.h"
#include "base/process.h"
#include "base/result.h"
#include "shim/bundle.h"
#include "shim/held_stdio.h"
#include "shim/types.h"

namespace shim {

enum class ContainerStatus { kUnknown, kCreated, kRunning, kStopped, kPaused };
struct ContainerState {
  ContainerStatus status = ContainerStatus::kUnknown;
  pid_t pid = 0;
  ContainerExit exit;  ///< kStopped
};

/// A live connection to one shim. Cheap to hold: no thread, one socket, and a pidfd if we spawned it. Keep one for as
/// long as the shim lives: closing it kills the runtime (runc) that the shim may be running for us. threads  any,
/// except the loop's for methods that take a Context. Calls for one container are the caller's to serialise. errors
/// besides those listed, of every call: the shim's own code and words · kUnavailable the shim is gone ·
///          kDeadlineExceeded, kCancelled ctx or ShimOptions::call_timeout ended. After the last two the outcome is
///          unknown.
class Shim {
 public:
  /// Starts the shim in names.bundle_dir (prepare_bundle has run) and returns while it comes up, which takes about
  /// 10 ms: prepare the rest of the start meanwhile, then call ready(). The process: own session, own cgroup (out
  /// of all of ours once create() has run), oom_score_adj -999 at best (the kernel kills tasks first), none of our
  /// descriptors, signals at default, a built environment. It is our child and reaped for as long as this object lives.
  ///   errors  kNotFound no such program · kPermissionDenied · errno codes; there is no process then
  static base::Result<std::shared_ptr<Shim>> spawn(base::Loop& loop, const ShimOptions& options,
                                                   const ShimNames& names);

  /// Waits for the shim's first reply, at most ShimOptions::launch_timeout. Once it succeeded it does so at once.
  ///   errors  kFailedPrecondition it is not a usable shim (its last words are quoted) · kDeadlineExceeded, kCancelled.
  ///           After an error the process is gone; the files are delete_forced's business.
  base::Status ready(const base::Context& ctx);

  /// spawn and ready.
  static base::Result<std::shared_ptr<Shim>> launch(const base::Context& ctx, base::Loop& loop,
                                                    const ShimOptions& options, const ShimNames& names);

  /// Connects to a shim that an earlier process started.
  ///   errors  kNotFound nobody listens any more · kDeadlineExceeded it does not answer (stopped, or very busy): it and
  ///           its container may be well · kUnavailable it closed the connection
  static base::Result<std::shared_ptr<Shim>> adopt(const base::Context& ctx, base::Loop& loop,
                                                   const ShimOptions& options, const ShimNames& names);

  /// Neither ends nor kills the shim.
  ~Shim();
  Shim(const Shim&) = delete;
  Shim& operator=(const Shim&) = delete;

  base::ProcessId process() const;  ///< the shim itself, to be recorded

  /// `runc create`. The rootfs is already mounted; config.json's root.path is its absolute path. Returns init's pid.
  base::Result<pid_t> create(const base::Context& ctx, const Stdio& stdio);
  /// `runc start`. Never retried: a second Start can kill the shim.
  base::Status start(const base::Context& ctx);
  /// From the shim's memory: no runtime runs. kNotFound: nothing was created, or it was removed.
  base::Result<ContainerState> state(const base::Context& ctx);
  /// Subscribes to the end of the container ("" = init) or of an exec. `callback` runs once, on the loop thread: with
  /// the exit, or with kUnavailable when the shim is gone (kNotFound: no such container or exec). Before start() is
  /// fine; ready() must have succeeded.
  void wait(const std::string& exec_id, std::function<void(base::Result<ContainerExit>)> callback);
  /// To init or to an exec; kNotFound when it has ended. `all`: every process of the container. Runs `runc kill` for
  /// init (about 12 ms): a signal to a known pid by pidfd is faster and means the same.
  base::Status kill(const base::Context& ctx, const std::string& exec_id, int signal, bool all);

  /// `process_json` is an OCI Process. exec_id: [a-z0-9]+, at most 64 bytes. Nothing runs before start_exec.
  base::Status exec(const base::Context& ctx, const std::string& exec_id, const std::string& process_json,
                    const Stdio& stdio);
  /// Never retried, as start(). After an error the exec still has to be removed.
  base::Result<pid_t> start_exec(const base::Context& ctx, const std::string& exec_id);
  base::Status resize(const base::Context& ctx, const std::string& exec_id, std::uint32_t width, std::uint32_t height);
  base::Status close_stdin(const base::Context& ctx, const std::string& exec_id);
  /// Freezes all processes of the container, and lets them run again. Once more is an error of the runtime.
  base::Status pause(const base::Context& ctx);
  base::Status resume(const base::Context& ctx);
  /// All processes of the container, by the numbers that the host knows them by.
  base::Result<std::vector<pid_t>> processes(const base::Context& ctx);
  /// Changes limits of the running container: `resources_json` is OCI LinuxResources; what it leaves out stays.
  base::Status update(const base::Context& ctx, const std::string& resources_json);

  /// Deletes an ended exec, or ("") the ended container. Unknown = OK, with an exit without time. Waits 2 to 10 s for
  /// output to drain, then drops the rest.
  base::Result<ContainerExit> remove(const base::Context& ctx, const std::string& exec_id);

  /// Ends the shim: Shutdown, and SIGKILL by pidfd if it is not gone after 3 s. Its socket and cgroup are removed.
  base::Status shutdown(const base::Context& ctx);

  /// Called once on the loop thread when the connection is lost (within ms of the shim's death), not by ~Shim.
  void on_closed(std::function<void()> callback);

 private:
  struct Impl;
  explicit Shim(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

/// Undoes everything that launch/create made, by name only, whether or not the shim lives, and makes sure that it is
/// undone: kills the shim and what it runs (its cgroup; the recorded process), kills the container (all of its cgroup),
/// has its state removed (`<shim> delete`, else `<runtime> delete --force`, else by hand), unlinks the socket, removes
/// the shim's cgroup and the bundle. The bundle stays while something is mounted in it, which is the caller's to
/// unmount; that is no error: call remove_bundle afterwards. Idempotent, and quick when there is nothing to do.
///   in      recorded_shim of this boot only
///   errors  what could not be undone; all the rest has been, and a later call goes on
///   blocks  until ctx ends
base::Status delete_forced(const base::Context& ctx, const ShimOptions& options, const ShimNames& names,
                           const std::optional<base::ProcessId>& recorded_shim);

/// "1.6.20~ds1" from `<shim> -v`.
///   errors  kNotFound no such program · kFailedPrecondition it is not a runc-v2 shim · kDeadlineExceeded (10 s at
///   most)
base::Result<std::string> probe_version(const base::Context& ctx, const std::string& shim_binary);

}  // namespace shim
