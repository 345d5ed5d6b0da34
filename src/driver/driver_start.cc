#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "driver/driver_impl.h"
#include "driver/image/archive.h"
#include "driver/life/claim.h"
#include "driver/life/driver_state.h"
#include "driver/life/gates.h"
#include "driver/life/kept_layer.h"
#include "driver/life/plan.h"
#include "driver/life/start_task.h"
#include "driver/net/groups.h"
#include "shim/held_stdio.h"

namespace driver {

using base::Context;
using base::Result;
using base::str;

Result<StartedTask> Driver::start(const Context& ctx, const TaskSpec& spec) {
  if (!spec.options.load.empty()) return start(ctx, resolve_load(spec));
  TRY_VOID(plan_start(spec, *impl_->opts(), impl_->host));
  const Slot own;
  {
    auto tasks = impl_->tasks.lock();
    const auto it = tasks->find(spec.id);
    // The agent lost the first answer. It never uses an id twice, so this holds for a task that has ended as well: to
    // run it again would be to run it twice.
    if (it != tasks->end() && it->second.task) return StartedTask{encode_driver_state(it->second.task->record())};
    if (it != tasks->end()) {
      return base::Error::already_exists(str("task with ID \"", spec.id.text, "\" is being started"));
    }
    tasks->emplace(spec.id, own);
  }
  // The start ends when the caller goes away, and when the task is stopped or destroyed meanwhile.
  const std::stop_callback forward(ctx.stop(), [stop = own.stop_start]() mutable { stop.request_stop(); });
  auto task = impl_->start_reserved(ctx.with_stop(own.stop_start.get_token()), spec);
  {
    auto tasks = impl_->tasks.lock();
    if (task) {
      (*tasks)[spec.id].task = *task;
    } else {
      tasks->erase(spec.id);
    }
  }
  own.start_ended.set(task.has_value());
  if (!task) return std::move(task).error();
  return StartedTask{encode_driver_state((*task)->record())};
}

Result<std::shared_ptr<Task>> Driver::Impl::start_reserved(const Context& ctx, const TaskSpec& spec) {
  TRY(Programs programs, this->programs());
  TRY(const std::string runtime, choose_runtime(spec.options.runtime, *opts()));
  TRY(programs.runtime, find_program(runtime, "runtimes"));
  Record record = new_record(spec, programs);
  const TaskStore store = this->store();
  std::vector<base::Fd> output;  // of a start that was cut off: its reader is to read this one's, too
  const auto undo_earlier = [&](const Record& earlier) -> base::Status {
    output = shim::keep_readers({"", spec.stdout_path, spec.stderr_path, spec.options.tty});
    TRY_VOID(keep_layer(spec.kept_dir, earlier.names));
    return undo(earlier);
  };
  const ClaimDeps claim{store, undo_earlier, [this](const TaskId& id) { return find_task(id) != nullptr; },
                        !spec.kept_dir.empty()};
  TRY(auto running, claim_task(ctx, claim, record));
  if (running) return recover_record(ctx, spec.id, *std::move(running));
  TRY_VOID(base::make_dirs(record.names.task_dir, 0700));
  TRY_VOID(base::make_dirs(std::filesystem::path(record.names.shim_socket).parent_path(), 0700));
  if (spec.own_network) settle_networks();
  if (spec.network && !spec.alloc_dir.empty()) {
    TRY_VOID(note_group_folder(ctx, {.state_dir = opts()->state_dir}, spec.alloc_id, spec.alloc_dir));
  }
  FAULT_POINT("start.claimed");
  TRY_VOID(TaskStore::write(record));
  FAULT_POINT("start.recorded");
  TRY(const bool has_earlier_layer, take_back_layer(spec.kept_dir, record.names));
  if (!spec.from_command_line) listen_for_events();

  const auto options = opts();
  const NodeInfo node_info = *node.lock();
  const StartDeps deps{loop,
                       background,
                       events,
                       image_store(programs),
                       *options,
                       host,
                       node_info,
                       news,
                       turns,
                       [this](const TaskSpec& task, std::string message, std::map<std::string, std::string> notes) {
                         emit(task, std::move(message), std::move(notes));
                       }};
  auto task = start_task(ctx, deps, spec, record);
  if (task) {
    LOG_INFO("task started", {{"task", spec.id.text},
                              {"container", record.names.container_id},
                              {"image", record.image_digest},
                              {"pid", (*task)->record().init.pid}});
    return task;
  }
  if (has_earlier_layer) TRY_VOID(keep_layer(spec.kept_dir, record.names));
  const auto undone = undo(record);
  if (!undone) {
    LOG_WARN("what a failed start left could not be removed, will try again",
             {{"task", spec.id.text}, {"error", undone.error().message}});
  }
  return std::move(task).error();
}

Result<GroupNetwork> Driver::create_network(const Context& ctx, const std::string& alloc_id,
                                            const std::string& hostname) {
  return make_group_network(ctx, {.state_dir = impl_->opts()->state_dir}, alloc_id, hostname, Impl::agent());
}

Record Driver::Impl::new_record(const TaskSpec& spec, const Programs& programs) {
  Record record;
  record.id = spec.id;
  record.name = spec.name;
  record.alloc_id = spec.alloc_id;
  record.alloc_dir = spec.alloc_dir;
  record.names = plan_names(spec, store().roots());
  record.boot_id = base::boot_id();
  record.from_command_line = spec.from_command_line;
  record.remove_on_exit = spec.remove_on_exit;
  record.owner = base::identify(::getpid()).value_or(base::ProcessId{});
  record.shim_binary = programs.shim;
  record.runtime_binary = programs.runtime;
  record.state_dir = opts()->state_dir;
  record.privileged = spec.options.privileged;
  record.labels = spec.options.labels;
  record.seccomp = spec.options.seccomp && (!spec.options.privileged || !spec.options.seccomp_profile.empty());
  return record;
}

}  // namespace driver
