// Other limits for containers: at once for those that run, and for the starts to come of the command line's own.
#include <charconv>

#include "cli/run_spec.h"
#include "cli/start.h"
#include "cli/verb.h"
#include "driver/life/plan.h"
#include "driver/spec/limits.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

using Updates = std::map<std::string, std::string>;

Status update_one(DriverSession& session, const Container& container, const RunFlags& given, const Updates& updates);
Result<RunRequest> merge(const Container& container, const RunFlags& given, const Updates& updates);
Result<driver::LimitChanges> changes_of(const RunRequest& run, const Updates& updates,
                                        const driver::PluginOptions& options, const driver::HostFacts& host);

}  // namespace

int update_command(const Verb& self, Call& call) {
  Flags flags;
  RunFlags given;
  for (const LimitFlag& limit : limit_flags()) {
    flags.value(limit.name, limit.letter, limit.value, limit.help, given.*limit.member);
  }
  int exit_code = kExitOk;
  const auto names = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!names) return exit_code;
  if (names->empty()) return misuse(self, call.io, Error::invalid_argument("name the containers to change"));
  Updates updates;
  for (const LimitFlag& limit : limit_flags()) {
    if (!(given.*limit.member).empty()) updates[limit.name] = given.*limit.member;
  }
  if (updates.empty()) return misuse(self, call.io, Error::invalid_argument("say what to change: --memory 512m"));
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error(), kExitRunFailure);
  const auto all = list_containers((*session)->driver);
  if (!all) return fail(call.io, all.error(), kExitRunFailure);
  for (const std::string& name : *names) {
    const auto found = find_container(*all, name);
    if (!found) {
      exit_code = fail(call.io, found.error(), kExitRunFailure);
    } else if (auto done = update_one(**session, *found, given, updates); !done) {
      exit_code = fail(call.io, std::move(done).error().wrap(name), kExitRunFailure);
    } else {
      print_line(call.io, name);
    }
  }
  return exit_code;
}

namespace {

Status update_one(DriverSession& session, const Container& container, const RunFlags& given, const Updates& updates) {
  driver::Driver& driver = session.driver;
  const bool running = container.task.state == driver::TaskState::kRunning;
  if (!running && !container.definition) {
    return Error::failed_precondition("it is not running, and what Nomad starts again has the limits of its job");
  }
  const driver::HostFacts host = driver::read_host_facts();
  TRY(const RunRequest run, merge(container, given, updates));
  TRY_VOID(driver::check_limits(run.spec, host));
  TRY(const driver::LimitChanges changes, changes_of(run, updates, *driver.options(), host));
  if (running) {
    TRY_VOID(driver.attach(Context::cleanup(), container.task.id));
    TRY_VOID(driver.update(Context::cleanup(), container.task.id, changes));
  }
  if (!container.definition) return {};
  return update_defined(driver.options()->data_dir, container.definition->container_id, updates);
}

// What the container is to have in all, as far as it is known what it had.
Result<RunRequest> merge(const Container& container, const RunFlags& given, const Updates& updates) {
  if (container.definition) {
    Definition changed = *container.definition;
    for (const auto& [limit, value] : updates) changed.updates[limit] = value;
    return run_of(changed);
  }
  RunRequest run{.flags = given, .args = {}, .spec = {}};
  TRY(run.spec, make_task_spec(given, {"image"}));
  return run;
}

Result<driver::LimitChanges> changes_of(const RunRequest& run, const Updates& updates,
                                        const driver::PluginOptions& options, const driver::HostFacts& host) {
  const auto or_none = [](std::int64_t limit) { return limit == 0 ? std::int64_t{-1} : limit; };
  const driver::TaskSpec& spec = run.spec;
  driver::LimitChanges changes;
  if (updates.contains("memory") || updates.contains("memory-swap")) {
    changes.memory_bytes = or_none(spec.resources.memory_bytes);
    const std::string& swap = spec.options.memory_swap;
    std::int64_t bytes = -1;
    std::from_chars(swap.data(), swap.data() + swap.size(), bytes);
    if (!swap.empty()) changes.memory_swap_bytes = bytes;
  }
  if (updates.contains("memory-reservation")) {
    changes.memory_reservation_bytes = or_none(static_cast<std::int64_t>(spec.options.memory_reservation));
  }
  if (updates.contains("cpus")) changes.cpus = spec.resources.node_cpu_share * host.cores;
  if (updates.contains("cpu-shares")) changes.cpu_shares = spec.resources.cpu_shares;
  if (updates.contains("cpuset-cpus")) changes.cpuset_cpus = spec.options.cpuset_cpus;
  if (updates.contains("pids-limit")) {
    TRY(const std::int64_t limit, driver::effective_pids_limit(spec.options.pids_limit, options.pids_limit));
    changes.pids_max = or_none(limit);
  }
  return changes;
}

}  // namespace
}  // namespace cli
