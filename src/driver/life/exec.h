// A command inside a running task: ExecTask, ExecTaskStreaming.
//
// data      This is the one place where a task's bytes go through the plugin: an exec has no other way to its caller.
//           Each pipe is read 16 KiB at a time on the loop, and not at all while the caller is slower than the command;
//           what is held is bounded by the caller's window, whatever the command writes.
// threads   A running command costs none. Starting one, changing its terminal and deleting it are blocking calls of the
//           shim; they run on ExecHost's threads.
// end       The command's exit comes from the shim. Without a terminal its output is passed on to the end first.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/crew.h"
#include "base/loop.h"
#include "driver/life/task.h"
#include "driver/life/turns.h"
#include "driver/values/exec_session.h"

namespace driver {

/// Lets few commands of one task start at once; the others wait without a thread.
///
/// A shim starts them one after the other anyway, with its lock for events held. The more of them wait for that lock,
/// the less often its handler of exits gets it; once 32 exits wait for the handler, each further one takes a second,
/// and all calls for the container, Kill too, wait with it (containerd 1.6 and 1.7). 64 starts at once took 30 s and
/// mostly failed; through the gate they take 3 s.
///   threads  the loop's
class ExecGate {
 public:
  static constexpr int kStartsOfTaskMax = 2;

  /// Runs `start` now or later; leave() must follow when it is done.
  void enter(const std::string& container_id, std::function<void()> start);
  void leave(const std::string& container_id);

 private:
  struct Task {
    int starting = 0;
    std::deque<std::function<void()>> waiting;
  };
  std::map<std::string, Task> tasks_;  // with something in them
};

/// What all commands of one driver share. Outlives every session.
struct ExecHost {
  static constexpr std::size_t kSessionsMax = 1024;  ///< 4 descriptors each
  static constexpr std::size_t kThreadsMax = 32;     ///< calls of shims at once

  ExecHost(base::Loop& l, Turns& t) : loop(l), turns(t) {}
  base::Loop& loop;
  Turns& turns;
  ExecGate gate;
  std::atomic<std::size_t> sessions{0};
  /// Refuses a command for which no thread can be had: its caller waits.
  base::Crew work{{.name = "execs", .threads_max = kThreadsMax, .queue_max = 4 * kSessionsMax}};
  /// What follows a command's end, for which nobody waits, is never refused.
  base::Crew ends{{.name = "exec ends", .threads_max = kThreadsMax, .queue_max = kSessionsMax, .retry_on = &loop}};
  /// Killing never waits for a shim, so it never waits behind one that hangs.
  base::Crew kills{{.name = "exec kills", .threads_max = 2, .queue_max = kSessionsMax, .retry_on = &loop}};
};

/// Driver::exec for a task that was found.
base::Result<std::shared_ptr<ExecSession>> run_exec(ExecHost& host, std::shared_ptr<Task> task, ExecSpec spec,
                                                    ExecCallbacks callbacks);

}  // namespace driver
