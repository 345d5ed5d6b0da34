#include "driver/driver_impl.h"

namespace driver {

using base::Context;
using base::Result;
using base::Status;
using base::str;

Status Driver::signal(const Context& ctx, const TaskId& id, const std::string& name) {
  const auto number = base::signal_from_name(name);
  if (!number) return base::Error::invalid_argument(str("Invalid signal: ", name));
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  TRY_VOID(task->send_signal(ctx, *number));
  return {};
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
  const auto task = find_task(id);
  if (!task) return unknown_task(id);
  auto shim = task->shim();
  if (!shim) return base::Error::failed_precondition("the task is not running");
  return shim;
}

}  // namespace driver
