#include "driver/life/reaper.h"

#include <filesystem>

#include "base/log.h"

namespace driver {

namespace {
using std::chrono::seconds;

// An agent that starts recovers all its tasks before it starts new ones, within seconds; a start that is repeated after
// a plugin's death comes at once. A minute is far beyond both and still short for a port or an address held in vain.
constexpr seconds kRecoveryTime{60};

bool exists(const std::string& path) {
  std::error_code ec;
  return std::filesystem::exists(path, ec);
}
}  // namespace

std::string orphan_reason(const Record& record, seconds uptime) {
  if (record.from_command_line) {
    if (record.boot_id != base::boot_id()) return record.remove_on_exit ? "the host was rebooted" : "";
    if (record.remove_on_exit && base::has_ended(record.owner)) return "the command that started it is gone";
    return "";
  }
  if (uptime < kRecoveryTime) return "";
  if (record.boot_id != base::boot_id()) return "the host was rebooted";
  if (record.phase == Phase::kStarting) return "its start was cut off";
  if (!record.alloc_dir.empty() && !exists(record.alloc_dir)) return "its allocation is gone";
  return "";
}

void Reaper::pass(const TaskStore& store, seconds uptime) {
  if (const auto folders = store.list(); !folders) {
    LOG_WARN("cannot look for orphaned tasks, will try again", {{"error", folders.error().message}});
  } else {
    std::map<std::string, std::string> still;
    for (const TaskFolder& folder : *folders) {
      visit(store, folder, uptime);
      if (const auto told = told_.find(folder.container_id); told != told_.end()) still.insert(*told);
    }
    told_ = std::move(still);
  }
  const auto emptied = store.empty_trash();
  if (!emptied) LOG_WARN("cannot empty the trash of tasks, will try again", {{"error", emptied.error().message}});
}

void Reaper::visit(const TaskStore& store, const TaskFolder& folder, seconds uptime) {
  if (const auto* unreadable = std::get_if<Unreadable>(&folder.task)) {
    return tell_unreadable(folder.container_id, unreadable->why);
  }
  told_.erase(folder.container_id);
  base::Status removed;
  if (const auto* record = std::get_if<Record>(&folder.task)) {
    if (deps_.is_known(record->id)) return;
    const std::string reason = orphan_reason(*record, uptime);
    if (reason.empty()) return;
    LOG_WARN("removing an orphaned task", {{"task", record->id.text}, {"reason", reason}});
    removed = deps_.undo(*record);
  } else if (uptime >= kRecoveryTime) {
    removed = store.discard_unwritten(folder.container_id, kRecoveryTime);
  }
  if (!removed) {
    LOG_WARN("cannot remove a task, will try again",
             {{"container", folder.container_id}, {"error", removed.error().message}});
  }
}

void Reaper::tell_unreadable(const std::string& container_id, const base::Error& why) {
  std::string& told = told_[container_id];
  if (told == why.message) return;
  told = why.message;
  LOG_ERROR("a task cannot be read: it is left as it is, and so are the images that it may use",
            {{"container", container_id}, {"error", why.message}});
}

}  // namespace driver
