// Containers that outlive the command that started them: run --detach, create, start, restart.
#include "cli/start.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/process.h"
#include "cli/definition.h"
#include "cli/kept_image.h"
#include "driver/life/record.h"
#include "driver/life/runtime_error.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

Result<base::Fd> lock_names(const std::string& data_dir);
Status check_name_is_free(const std::string& data_dir, const std::string& name);
bool is_left_over(const std::string& data_dir, const Definition& definition);
Result<std::string> log_program(const std::string& dir);
Result<std::string> own_program();
Result<std::string> input_fifo(const std::string& dir);
Status write_cidfile(const std::string& path, const std::string& id);
/// `act` gets containers that have a definition.
int for_each_defined(const Verb& self, Call& call, const std::vector<std::string>& names,
                     const std::function<Status(const FoundTask&)>& act);

}  // namespace

std::optional<RunRequest> parse_run(const Verb& self, Call& call, int& exit_code) {
  Flags flags;
  RunRequest request;
  declare_run_flags(flags, request.flags);
  request.args = call.args;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kAtFirstArgument, exit_code);
  if (!args) return std::nullopt;
  auto spec = make_task_spec(request.flags, *args);
  if (!spec) {
    exit_code = misuse(self, call.io, spec.error());
    return std::nullopt;
  }
  request.spec = *std::move(spec);
  return request;
}

Result<Definition> define(const Globals& globals, const RunRequest& request) {
  const RunFlags& flags = request.flags;
  const std::string data_dir = globals.options().data_dir;
  Definition definition;
  definition.container_id = driver::container_id_of(request.spec.id);
  definition.task_id = request.spec.id.text;
  definition.name = flags.name.empty() ? definition.container_id : flags.name;
  definition.args = request.args;
  note_image(data_dir, request.spec.options, definition);
  definition.env = request.spec.env;
  definition.created_at = std::chrono::system_clock::now();
  definition.transient = flags.remove && !flags.detach;
  TRY(definition.cwd, base::absolute_path("."));
  if (!flags.cidfile.empty()) TRY_VOID(write_cidfile(flags.cidfile, long_id(definition.container_id)));
  TRY(const base::Fd lock, lock_names(data_dir));
  TRY_VOID(check_name_is_free(data_dir, definition.name));
  TRY_VOID(write_definition(data_dir, definition));
  return definition;
}

Status rename_defined(const std::string& data_dir, const std::string& container_id, const std::string& name) {
  TRY_VOID(check_name(name));
  TRY(const base::Fd lock, lock_names(data_dir));
  TRY_VOID(check_name_is_free(data_dir, name));
  TRY(Definition definition, read_definition(data_dir, container_id));
  definition.name = name;
  return write_definition(data_dir, definition);
}

Status update_defined(const std::string& data_dir, const std::string& container_id,
                      const std::map<std::string, std::string>& updates) {
  TRY(const base::Fd lock, lock_names(data_dir));
  TRY(Definition definition, read_definition(data_dir, container_id));
  for (const auto& [limit, value] : updates) definition.updates[limit] = value;
  return write_definition(data_dir, definition);
}

Status start_defined(Call& call, SignalRelay& signals, const Definition& definition) {
  // One of its own: what a driver knows of a run that has ended would be its answer.
  TRY(const auto session, open_driver(call.globals));
  TRY(RunRequest run, run_of(definition));
  const Context ctx = Context::background().with_stop(signals.stop_token());
  TRY_VOID(use_noted_image(ctx, call.globals.options().data_dir, definition, run.spec.options));
  run.spec.options.image_pull_policy = driver::PullPolicy::kMissing;
  const std::string dir = definition_dir(call.globals.options().data_dir, definition.container_id);
  TRY(const auto joined, join_containers(session->driver, run.flags.network, run.flags.pid, run.spec));
  run.spec.kept_dir = dir + "/kept";
  run.spec.remove_on_exit = false;  // this process ends, and the container stays
  run.spec.stdout_path = "/dev/null";
  run.spec.stderr_path = "/dev/null";
  if (run.flags.log_driver != "none") {
    TRY(run.spec.stdout_path, log_program(dir));
    run.spec.stderr_path = run.spec.stdout_path;
  }
  if (run.spec.options.tty) run.spec.stderr_path = "";
  if (run.flags.interactive && run.spec.options.tty) {  // a shim with a logging program has no other way in
    TRY(run.spec.stdin_path, input_fifo(dir));
  }
  TRY([[maybe_unused]] const auto started, session->driver.start(ctx, run.spec));
  return {};
}

Status begin_remover(const Globals& globals, const Definition& definition) {
  const driver::PluginOptions options = globals.options();
  return begin_own_program({kRemoverVerb, options.data_dir, options.state_dir, definition.container_id});
}

Status begin_own_program(std::vector<std::string> args) {
  base::SpawnOptions spawn;
  TRY(std::string self, own_program());
  args.insert(args.begin(), std::move(self));
  spawn.argv = std::move(args);
  spawn.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  spawn.new_session = true;
  TRY([[maybe_unused]] const base::Process begun, base::Process::spawn(spawn));
  return {};
}

int remove_when_ended(const std::string& data_dir, const std::string& state_dir, const std::string& container_id) {
  Globals globals;
  globals.data_dir = data_dir;
  globals.state_dir = state_dir;
  if (!globals.apply()) return kExitFailure;
  const auto found = find_container(globals, container_id);
  if (!found) return kExitFailure;
  driver::Driver& driver = found->session->driver;
  if (driver.attach(Context::background(), found->task.id)) [[maybe_unused]]
    const auto ended = wait_for_exit(Context::background(), driver, found->task.id);
  if (!driver.destroy(Context::cleanup(), found->task.id, true)) return kExitFailure;
  return remove_definition(data_dir, container_id) ? kExitOk : kExitFailure;
}

int create_command(const Verb& self, Call& call) {
  int exit_code = kExitOk;
  auto request = parse_run(self, call, exit_code);
  if (!request) return exit_code;
  const auto signals = SignalRelay::start();
  if (!signals) return fail(call.io, signals.error(), kExitRunFailure);
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error(), kExitRunFailure);
  if (auto ready = ensure_run_image(call, **signals, *request); !ready) {
    return fail_unless_stopped(call.io, **signals, ready.error(), kExitRunFailure);
  }
  const auto definition = define(call.globals, *request);
  if (!definition) return fail(call.io, definition.error(), kExitRunFailure);
  print_line(call.io, long_id(definition->container_id));
  return kExitOk;
}

int start_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  const auto signals = SignalRelay::start();
  if (!signals) return fail(call.io, signals.error(), kExitRunFailure);
  return for_each_defined(self, call, *args, [&](const FoundTask& found) -> Status {
    if (found.task.state == driver::TaskState::kRunning) return {};
    return start_defined(call, **signals, *found.definition);
  });
}

int restart_command(const Verb& self, Call& call) {
  Flags flags;
  std::string seconds;
  flags.value("time", 't', "SECONDS", "how long to wait before it is killed (default 10)", seconds);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  const auto timeout = parse_stop_timeout(seconds, kStopTimeoutDefault);
  if (!timeout) return misuse(self, call.io, timeout.error());
  const auto signals = SignalRelay::start();
  if (!signals) return fail(call.io, signals.error(), kExitRunFailure);
  return for_each_defined(self, call, *args, [&](const FoundTask& found) -> Status {
    if (found.task.state == driver::TaskState::kRunning) {
      driver::Driver& driver = found.session->driver;
      TRY_VOID(driver.attach(Context::cleanup(), found.task.id));
      const auto patience = seconds.empty() ? own_stop_timeout(found.definition, *timeout) : *timeout;
      TRY(const End end, begin_stop(driver, found.task.id, patience));
      TRY_VOID(end());
    }
    return start_defined(call, **signals, *found.definition);
  });
}

namespace {

int for_each_defined(const Verb& self, Call& call, const std::vector<std::string>& names,
                     const std::function<Status(const FoundTask&)>& act) {
  if (names.empty()) return misuse(self, call.io, Error::invalid_argument("name the containers"));
  int exit_code = kExitOk;
  for (const std::string& name : names) {
    const auto found = find_container(call.globals, name);
    if (!found) {
      exit_code = fail(call.io, found.error(), kExitRunFailure);
    } else if (!found->definition) {
      exit_code = fail(call.io,
                       Error::failed_precondition(
                           str(name,
                               " cannot be started here: only what `create` or `run --detach` made can, what Nomad "
                               "started is started by Nomad")),
                       kExitRunFailure);
    } else if (const auto done = act(*found); !done) {
      const int code = driver::exit_code_of_runtime_error(done.error());
      exit_code = fail(call.io, Error(done.error()).wrap(name), code == 0 ? kExitRunFailure : code);
    } else {
      print_line(call.io, name);
    }
  }
  return exit_code;
}

// Held while a name is looked for and taken.
Result<base::Fd> lock_names(const std::string& data_dir) {
  const std::string dir = definition_dir(data_dir, "");
  TRY_VOID(base::make_dirs(dir, 0700));
  TRY(base::Fd lock, base::open_file(dir, O_RDONLY | O_DIRECTORY));
  if (::flock(lock.get(), LOCK_EX) != 0) return Error::from_errno(errno, str("locking ", dir));
  return lock;
}

Status check_name_is_free(const std::string& data_dir, const std::string& name) {
  TRY(const auto definitions, list_definitions(data_dir));
  const auto other = std::find_if(definitions.begin(), definitions.end(),
                                  [&](const Definition& definition) { return definition.name == name; });
  if (other == definitions.end()) return {};
  if (is_left_over(data_dir, *other)) return remove_definition(data_dir, other->container_id);
  return Error::already_exists(str("the name ", name, " is taken by container ",
                                   long_id(other->container_id).substr(0, 12),
                                   ": remove that one, or choose another name"));
}

// Of a command that was killed: its task has been removed by the reaper, or was never made.
bool is_left_over(const std::string& data_dir, const Definition& definition) {
  constexpr std::chrono::minutes kStartTime{1};
  return definition.transient && std::chrono::system_clock::now() - definition.created_at > kStartTime &&
         ::access(str(data_dir, "/tasks/", definition.container_id).c_str(), F_OK) != 0 && errno == ENOENT;
}

// What `attach` writes to; it stays with the container.
Result<std::string> input_fifo(const std::string& dir) {
  constexpr mode_t kOwnerOnly = 0600;
  std::string path = dir + "/stdin";
  if (::mkfifo(path.c_str(), kOwnerOnly) == 0 || errno == EEXIST) return path;
  return Error::from_errno(errno, path);
}

Result<std::string> own_program() {
  std::error_code code;
  std::string self = std::filesystem::read_symlink("/proc/self/exe", code).string();
  if (code) return Error::from_errno(code.value(), "/proc/self/exe");
  return self;
}

// The shim starts this program again, which finds its way by its first argument.
Result<std::string> log_program(const std::string& dir) {
  TRY(const std::string self, own_program());
  return str("binary://", url_path(self), "?", kLogWriterVerb, "=", url_path(dir));
}

Status write_cidfile(const std::string& path, const std::string& id) {
  TRY(const base::Fd file, base::open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
  if (::write(file.get(), id.data(), id.size()) == static_cast<ssize_t>(id.size())) return {};
  return Error::from_errno(errno, str("--cidfile ", path));
}

}  // namespace

std::string url_path(std::string_view path) {
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 15U];
    }
  }
  return out;
}

}  // namespace cli
