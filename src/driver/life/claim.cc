#include "driver/life/claim.h"

#include <chrono>

#include "base/log.h"

namespace driver {

namespace {
using base::Code;
using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

// Descriptors and memory come back when other calls end; a disk that says EIO for longer is broken.
constexpr std::chrono::seconds kPatience{3};
constexpr std::chrono::milliseconds kAgainAfter{50};

Status clear_earlier_invocations(const ClaimDeps& deps, const Record& planned);
Status undo_earlier(const ClaimDeps& deps, const Record& earlier);
bool may_pass(const Error& why);
}  // namespace

Result<std::optional<Record>> claim_task(const Context& ctx, const ClaimDeps& deps, const Record& planned) {
  TaskOnDisk found = find_patiently(ctx, deps.store, planned.names.container_id);
  if (const auto* unreadable = std::get_if<Unreadable>(&found)) {
    return in_use_error(planned.names.container_id, *unreadable);
  }
  if (auto* record = std::get_if<Record>(&found)) {
    const bool came_to_run = record->boot_id == planned.boot_id && record->phase != Phase::kStarting;
    if (came_to_run && !(deps.again && (record->phase == Phase::kExited || base::has_ended(record->init)))) {
      return std::optional<Record>(std::move(*record));
    }
    TRY_VOID(undo_earlier(deps, *record));
  }
  TRY_VOID(clear_earlier_invocations(deps, planned));
  return std::optional<Record>();
}

TaskOnDisk find_patiently(const Context& ctx, const TaskStore& store, const std::string& container_id) {
  const Context patient = ctx.with_timeout(kPatience);
  for (;;) {
    TaskOnDisk found = store.find(container_id);
    const auto* unreadable = std::get_if<Unreadable>(&found);
    if (unreadable == nullptr || !may_pass(unreadable->why) || !patient.sleep(kAgainAfter)) return found;
  }
}

Error in_use_error(const std::string& container_id, const Unreadable& task) {
  Error error = task.why;
  if (may_pass(error)) error.code = Code::kUnavailable;  // worth a retry
  error.message += str("; it may be running, so nothing of it was touched: `containerd-driver rm --force ",
                       container_id, "` removes it");
  return std::move(error).wrap(str("container ", container_id));
}

namespace {

// An agent that died between our answer and its own note starts the same task of the same allocation under a new id:
// the old one is in the way (cgroup, ports, addresses) and nobody knows it any more. One that cannot be read may be
// another allocation's.
Status clear_earlier_invocations(const ClaimDeps& deps, const Record& planned) {
  if (planned.alloc_id.empty()) return {};
  const std::string& own_id = planned.names.container_id;
  const std::string prefix = own_id.substr(0, own_id.size() - kIdHashBytes);
  TRY(const auto folders, deps.store.list());
  for (const TaskFolder& folder : folders) {
    if (folder.container_id == own_id || !folder.container_id.starts_with(prefix)) continue;
    const auto* record = std::get_if<Record>(&folder.task);
    if (record == nullptr || record->alloc_id != planned.alloc_id || record->name != planned.name) continue;
    if (deps.is_known(record->id)) continue;  // it will be destroyed by name
    LOG_WARN("removing an earlier start of the same task", {{"task", record->id.text}, {"newer", planned.id.text}});
    TRY_VOID(undo_earlier(deps, *record));
  }
  return {};
}

// Whatever keeps it from being removed is nothing of the job's: the start may be tried again.
Status undo_earlier(const ClaimDeps& deps, const Record& earlier) {
  auto undone = deps.undo(earlier);
  if (undone) return {};
  Error error = std::move(undone).error().wrap("removing what an earlier start of this task left");
  error.code = Code::kUnavailable;
  return error;
}

bool may_pass(const Error& why) {
  return why.code != Code::kDataLoss && why.code != Code::kFailedPrecondition;
}

}  // namespace
}  // namespace driver
