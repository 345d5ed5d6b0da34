#include "cli/verb.h"

namespace cli {

using base::Error;
using base::str;

namespace {
base::Status remove(DriverSession& session, const Container& container, bool force);
base::Status remove_task(DriverSession& session, const driver::TaskStatus& task, bool force);
}  // namespace

int rm_command(const Verb& self, Call& call) {
  Flags flags;
  bool force = false;
  flags.toggle("force", 'f', "kill it first if it is running; also what cannot be read", force);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the containers to remove"));
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error());
  const auto all = list_containers((*session)->driver);
  if (!all) return fail(call.io, all.error());

  // One that cannot be removed does not keep the others.
  for (const std::string& wanted : *args) {
    const auto found = find_container(*all, wanted);
    if (!found) {
      // What is to be gone by all means, and is, is as wanted.
      if (!force || found.error().code != base::Code::kNotFound) exit_code = fail(call.io, found.error());
    } else if (found->task.state == driver::TaskState::kUnreadable && !force) {
      exit_code = fail(call.io, Error::failed_precondition(str(
                                    wanted, " cannot be read, and may be running: ", attribute(found->task, "problem"),
                                    ": --force kills and removes it all the same")));
    } else if (found->task.state == driver::TaskState::kRunning && !force) {
      exit_code = fail(call.io, Error::failed_precondition(str(wanted, " is running: stop it first, or use --force")),
                       kExitRunning);
    } else if (auto removed = remove(**session, *found, force); !removed) {
      exit_code = fail(call.io, std::move(removed).error().wrap(str("removing ", wanted)));
    } else {
      print_line(call.io, wanted);
    }
  }
  return exit_code;
}

namespace {

base::Status remove(DriverSession& session, const Container& container, bool force) {
  if (container.is_created) {
    // A start that was killed before it had a record may have made its folder.
    const auto removed = session.driver.remove_unreadable(base::Context::cleanup(), container_id_of(container.task));
    if (!removed && removed.error().code != base::Code::kNotFound) return removed.error();
  } else {
    TRY_VOID(remove_task(session, container.task, force));
  }
  if (!container.definition) return {};
  return remove_definition(session.driver.options()->data_dir, container.definition->container_id);
}

base::Status remove_task(DriverSession& session, const driver::TaskStatus& task, bool force) {
  if (task.state == driver::TaskState::kUnreadable) {
    return session.driver.remove_unreadable(base::Context::cleanup(), task.id.text);
  }
  const auto ctx = base::Context::cleanup();
  // First it is made to end: whoever waits for it (a `run` in another terminal) sees an exit, not a shim that was
  // killed. What cannot be reached is torn down all the same.
  if (task.state == driver::TaskState::kRunning) [[maybe_unused]]
    const auto attached = session.driver.attach(ctx, task.id);
  return session.driver.destroy(ctx, task.id, force);
}

}  // namespace

}  // namespace cli
