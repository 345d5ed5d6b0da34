// Verbs that end a container, or wait for its end: stop, kill, wait.
#include <charconv>

#include "base/process.h"
#include "cli/start.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::chrono::hours kStopTimeoutMax{24};

Result<End> begin_with(DriverSession& session, const std::vector<Container>& all, const std::string& wanted,
                       IfCreated if_created, const Begin& begin);
void tell_of_agent(Io& io, const Container& container);
Result<std::int64_t> wait_for_container(const Globals& globals, const std::string& name);

}  // namespace

int stop_command(const Verb& self, Call& call) {
  Flags flags;
  std::string seconds;
  flags.value("time", 't', "SECONDS", "how long to wait before it is killed (default 10)", seconds);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the containers to stop"));
  const auto timeout = parse_stop_timeout(seconds, kStopTimeoutDefault);
  if (!timeout) return misuse(self, call.io, timeout.error());
  return for_each_named(
      call, *args, IfCreated::kIsFine, [&](driver::Driver& driver, const Container& container) -> Result<End> {
        const auto patience = seconds.empty() ? own_stop_timeout(container.definition, *timeout) : *timeout;
        tell_of_agent(call.io, container);
        return begin_stop(driver, container.task.id, patience);
      });
}

int kill_command(const Verb& self, Call& call) {
  Flags flags;
  std::string signal = "KILL";
  flags.value("signal", 's', "SIGNAL", "the signal to send (default KILL)", signal);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the containers to kill"));
  if (!base::signal_from_name(signal)) {
    return misuse(self, call.io, Error::invalid_argument(str("--signal \"", signal, "\" is not a signal's name")));
  }
  return for_each_named(call, *args, IfCreated::kNotRunning,
                        [&](driver::Driver& driver, const Container& container) -> Result<End> {
                          if (container.task.state != driver::TaskState::kRunning)
                            return Error::failed_precondition("it is not running");
                          TRY_VOID(driver.signal(Context::cleanup(), container.task.id, signal));
                          tell_of_agent(call.io, container);
                          return End([] { return Status(); });
                        });
}

int wait_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the containers to wait for"));
  for (const std::string& name : *args) {
    if (const auto ended = wait_for_container(call.globals, name)) {
      print_line(call.io, str(*ended));
    } else {
      exit_code = fail(call.io, ended.error(), kExitRunFailure);
    }
  }
  return exit_code;
}

Result<End> begin_stop(driver::Driver& driver, const driver::TaskId& id, std::chrono::seconds timeout) {
  const base::OneShot<Status> done;
  auto stopping = driver.stop(id, timeout, "", [done](const Status& ended) { done.set(ended); });
  if (!stopping) return std::move(stopping).error();
  auto kept = std::make_shared<base::Subscription>(*std::move(stopping));
  return End([done, kept]() -> Status {
    TRY(const Status ended, done.wait(Context::background()));
    return ended;
  });
}

Result<std::chrono::seconds> parse_stop_timeout(const std::string& seconds, std::chrono::seconds otherwise) {
  if (seconds.empty()) return otherwise;
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(seconds.data(), seconds.data() + seconds.size(), count);
  if (error != std::errc() || end != seconds.data() + seconds.size() || count < 0 ||
      count > std::chrono::seconds(kStopTimeoutMax).count()) {
    return Error::invalid_argument(
        str("--time ", seconds, " must be from 0 to ", std::chrono::seconds(kStopTimeoutMax).count()));
  }
  return std::chrono::seconds(count);
}

std::chrono::seconds own_stop_timeout(const std::optional<Definition>& definition, std::chrono::seconds otherwise) {
  if (!definition) return otherwise;
  const auto run = run_of(*definition);
  return run ? parse_stop_timeout(run->flags.stop_timeout, otherwise).value_or(otherwise) : otherwise;
}

int for_each_named(Call& call, const std::vector<std::string>& wanted, IfCreated if_created, const Begin& begin) {
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error(), kExitRunFailure);
  const auto all = list_containers((*session)->driver);
  if (!all) return fail(call.io, all.error(), kExitRunFailure);
  int exit_code = kExitOk;
  std::vector<std::pair<std::string, End>> begun;
  for (const std::string& name : wanted) {
    auto end = begin_with(**session, *all, name, if_created, begin);
    if (end) {
      begun.emplace_back(name, *std::move(end));
    } else {
      exit_code = fail(call.io, end.error(), kExitRunFailure);
    }
  }
  for (auto& [name, end] : begun) {
    if (auto ended = end(); !ended) {
      exit_code = fail(call.io, std::move(ended).error().wrap(name), kExitRunFailure);
    } else {
      print_line(call.io, name);
    }
  }
  return exit_code;
}

namespace {

Result<End> begin_with(DriverSession& session, const std::vector<Container>& all, const std::string& wanted,
                       IfCreated if_created, const Begin& begin) {
  TRY(const auto found, find_container(all, wanted));
  const auto act = [&]() -> Result<End> {
    if (found.is_created) {
      if (if_created == IfCreated::kNotRunning) return Error::failed_precondition("it is not running");
      return End([] { return Status(); });
    }
    TRY_VOID(session.driver.attach(Context::cleanup(), found.task.id));
    return begin(session.driver, found);
  };
  auto begun = act();
  if (!begun) return std::move(begun).error().wrap(wanted);
  return begun;
}

// Its exit code.
Result<std::int64_t> wait_for_container(const Globals& globals, const std::string& name) {
  TRY(const auto found, find_container(globals, name));
  if (found.is_created) return Error::failed_precondition(str(name, " was not started"));
  driver::Driver& driver = found.session->driver;
  TRY_VOID(driver.attach(Context::background(), found.task.id));
  TRY(const auto result, wait_for_exit(Context::background(), driver, found.task.id));
  return result.exit_code;
}

void tell_of_agent(Io& io, const Container& container) {
  const driver::TaskStatus& task = container.task;
  if (task.id.text.starts_with("cli/") || task.state != driver::TaskState::kRunning) return;
  print_note(io,
             str(name_of(container), " is a task of Nomad: the agent starts it again if its restart block says so"));
}

}  // namespace
}  // namespace cli
