#include "base/json.h"
#include "driver/driver_impl.h"
#include "driver/spec/limits.h"
#include "shim/cgroup.h"

namespace driver {

using base::Context;
using base::Result;
using base::Status;
using base::str;

namespace {

Result<std::shared_ptr<shim::Shim>> running_shim(const std::shared_ptr<Task>& task, const TaskId& id) {
  if (!task) return unknown_task(id);
  auto shim = task->shim();
  if (!shim) return base::Error::failed_precondition("the task is not running");
  return shim;
}

}  // namespace

Status Driver::signal(const Context& ctx, const TaskId& id, const std::string& name) {
  const auto number = base::signal_from_name(name);
  if (!number) return base::Error::invalid_argument(str("Invalid signal: ", name));
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  TRY_VOID(task->send_signal(ctx, *number));
  return {};
}

Status Driver::pause(const Context& ctx, const TaskId& id) {
  const auto task = impl_->find_task(id);
  TRY(const auto shim, running_shim(task, id));
  TRY(const bool frozen, shim::is_frozen(task->record().names.cgroup_path));
  if (frozen) return base::Error::failed_precondition("it is paused already");
  return shim->pause(ctx);
}

Status Driver::resume(const Context& ctx, const TaskId& id) {
  const auto task = impl_->find_task(id);
  TRY(const auto shim, running_shim(task, id));
  TRY(const bool frozen, shim::is_frozen(task->record().names.cgroup_path));
  if (!frozen) return base::Error::failed_precondition("it is not paused");
  return shim->resume(ctx);
}

Result<std::vector<pid_t>> Driver::processes(const Context& ctx, const TaskId& id) {
  TRY(const auto shim, impl_->shim_of(id));
  return shim->processes(ctx);
}

Status Driver::update(const Context& ctx, const TaskId& id, const LimitChanges& changes) {
  TRY(const auto shim, impl_->shim_of(id));
  TRY(const base::Json resources, changes_json(changes, impl_->host));
  return shim->update(ctx, base::dump_json(resources));
}

Status Driver::close_stdin(const Context& ctx, const TaskId& id) {
  TRY(const auto shim, impl_->shim_of(id));
  return shim->close_stdin(ctx, "");
}

Status Driver::resize(const Context& ctx, const TaskId& id, TerminalSize size) {
  TRY(const auto shim, impl_->shim_of(id));
  return shim->resize(ctx, "", size.width, size.height);
}

Result<std::shared_ptr<ExecSession>> Driver::exec(const TaskId& id, ExecSpec spec, ExecCallbacks callbacks) {
  auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  return run_exec(impl_->execs, std::move(task), std::move(spec), std::move(callbacks));
}

Result<std::shared_ptr<shim::Shim>> Driver::Impl::shim_of(const TaskId& id) {
  return running_shim(find_task(id), id);
}

}  // namespace driver
