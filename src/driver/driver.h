// The driver's verbs: what Nomad's driver protocol and the command line both call. Values in, values out.
//
// threads   Every method may be called from any thread except the loop's. Methods that take a Context block; the rest
//           answer at once. Callbacks run on any thread and must not block.
// state     A task's record on disk is the truth (life/record.h); this object only caches what is in it, so a new
//           Driver over the same data_dir can carry on where a killed one stopped.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/crew.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/subscription.h"
#include "driver/values/exec_session.h"
#include "driver/values/limit_changes.h"
#include "driver/values/options.h"
#include "driver/values/status.h"
#include "driver/values/task_spec.h"
#include "driver/values/usage.h"

namespace driver {

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

  /// For a command that acts on a task beside whoever started it: the task is known here, and stays whose it is.
  ///   errors  as recover · others: its shim does not answer
  base::Status attach(const base::Context& ctx, const TaskId& id);

  /// Calls back exactly once, when the task has ended (at once if it already has), until destroy().
  base::Result<base::Subscription> wait(const TaskId& id, std::function<void(const ExitResult&)> callback);

  /// Signal, wait for `timeout`, SIGKILL everything: life/stop.h. Calls back once when the task has ended, at once if
  /// it already has or is unknown. A start that is under way is cancelled. Waiting costs no thread.
  ///   signal   "" = the image's STOPSIGNAL, else SIGTERM
  ///   returns  the stop: dropping it ends the waiting without a callback, and then the task is not killed
  ///   errors   kInvalidArgument "Invalid signal: X"
  base::Result<base::Subscription> stop(const TaskId& id, std::chrono::nanoseconds timeout, const std::string& signal,
                                        std::function<void(const base::Status&)> on_done);

  /// Removes everything the task ever had. OK for unknown ids. Running and not force: kFailedPrecondition.
  base::Status destroy(const base::Context& ctx, const TaskId& id, bool force);

  /// The same for a task whose record cannot be read, by what follows from its container id. For a person who has
  /// looked: whatever still runs of it is killed.
  ///   errors  kNotFound: there is no such folder
  base::Status remove_unreadable(const base::Context& ctx, const std::string& container_id);

  /// Makes the network namespace of an allocation's group; one that is there already is kept. For an agent that leaves
  /// this to drivers (networks = "driver"), and connects the namespace itself.
  ///   errors  kInvalidArgument an id or a host name that cannot be one · by errno
  base::Result<GroupNetwork> create_network(const base::Context& ctx, const std::string& alloc_id,
                                            const std::string& hostname);
  /// Removes it. Nothing there = OK.
  base::Status destroy_network(const base::Context& ctx, const std::string& alloc_id);

  base::Result<TaskStatus> inspect(const TaskId& id);
  /// Every task with a record on disk, whoever started it. attributes["container_id"] is the short name that people
  /// use; attributes["problem"] says why a task is kUnreadable.
  ///   errors  by errno: the tasks cannot be listed
  base::Result<std::vector<TaskStatus>> list();

  /// kInvalidArgument "Invalid signal: X" for an unknown name.
  base::Status signal(const base::Context& ctx, const TaskId& id, const std::string& name);

  /// Freezes all processes of a running task, and lets them run again. list() and inspect() say attributes["paused"].
  ///   errors  kNotFound · kFailedPrecondition its shim is gone, it is paused already, or is not
  base::Status pause(const base::Context& ctx, const TaskId& id);
  base::Status resume(const base::Context& ctx, const TaskId& id);
  /// All processes of a running task, by the numbers that the host knows them by.
  ///   errors  kNotFound · kFailedPrecondition its shim is gone
  base::Result<std::vector<pid_t>> processes(const base::Context& ctx, const TaskId& id);
  /// Changes limits of a running task until its end; the next start has those of its spec again.
  ///   errors  as processes · kInvalidArgument limits that this node does not know
  base::Status update(const base::Context& ctx, const TaskId& id, const LimitChanges& changes);

  /// No more will come on the task's stdin_path: its writer has closed it.
  ///   errors  kNotFound · kFailedPrecondition its shim is gone
  base::Status close_stdin(const base::Context& ctx, const TaskId& id);
  /// The size of the terminal of a task with `tty`.
  ///   errors  as close_stdin
  base::Status resize(const base::Context& ctx, const TaskId& id, TerminalSize size);

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
