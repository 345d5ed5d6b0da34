// The driver's verbs: what Nomad's driver protocol and the command line both call. Values in, values out.
//
// threads   Every method may be called from any thread except the loop's. Methods that take a Context block; the rest
//           answer at once. Callbacks run on any thread and must not block.
// state     A task's record on disk is the truth (record.h); this object only caches what is in it, so a new Driver
//           over the same data_dir can carry on where a killed one stopped.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/crew.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/subscription.h"
#include "driver/config.h"
#include "driver/task_spec.h"

namespace driver {

using WallTime = std::chrono::system_clock::time_point;

struct ExitResult {
  int exit_code = 0;  ///< 128 + signal if killed by one
  int signal = 0;
  bool oom_killed = false;
  std::string error;  ///< non-empty: the exit is unknown or abnormal, in words; never with exit_code 0
};

enum class TaskState { kUnknown, kRunning, kExited };

struct TaskStatus {
  TaskId id;
  std::string name;
  TaskState state = TaskState::kUnknown;
  std::optional<WallTime> started_at;
  std::optional<WallTime> completed_at;
  std::optional<ExitResult> exit;
  std::map<std::string, std::string> attributes;  ///< image digest, runtime, cgroup, shim pid, …
};

enum class Health { kUndetected, kUnhealthy, kHealthy };

struct Fingerprint {
  std::map<std::string, std::string> attributes;  ///< "driver.containerd-driver.…"; "" removes one
  Health health = Health::kUndetected;
  std::string description;  ///< stable text: a change makes a node event
  bool operator==(const Fingerprint&) const = default;
};

struct TaskEvent {
  TaskId id;
  std::string alloc_id;
  std::string task_name;
  WallTime time;
  std::string message;
  std::map<std::string, std::string> annotations;
};

struct CpuUsage {
  double system_percent = 0;
  double user_percent = 0;
  double percent = 0;      ///< 100 = one core
  double total_ticks = 0;  ///< MHz
  std::uint64_t throttled_periods = 0;
  std::uint64_t throttled_ns = 0;
};

struct MemoryUsage {
  std::uint64_t rss = 0;
  std::uint64_t cache = 0;
  std::uint64_t swap = 0;
  std::uint64_t usage = 0;
  std::uint64_t max_usage = 0;
  std::uint64_t kernel_usage = 0;
  std::uint64_t kernel_max_usage = 0;
  bool has_max_usage = false;     ///< v1 always, v2 where memory.peak exists
  bool has_kernel_usage = false;  ///< v1 only
};

struct TaskStats {
  WallTime time;
  CpuUsage cpu;
  MemoryUsage memory;
};

struct TerminalSize {
  std::uint32_t height = 0;  ///< rows; 0 = not known
  std::uint32_t width = 0;   ///< columns
};

/// A command to run inside a task, with the task's own user, environment, directory, limits and capabilities.
struct ExecSpec {
  std::vector<std::string> command;
  bool tty = false;                     ///< a terminal of its own: stderr is stdout, and its end is the command's end
  bool has_stdin = false;               ///< else it reads /dev/null
  TerminalSize size;                    ///< at the start
  std::chrono::nanoseconds timeout{0};  ///< from the call on, then it is killed; 0 = none
  /// How long output is waited for, without any, after the command's end: a process that it left behind may hold the
  /// pipes. nullopt = for their end, as pipes of a shell are.
  std::optional<std::chrono::milliseconds> drain_after_exit;
};

/// Clients of an agent send a heartbeat every 10 s, and the agent passes it on. It does not pass on that they are gone.
inline constexpr std::chrono::seconds kExecSilenceMax{35};

enum class ExecStream { kStdout, kStderr };

/// What a command says. On the loop's thread, must not block.
struct ExecCallbacks {
  /// Bytes as they came. False asks for a pause until resume_output().
  std::function<bool(ExecStream, std::string_view)> on_output;
  /// All that write_stdin() took has been passed on, after it returned false. May be empty.
  std::function<void()> on_stdin_drained;
  /// Once, and the last: how it ended. A command that cannot be run has ended with 127 or 126, and says why on stderr.
  ///   errors  kFailedPrecondition the task does not run · kDeadlineExceeded, kCancelled: it was killed · others
  std::function<void(base::Result<ExitResult>)> on_end;
};

/// A command that runs inside a task. Dropping it does not end the command; cancel() does.
/// threads  the loop's, but for cancel(). All are no-ops after the end.
class ExecSession {
 public:
  virtual ~ExecSession() = default;
  /// False asks for a pause until on_stdin_drained: a command may never read.
  virtual bool write_stdin(std::string_view data) = 0;
  virtual void close_stdin() = 0;
  virtual void resize(TerminalSize size) = 0;
  virtual void resume_output() = 0;
  /// The caller lives. One that has said so once, and then says nothing for kExecSilenceMax, is gone: as cancel().
  virtual void heartbeat() = 0;
  /// Kills the command and its children. Any thread.
  virtual void cancel() = 0;
};

/// What the agent tells about the node in SetConfig; all zero in its validating instance.
struct NodeInfo {
  double core_mhz = 0;  ///< total_compute / cores, for ticks; 0 = measure from cpuinfo
  double total_compute_mhz = 0;
};

/// What StartTask returns to be stored by the agent and handed back to recover(). Opaque to it; the record on disk is
/// what really counts, this is the way to find it.
struct StartedTask {
  std::string driver_state;
};

class Driver {
 public:
  /// The loop and crew outlive the driver. No side effects on disk or processes until the first task call.
  Driver(base::Loop& loop, base::Crew& crew);
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  /// Validates and takes the configuration; the last call wins. Looks for image verifiers, and at nothing else of the
  /// host.
  ///   errors  as find_image_verifier: then the old configuration stays
  base::Status configure(PluginOptions options, NodeInfo node);

  /// Looks at the host now: shim, runtime, directories, rights.
  Fingerprint fingerprint(const base::Context& ctx);
  /// Calls back at once with the present state, then on change; looks every 30 s, every 10 s while not healthy.
  base::Subscription watch_fingerprint(std::function<void(const Fingerprint&)> callback);

  /// Pulls if needed, creates and starts. Idempotent per task id: a second call for a started task returns its
  /// handle; what a dead attempt left is undone first. On error nothing is left behind.
  ///   blocks  for the pull (image_pull_timeout) and the start
  ///   errors  kUnavailable, kDeadlineExceeded, kResourceExhausted, kAborted: worth a retry; anything else: not
  base::Result<StartedTask> start(const base::Context& ctx, const TaskSpec& spec);

  /// Takes a running (or meanwhile ended) task back after a restart. Known id: OK at once.
  ///   errors  kNotFound: nothing of it is on this host (rebooted, or destroyed)
  base::Status recover(const base::Context& ctx, const TaskId& id, const std::string& driver_state);

  /// Calls back exactly once, when the task has ended (at once if it already has), until destroy().
  base::Result<base::Subscription> wait(const TaskId& id, std::function<void(const ExitResult&)> callback);

  /// Signal, wait for `timeout`, SIGKILL everything. OK for a task that has ended or is unknown.
  ///   signal  "" = the image's STOPSIGNAL, else SIGTERM; kInvalidArgument if it names none
  base::Status stop(const base::Context& ctx, const TaskId& id, std::chrono::nanoseconds timeout,
                    const std::string& signal);

  /// Removes everything the task ever had. OK for unknown ids. Running and not force: kFailedPrecondition.
  base::Status destroy(const base::Context& ctx, const TaskId& id, bool force);

  base::Result<TaskStatus> inspect(const TaskId& id);
  /// Every task with a record on disk, whoever started it. attributes["container_id"] is the short name that people
  /// use.
  base::Result<std::vector<TaskStatus>> list();

  /// kInvalidArgument "Invalid signal: X" for a name that is none.
  base::Status signal(const base::Context& ctx, const TaskId& id, const std::string& name);

  /// Runs a command inside the task. Never blocks, and costs no thread while the command runs.
  ///   errors  kNotFound · kInvalidArgument no command · kResourceExhausted too many run already
  base::Result<std::shared_ptr<ExecSession>> exec(const TaskId& id, ExecSpec spec, ExecCallbacks callbacks);

  /// Calls back with the first sample at once, then each interval, until the task ends or the subscription does;
  /// `on_end` says that no more will come.
  base::Result<base::Subscription> stats(const TaskId& id, std::chrono::nanoseconds interval,
                                         std::function<void(const TaskStats&)> callback, std::function<void()> on_end);

  base::Subscription events(std::function<void(const TaskEvent&)> callback);

  /// The configuration in force.
  std::shared_ptr<const PluginOptions> options() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace driver
