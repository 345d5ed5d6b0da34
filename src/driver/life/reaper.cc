#include "driver/life/reaper.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"

namespace driver {

namespace {
using std::chrono::seconds;

// An agent that starts recovers all its tasks before it starts new ones, within seconds; a start that is repeated after
// a plugin's death comes at once. A minute is far beyond both and still short for a port or an address held in vain.
constexpr seconds kRecoveryTime{60};

/// Somebody else's who lives: its start may be under way.
bool of_another_process(const base::ProcessId& owner) {
  return owner.pid > 0 && owner.pid != ::getpid() && !base::has_ended(owner);
}

/// A disk that does not answer has lost nothing.
bool is_gone(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) != 0 && (errno == ENOENT || errno == ENOTDIR);
}
}  // namespace

std::string orphan_reason(const Record& record, const Watched& watched) {
  const bool same_boot = record.boot_id == base::boot_id();
  if (record.from_command_line) {
    if (!same_boot) return record.remove_on_exit ? "the host was rebooted" : "";
    if (record.remove_on_exit && base::has_ended(record.owner)) return "the command that started it is gone";
    return "";
  }
  if (watched.uptime < kRecoveryTime) return "";
  if (!same_boot) return "the host was rebooted";
  if (of_another_process(record.owner)) return "";
  if (record.phase == Phase::kStarting) return "its start was cut off";
  if (!record.alloc_dir.empty() && is_gone(record.alloc_dir)) return "its allocation is gone";
  if (watched.dangling_after && watched.uptime >= *watched.dangling_after) return std::string(kDanglingReason);
  return "";
}

void Reaper::pass(const TaskStore& store, const Watched& watched, bool dry_run) {
  if (const auto folders = store.list(); !folders) {
    LOG_WARN("cannot look for orphaned tasks, will try again", {{"error", folders.error().message}});
  } else {
    std::map<std::string, std::string> still;
    for (const TaskFolder& folder : *folders) {
      visit({store, watched, dry_run}, folder);
      if (const auto told = told_.find(folder.container_id); told != told_.end()) still.insert(*told);
    }
    told_ = std::move(still);
  }
  const auto emptied = store.empty_trash();
  if (!emptied) LOG_WARN("cannot empty the trash of tasks, will try again", {{"error", emptied.error().message}});
}

void Reaper::visit(const Pass& pass, const TaskFolder& folder) {
  if (const auto* unreadable = std::get_if<Unreadable>(&folder.task)) {
    return tell_unreadable(folder.container_id, unreadable->why);
  }
  base::Status removed;
  if (const auto* record = std::get_if<Record>(&folder.task)) {
    if (deps_.is_known(record->id)) return;
    const std::string reason = orphan_reason(*record, pass.watched);
    if (reason.empty()) return;
    if (pass.dry_run && reason == kDanglingReason) return tell_dangling(folder.container_id, *record);
    LOG_WARN("removing an orphaned task", {{"task", record->id.text}, {"reason", reason}});
    removed = deps_.undo(*record);
  } else if (pass.watched.uptime >= kRecoveryTime) {
    removed = pass.store.discard_unwritten(folder.container_id, kRecoveryTime);
  }
  told_.erase(folder.container_id);
  if (!removed) {
    LOG_WARN("cannot remove a task, will try again",
             {{"container", folder.container_id}, {"error", removed.error().message}});
  }
}

void Reaper::tell_dangling(const std::string& container_id, const Record& record) {
  std::string& told = told_[container_id];
  if (told == kDanglingReason) return;
  told = kDanglingReason;
  LOG_WARN("a dangling task would be ended (dry_run)", {{"task", record.id.text}, {"reason", kDanglingReason}});
}

void Reaper::tell_unreadable(const std::string& container_id, const base::Error& why) {
  std::string& told = told_[container_id];
  if (told == why.message) return;
  told = why.message;
  LOG_ERROR("a task cannot be read: it is left as it is, and so are the images that it may use",
            {{"container", container_id}, {"error", why.message}});
}

}  // namespace driver
