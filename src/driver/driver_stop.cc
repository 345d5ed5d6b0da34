#include "driver/driver_impl.h"
#include "driver/life/claim.h"
#include "driver/life/teardown.h"
#include "driver/net/groups.h"

namespace driver {

using base::Context;
using base::Result;
using base::Status;
using base::str;
using base::Subscription;
using std::chrono::seconds;

namespace {

constexpr seconds kCancelTimeout{30};  // a step of a start that cannot be interrupted, and the undoing

}  // namespace

Result<Subscription> Driver::wait(const TaskId& id, std::function<void(const ExitResult&)> callback) {
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  return task->on_exit(std::move(callback));
}

Result<Subscription> Driver::stop(const TaskId& id, std::chrono::nanoseconds timeout, const std::string& signal,
                                  std::function<void(const Status&)> on_done) {
  int number = SIGTERM;
  if (!signal.empty()) {
    const auto named = base::signal_from_name(signal);
    if (!named) return base::Error::invalid_argument(str("Invalid signal: ", signal));
    number = *named;
  }
  const auto task = impl_->find_task(id);
  if (!task) {
    impl_->cancel_start(id);
    on_done({});
    return Subscription();
  }
  if (const Record record = task->record(); signal.empty() && !record.stop_signal.empty()) {
    number = base::signal_from_name(record.stop_signal).value_or(SIGTERM);
  }
  return stop_task(impl_->stops, task, number, timeout, std::move(on_done));
}

Status Driver::destroy_network(const Context& ctx, const std::string& alloc_id) {
  return remove_group_network(ctx, {.state_dir = impl_->opts()->state_dir}, alloc_id);
}

Status Driver::destroy(const Context& ctx, const TaskId& id, bool force) {
  const auto task = impl_->find_task(id);
  if (task) {
    if (task->running() && !force) return base::Error::failed_precondition("cannot destroy running task");
    auto destroyed = impl_->destroy_task(ctx, task);
    // An agent that has called in vain often enough leaves it to us.
    if (!destroyed) {
      impl_->owed.lock()->insert(id);
      return destroyed;
    }
    impl_->tasks.lock()->erase(id);
    return {};
  }
  impl_->asked_for.lock()->erase(id);
  if (const auto start_ended = impl_->cancel_start(id)) {
    // The start undoes what it made, unless it came to its end first.
    TRY(const bool started, start_ended->wait(ctx.with_timeout(kCancelTimeout)));
    return started ? destroy(ctx, id, force) : Status();
  }
  // An id that this process never saw: its record may still be there.
  const std::string container_id = container_id_of(id);
  TaskOnDisk found = find_patiently(ctx, impl_->store(), container_id);
  if (const auto* unreadable = std::get_if<Unreadable>(&found)) return in_use_error(container_id, *unreadable);
  const auto* record = std::get_if<Record>(&found);
  // A start that was killed before its record was written, or an undoing that was cut off after it was gone.
  if (record == nullptr) return impl_->store().discard(container_id);
  if (!force && record->phase == Phase::kRunning && record->boot_id == base::boot_id() &&
      !base::has_ended(record->init)) {
    return base::Error::failed_precondition("cannot destroy running task");
  }
  return impl_->undo(*record);
}

Status Driver::remove_unreadable(const Context& ctx, const std::string& container_id) {
  const TaskStore store = impl_->store();
  if (!is_container_id(container_id) || std::holds_alternative<NotWritten>(store.find(container_id))) {
    return base::Error::not_found(str("there is no container ", container_id));
  }
  TRY(const Programs programs, impl_->programs());
  return teardown_unreadable(ctx, store, container_id, programs);
}

// The polite way, which lets the runtime clean up after itself, then teardown for all the rest. A step that fails here
// is not an error yet: teardown does it by force.
Status Driver::Impl::destroy_task(const Context& ctx, const std::shared_ptr<Task>& task) {
  if (task->running()) {
    const base::OneShot<bool> killed;
    const auto killing = kill_task(stops, task, [killed](const Status& done) { killed.set(done.has_value()); });
    [[maybe_unused]] const auto waited = killed.wait(ctx);
  }
  task->expect_end();
  const Turns::Turn turn = turns.urgent();
  const Context cleanup = Context::cleanup();
  if (const auto shim = task->shim()) {
    [[maybe_unused]] const auto removed = shim->remove(cleanup, "");
    [[maybe_unused]] const auto ended = shim->shutdown(cleanup);
  }
  return teardown(cleanup, store(), task->record());
}

/// The end of the start of `id` if one is under way.
std::optional<base::OneShot<bool>> Driver::Impl::cancel_start(const TaskId& id) {
  auto held = tasks.lock();
  const auto it = held->find(id);
  if (it == held->end() || it->second.task) return std::nullopt;
  it->second.stop_start.request_stop();
  return it->second.start_ended;
}

}  // namespace driver
