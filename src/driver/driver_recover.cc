#include <unistd.h>

#include "base/log.h"
#include "driver/driver_impl.h"
#include "driver/life/claim.h"
#include "driver/life/driver_state.h"

namespace driver {

using base::Context;
using base::Result;
using base::Status;
using base::str;
using std::chrono::seconds;

namespace {

constexpr seconds kAdoptTimeout{2};  // a shim that is slower is adopted in the background
constexpr seconds kAttachTimeout{10};

}  // namespace

Status Driver::recover(const Context& ctx, const TaskId& id, const std::string& driver_state) {
  if (impl_->find_task(id)) return {};
  impl_->asked_for.lock()->insert(id);  // an agent knows it, whatever comes of this
  TRY(Record record, impl_->record_to_recover(ctx, id, driver_state));
  TRY(auto task, impl_->recover_record(ctx, id, std::move(record)));
  impl_->know(id, std::move(task));
  impl_->asked_for.lock()->erase(id);
  impl_->listen_for_events();
  return {};
}

Status Driver::attach(const Context& ctx, const TaskId& id) {
  if (impl_->find_task(id)) return {};
  TRY(Record record, impl_->record_to_recover(ctx, id, ""));
  std::shared_ptr<shim::Shim> shim;
  if (record.phase != Phase::kExited) {
    TRY(shim,
        shim::Shim::adopt(ctx.with_timeout(kAttachTimeout), impl_->loop, record.shim_options(), record.names.shim()));
  }
  auto task = std::make_shared<Task>(impl_->loop, impl_->background, impl_->events, std::move(record), shim);
  if (shim) task->take_over();
  impl_->know(id, std::move(task));
  return {};
}

Result<Record> Driver::Impl::record_to_recover(const Context& ctx, const TaskId& id, const std::string& driver_state) {
  const std::string container_id = container_id_of(id);
  TaskOnDisk found = find_patiently(ctx, store(), container_id);
  if (const auto* unreadable = std::get_if<Unreadable>(&found)) {
    return in_use_error(container_id, *unreadable).wrap(str("recovering task ", id.text));
  }
  auto* record = std::get_if<Record>(&found);
  if (record == nullptr) return explain_missing_record(id, driver_state);
  if (record->boot_id != base::boot_id()) {
    return base::Error::not_found(str("task ", id.text, " was lost: the host was rebooted"));
  }
  if (record->phase == Phase::kStarting) {
    return base::Error::not_found(str("task ", id.text, " was lost: its start was cut off"));
  }
  return std::move(*record);
}

void Driver::Impl::know(const TaskId& id, std::shared_ptr<Task> task) {
  auto held = tasks.lock();
  auto& slot = (*held)[id];
  if (!slot.task) slot.task = std::move(task);
}

// The shim knows the exit of a task that ended meanwhile and tells it to the Wait that watch_exit sends. A shim that is
// slow keeps its task; one that is gone takes it along.
Result<std::shared_ptr<Task>> Driver::Impl::recover_record(const Context& ctx, const TaskId& id, Record record) {
  record.owner = base::identify(::getpid()).value_or(base::ProcessId{});
  // Only a second plugin on these folders needs to know.
  if (const auto noted = TaskStore::write(record); !noted) {
    LOG_DEBUG("cannot note whose a task is", {{"task", id.text}, {"error", noted.error().message}});
  }
  if (record.phase == Phase::kExited) {
    return std::make_shared<Task>(loop, background, events, std::move(record), nullptr);
  }
  auto shim = shim::Shim::adopt(ctx.with_timeout(kAdoptTimeout), loop, record.shim_options(), record.names.shim());
  auto task = std::make_shared<Task>(loop, background, events, std::move(record), shim ? *shim : nullptr);
  if (shim) {
    task->take_over();
  } else {
    LOG_WARN("cannot reach the shim of a task", {{"task", id.text}, {"error", shim.error().message}});
    task->retry_adoption(shim.error());
  }
  return task;
}

}  // namespace driver
