// Ending a task: a signal, some time to act on it, SIGKILL.
//
// Waiting costs no thread, however many tasks are being stopped and however long they take: a timer of the loop, a
// subscription to the task's exit and a watch on its init process. What does block (a signal by way of the shim,
// emptying the container's cgroup, killing what a dead shim left) runs on a few threads of StopHost.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "base/crew.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/subscription.h"
#include "driver/life/task.h"

namespace driver {

/// What all stops of one driver share. Outlives them.
struct StopHost {
  explicit StopHost(base::Loop& l) : loop(l) {}
  base::Loop& loop;
  base::Crew work{{.name = "stops", .threads_max = 8, .queue_max = 100'000, .retry_on = &loop}};
  // Of each step, in order.
  std::chrono::seconds signal_timeout{10};              ///< by way of the shim, when init cannot be signalled directly
  std::chrono::seconds kill_timeout{10};                ///< only a process in uninterruptible sleep needs longer
  std::chrono::milliseconds shim_answer_timeout{3000};  ///< a process's end to its shim's word of it; usually 5 ms
};

/// Called once: OK when the task has ended, and its exit is known.
using StopCallback = std::function<void(const base::Status&)>;

/// Sends `signal`, waits for `timeout`, and kills every process of the container if the task still runs. A shim that
/// does not report the exit of a dead task is given up (Task::abandon_shim).
///   threads  any; neither call blocks. The callback runs on the loop's thread and must not block
///   errors   of the callback: kDeadlineExceeded SIGKILL did not end it · errno codes of signalling
///   returns  the stop: dropping it ends the waiting without a callback, and then the task is not killed
base::Subscription stop_task(StopHost& host, std::shared_ptr<Task> task, int signal, std::chrono::nanoseconds timeout,
                             StopCallback on_done);

/// The same from the SIGKILL on.
base::Subscription kill_task(StopHost& host, std::shared_ptr<Task> task, StopCallback on_done);

}  // namespace driver
