// Finds what nobody will ask for again: tasks whose start was cut, whose agent forgot them, whose host was rebooted.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "driver/life/record.h"
#include "driver/life/task_store.h"

namespace driver {

/// What is known of those who might still ask for a task.
struct Watched {
  std::chrono::seconds uptime{0};  ///< how long this process has been looking: an agent recovers its tasks in this time
  /// After this uptime a task whose agent has not asked for it is dangling; unset: such tasks are not looked for.
  std::optional<std::chrono::seconds> dangling_after = {};
};

/// Why a record that no live task stands for may go; "" = it must stay. Pure but for a look at two paths and a process.
/// A task that another living process (a second plugin, a command) started or recovered is that one's.
std::string orphan_reason(const Record& record, const Watched& watched);

inline constexpr std::string_view kDanglingReason = "no agent has asked for it";

/// threads  one pass at a time
class Reaper {
 public:
  struct Deps {
    std::function<bool(const TaskId&)> is_known;      ///< whether this process has the task, or was asked for it
    std::function<base::Status(const Record&)> undo;  ///< teardown()
  };
  explicit Reaper(Deps deps) : deps_(std::move(deps)) {}

  /// Undoes every orphan that nobody knows, removes folders without a record, and empties the trash. A task that cannot
  /// be read is left alone and told in the log, once for each reason.
  ///   dry_run  dangling tasks are told, once each, and left alone
  void pass(const TaskStore& store, const Watched& watched, bool dry_run = false);

 private:
  struct Pass {
    const TaskStore& store;
    const Watched& watched;
    bool dry_run;
  };
  void visit(const Pass& pass, const TaskFolder& folder);
  void tell_dangling(const std::string& container_id, const Record& record);
  void tell_unreadable(const std::string& container_id, const base::Error& why);

  const Deps deps_;
  std::map<std::string, std::string> told_;  ///< container id → what was said of it already
};

}  // namespace driver
