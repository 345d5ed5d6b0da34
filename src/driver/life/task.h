// One task that this process knows: its record, its shim, and who waits for its end.
//
// A task's exit has one source: the shim's reply to Wait. A shim that lives but does not answer keeps its task, and is
// asked again. When the shim is gone its container is killed and the exit is reported as unknown, never as success.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "base/context.h"
#include "base/crew.h"
#include "base/loop.h"
#include "base/subscription.h"
#include "driver/life/task_store.h"
#include "driver/values/status.h"
#include "shim/shim.h"

namespace driver {

/// How a record gets to the disk.
using RecordWriter = std::function<base::Status(const Record&)>;

/// threads  any; callbacks as in driver.h. What blocks says so: everything else may be called on the loop.
class Task : public std::enable_shared_from_this<Task> {
 public:
  /// `background` runs what follows an exit, `events` is told what the operator should know. All outlive every task.
  Task(base::Loop& loop, base::Crew& background, base::Hub<TaskEvent>& events, Record record,
       std::shared_ptr<shim::Shim> shim, RecordWriter write = TaskStore::write);
  ~Task();
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  /// As it is on disk, unless writing failed. Never waits for the disk.
  Record record() const { return *record_.lock(); }
  /// Null for a task that had already ended when it was recovered, and while its shim does not answer.
  std::shared_ptr<shim::Shim> shim() const { return *shim_.lock(); }
  bool running() const { return record_.lock()->phase == Phase::kRunning; }

  /// Asks the shim for the exit. Once per task, before the container is started.
  void watch_exit();
  /// The same for a shim that was adopted; what an earlier process ran in the task is cleared away in the background.
  void take_over();
  /// For a task whose shim could not be reached when it was recovered: goes on trying in the background.
  void retry_adoption(base::Error why);
  /// Takes the task's end from nobody any more: kills its shim and what is left of it, and says that the exit is
  /// unknown.
  void abandon_shim(const base::Error& why);
  /// The container runs: says so on disk. Blocks for the write.
  base::Status mark_running();

  /// Calls back once with the exit, at once if the task has ended.
  base::Subscription on_exit(std::function<void(const ExitResult&)> callback);
  /// Blocks until the task has ended or ctx does.
  base::Result<ExitResult> wait_exit(const base::Context& ctx);

  /// To the init process, by its pidfd, which is returned. By way of the shim, and then without a descriptor, only if
  /// the process could not be identified when it was made.
  ///   blocks  for the shim only
  ///   errors  kNotFound: the task has ended, though its exit may not be known yet
  base::Result<base::Fd> send_signal(const base::Context& ctx, int signal);

  /// To the task's operator, as a task event.
  void tell(std::string message, std::map<std::string, std::string> annotations = {});
  /// Something says that the kernel may have killed a process of the task for want of memory: looks, in the background.
  void look_for_oom();

  /// From here on a lost shim is expected and means nothing.
  void expect_end() { ending_ = true; }

 private:
  void shim_answered(base::Result<shim::ContainerExit> answer);
  void shim_lost(const base::Error& why);
  bool adopt_again(const Record& record);
  void retry_later();
  void look_for_oom_again(std::size_t looks);
  /// Tells of kills that were not told yet; returns how many there were.
  std::uint64_t tell_oom(bool ended);
  base::Status change_record(const std::function<bool(Record&)>& change);
  void give_back_its_network();
  void finish(ExitResult exit, std::optional<WallTime> exited_at);

  base::Loop& loop_;
  base::Crew& background_;
  base::Hub<TaskEvent>& events_;
  const RecordWriter write_;
  std::mutex writing_;                    ///< held across the write, so that records reach the disk in order
  mutable base::Guarded<Record> record_;  ///< never held across anything; changed by who holds writing_
  mutable base::Guarded<std::shared_ptr<shim::Shim>> shim_;
  base::Hub<ExitResult> exits_;
  base::OneShot<ExitResult> exit_;
  std::atomic<bool> ending_{false};
  base::Guarded<std::uint64_t> oom_kills_told_;
  std::atomic<unsigned> retries_{0};
  /// Loop thread only, shared so that it can be destroyed there.
  const std::shared_ptr<std::unique_ptr<base::Timer>> retry_timer_;
  const std::shared_ptr<std::unique_ptr<base::Timer>> oom_timer_;
};

/// 137 → {137, signal 9}; 3 → {3}.
ExitResult exit_from_status(std::uint32_t exit_status);

}  // namespace driver
