#include "driver/life/reaper.h"

#include "base/file.h"
#include "base/log.h"
#include "driver/life/teardown.h"

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
    if (record.remove_on_exit && !base::open_pidfd(record.owner)) return "the command that started it is gone";
    return "";
  }
  if (uptime < kRecoveryTime) return "";
  if (record.boot_id != base::boot_id()) return "the host was rebooted";
  if (record.phase == Phase::kStarting) return "its start was cut off";
  if (!record.alloc_dir.empty() && !exists(record.alloc_dir)) return "its allocation is gone";
  return "";
}

void reap_orphans(const base::Context& ctx, const Roots& roots, const shim::ShimOptions& shim_options, seconds uptime,
                  const std::function<bool(const TaskId&)>& is_known) {
  for (const std::string& dir : list_task_dirs(roots.data_dir)) {
    auto record = read_record(dir);
    if (!record) {
      // A newer version's record is left alone; a folder without a readable one is garbage, unless it is being made
      // right now.
      if (record.error().code == base::Code::kFailedPrecondition || uptime < kRecoveryTime) continue;
      LOG_WARN("removing a task folder without a usable record", {{"dir", dir}, {"error", record.error().message}});
      const auto removed = teardown_garbage(ctx, roots, dir, shim_options);
      if (!removed) LOG_WARN("removing it failed, will try again", {{"dir", dir}, {"error", removed.error().message}});
      continue;
    }
    if (is_known(record->id)) continue;
    const std::string reason = orphan_reason(*record, uptime);
    if (reason.empty()) continue;
    LOG_WARN("removing an orphaned task", {{"task", record->id.text}, {"reason", reason}});
    const auto removed = teardown(ctx, *record);
    if (!removed)
      LOG_WARN("removing it failed, will try again", {{"task", record->id.text}, {"error", removed.error().message}});
  }
  const auto emptied = empty_trash(roots.data_dir);
  if (!emptied) LOG_WARN("cannot empty the trash", {{"error", emptied.error().message}});
}

}  // namespace driver
