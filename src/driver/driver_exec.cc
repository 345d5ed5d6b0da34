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

Result<std::shared_ptr<ExecSession>> Driver::exec(const TaskId& id, ExecSpec spec, ExecCallbacks callbacks) {
  auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  return run_exec(impl_->execs, std::move(task), std::move(spec), std::move(callbacks));
}

}  // namespace driver
