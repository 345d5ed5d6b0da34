// Finds what nobody will ask for again: tasks whose start was cut, whose agent forgot them, whose host was rebooted.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "base/result.h"
#include "driver/life/record.h"
#include "driver/life/task_store.h"

namespace driver {

/// Why a record that no live task stands for may go; "" = it must stay. Pure but for a look at two paths and a process.
///   uptime  how long this process has been looking: an agent that restarts recovers its tasks in this time
std::string orphan_reason(const Record& record, std::chrono::seconds uptime);

/// threads  one pass at a time
class Reaper {
 public:
  struct Deps {
    std::function<bool(const TaskId&)> is_known;      ///< whether this process has the task
    std::function<base::Status(const Record&)> undo;  ///< teardown()
  };
  explicit Reaper(Deps deps) : deps_(std::move(deps)) {}

  /// Undoes every orphan that nobody knows, removes folders without a record, and empties the trash. A task that cannot
  /// be read is left alone and told in the log, once for each reason.
  void pass(const TaskStore& store, std::chrono::seconds uptime);

 private:
  void visit(const TaskStore& store, const TaskFolder& folder, std::chrono::seconds uptime);
  void tell_unreadable(const std::string& container_id, const base::Error& why);

  const Deps deps_;
  std::map<std::string, std::string> told_;  ///< container id → why it cannot be read
};

}  // namespace driver
