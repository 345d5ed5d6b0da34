// The one way to start a program, and the one way to name a running process.
//
// A child gets exactly what is listed: its argv, a built environment, stdio, extra descriptors; everything else is
// closed (close_range), signals are at their defaults and unblocked, umask is 022, and it starts in the cgroups asked
// for. Processes are identified by pid + start time (+ boot id on disk) and signalled through a pidfd, so a recycled
// pid is never hit.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace base {

struct SpawnOptions {
  std::vector<std::string> argv;  ///< argv[0] is the absolute path of the program
  std::vector<std::string> env;   ///< complete, "K=V"; nothing is inherited
  std::string cwd = "/";
  int stdin_fd = -1;   ///< -1 = /dev/null
  int stdout_fd = -1;  ///< -1 = /dev/null
  int stderr_fd = -1;  ///< -1 = /dev/null
  /// Become descriptors 3, 4, ... of the child, in this order.
  std::vector<int> extra_fds;
  /// A cgroup v2 directory that the child is born in (CLONE_INTO_CGROUP); -1 = ours. Costs nothing.
  int cgroup_fd = -1;
  /// Descriptors of cgroup.procs files, open for writing: the child writes itself into each before exec, so it has
  /// never run anywhere else. The first write waits about 9 ms for the kernel (an RCU grace period), the others do not.
  std::vector<int> cgroup_procs_fds;
  std::optional<int> oom_score_adj;  ///< written to /proc/self/oom_score_adj before exec; failure to lower is ignored
  bool new_session = false;          ///< setsid(2)
  bool new_process_group = false;    ///< setpgid(0, 0)
  bool die_with_parent = false;      ///< PR_SET_PDEATHSIG SIGKILL
};

/// How a process ended.
struct ExitStatus {
  int exit_code = 0;  ///< 128 + signal if killed by one
  int signal = 0;     ///< 0 if it exited by itself
  bool success() const { return exit_code == 0; }
};

/// A child of ours. Reaped by wait() or, if still running at destruction, left to be reaped by whoever adopts it:
/// the destructor neither kills nor waits.
class Process {
 public:
  /// Starts the program. kNotFound / kPermissionDenied etc. when execve fails: the error names argv[0].
  ///   blocks  for the fork only
  static Result<Process> spawn(const SpawnOptions& options);

  Process(Process&&) = default;
  Process& operator=(Process&&) = default;

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  /// Gives the pidfd away (for a watch on the loop); wait() is then the new owner's business (see reap()).
  Fd release_pidfd() { return std::move(pidfd_); }

  /// Blocks until it exits or ctx ends; reaps it.
  Result<ExitStatus> wait(const Context& ctx);
  Status kill(int signal) const;

 private:
  Process(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_ = -1;
  Fd pidfd_;
};

/// Reaps an exited child through its pidfd without blocking; nullopt if it has not exited or is not our child.
std::optional<ExitStatus> reap(int pidfd);

struct RunResult {
  ExitStatus exit;
  std::string stdout_text;
  std::string stderr_text;
};
/// Of each output: what is more is an error, or is read and dropped, so that the program can end.
enum class Excess { kError, kDrop };
/// Runs a program to its end, feeding `input` and collecting both outputs. Its end is that of the process itself: what
/// it left behind in its process group is killed, and nobody waits for others that hold its outputs. When ctx ends or
/// an output passes `output_bytes_max` the group is killed and the error returned.
Result<RunResult> run(const Context& ctx, SpawnOptions options, std::string_view input, std::size_t output_bytes_max);
/// The same, which leaves in `result` what came before an error, too.
Status run_into(const Context& ctx, SpawnOptions options, std::string_view input, std::size_t output_bytes_max,
                Excess excess, RunResult& result);

/// A process that is not (or no longer) our child, by the pair that names it once per boot.
struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  ///< field 22 of /proc/<pid>/stat
  bool operator==(const ProcessId&) const = default;
};
/// kNotFound when there is no such process.
Result<ProcessId> identify(pid_t pid);
/// A pidfd of exactly that process; kNotFound when it is gone or the pid was recycled.
Result<Fd> open_pidfd(const ProcessId& id);
/// True only if it certainly has, or its number was reused: that a process cannot be looked up now, for want of a
/// descriptor, says nothing of it.
bool has_ended(const ProcessId& id);
/// kNotFound when it has exited.
Status send_signal(int pidfd, int signal);
/// Blocks until the process behind pidfd has exited (not necessarily been reaped), or ctx ends.
Status wait_exited(const Context& ctx, int pidfd);

/// /proc/sys/kernel/random/boot_id without newline; read once.
const std::string& boot_id();

/// "SIGTERM", "TERM" (any case), "15", "SIGRTMIN+3", "RTMAX-1" to a number; nullopt if it names no signal.
std::optional<int> signal_from_name(std::string_view name);
/// 15 to "SIGTERM"; "SIG<n>" if it has no name.
std::string signal_name(int signal);

}  // namespace base
