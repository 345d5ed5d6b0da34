// What an earlier process left of a task that is to be started now.
#pragma once

#include <functional>
#include <optional>

#include "base/context.h"
#include "base/result.h"
#include "driver/life/record.h"
#include "driver/life/task_store.h"

namespace driver {

struct ClaimDeps {
  const TaskStore& store;
  std::function<base::Status(const Record&)> undo;  ///< teardown()
  std::function<bool(const TaskId&)> is_known;      ///< whether the agent still speaks of this task
  bool again = false;  ///< a run that has ended is no answer: it is undone, and the way is free
};

/// The record of this very task if it came to run in this boot: then it is the task, even if it has ended since (the
/// agent repeats StartTask after a plugin's death). Otherwise nullopt, and the way is free: what a dead attempt left,
/// and an earlier start of the same task of the same allocation, are undone.
///   blocks  some seconds for a record that cannot be read, and for the undoing
///   errors  kUnavailable, kDataLoss, kFailedPrecondition: there is a record and it cannot be read; it may be running,
///           so nothing was touched · those of undo
base::Result<std::optional<Record>> claim_task(const base::Context& ctx, const ClaimDeps& deps, const Record& planned);

/// As TaskStore::find, but asks again for some seconds while the reason may pass (no descriptors, no memory).
TaskOnDisk find_patiently(const base::Context& ctx, const TaskStore& store, const std::string& container_id);

/// The error of an operation that keeps away from an unreadable task.
base::Error in_use_error(const std::string& container_id, const Unreadable& task);

}  // namespace driver
