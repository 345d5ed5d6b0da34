// Verbs that freeze a container and let it run on: pause, unpause.
#include "cli/start.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

/// One of the two verbs.
struct Direction {
  const char* state;  ///< whom --all means
  Status (driver::Driver::*act)(const Context&, const driver::TaskId&);
};

int change(const Verb& self, Call& call, const Direction& direction);
Result<std::vector<std::string>> all_in_state(const Globals& globals, const std::string& state);

}  // namespace

int pause_command(const Verb& self, Call& call) {
  return change(self, call, {"running", &driver::Driver::pause});
}

int unpause_command(const Verb& self, Call& call) {
  return change(self, call, {"paused", &driver::Driver::resume});
}

namespace {

int change(const Verb& self, Call& call, const Direction& direction) {
  Flags flags;
  bool all = false;
  flags.toggle("all", 'a', str("all that are ", direction.state), all);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (all != args->empty()) {
    return misuse(self, call.io, Error::invalid_argument(all ? "--all takes no names" : "name the containers"));
  }
  const auto named = all ? all_in_state(call.globals, direction.state) : Result<std::vector<std::string>>(*args);
  if (!named) return fail(call.io, named.error(), kExitRunFailure);
  return for_each_named(call, *named, IfCreated::kNotRunning,
                        [&](driver::Driver& driver, const Container& container) -> Result<End> {
                          if (container.task.state != driver::TaskState::kRunning) {
                            return Error::failed_precondition("it is not running");
                          }
                          TRY_VOID((driver.*direction.act)(Context::cleanup(), container.task.id));
                          return End([] { return Status(); });
                        });
}

Result<std::vector<std::string>> all_in_state(const Globals& globals, const std::string& state) {
  TRY(const auto session, open_driver(globals));
  TRY(const auto containers, list_containers(session->driver));
  std::vector<std::string> ids;
  for (const Container& container : containers) {
    if (state_of(container) == state) ids.push_back(long_id(container_id_of(container.task)));
  }
  return ids;
}

}  // namespace
}  // namespace cli
