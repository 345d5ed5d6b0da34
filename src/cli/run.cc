#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "cli/input.h"
#include "cli/log_file.h"
#include "cli/progress.h"
#include "cli/pump.h"
#include "cli/run_spec.h"
#include "cli/signals.h"
#include "cli/start.h"
#include "cli/verb.h"
#include "driver/life/runtime_error.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::chrono::seconds kLastOutputTime{5};
constexpr std::chrono::seconds kUnreadStopTimeout{1};  // of a command whose output nobody takes any more

/// Our own output takes no more.
struct Lost {
  Error why;
};

/// The FIFOs of one call, and what carries them to our own output; the folder goes with it.
struct Output {
  ~Output();
  std::string dir;
  base::OneShot<Lost> lost;
  std::unique_ptr<InputPump> in;  // with -i
  std::unique_ptr<FifoPump> out;
  std::unique_ptr<FifoPump> err;
};

int run_task(Call& call, RunRequest& request);
int run_detached(Call& call, SignalRelay& signals, const RunRequest& request);
Status open_output(driver::Driver& driver, bool interactive, const std::string& log_dir, driver::TaskSpec& spec,
                   Output& output);
Result<std::unique_ptr<RawTerminal>> begin_input(Call& call, driver::Driver& driver, const driver::TaskSpec& spec,
                                                 Output& output);
void resize(driver::Driver& driver, const driver::TaskId& id);
void stop_unread(driver::Driver& driver, const driver::TaskId& id);
int run_to_end(Call& call, DriverSession& session, SignalRelay& signals, const driver::TaskSpec& spec, Output& output);
Result<driver::ExitResult> wait_forwarding(DriverSession& session, SignalRelay& signals, const driver::TaskSpec& spec);
void drain(SignalRelay& signals, const Output& output);
void forward(driver::Driver& driver, const driver::TaskId& id, int signal, int& stops_seen);
int report_lost(Io& io, const Output& output);
int fail_start(Call& call, const SignalRelay& signals, const Error& error);

}  // namespace

int run_command(const Verb& self, Call& call) {
  int exit_code = kExitOk;
  auto request = parse_run(self, call, exit_code);
  return request ? run_task(call, *request) : exit_code;
}

namespace {

int run_task(Call& call, RunRequest& request) {
  const RunFlags& given = request.flags;
  driver::TaskSpec& spec = request.spec;
  const auto signals = SignalRelay::start();  // before any other thread, so that they all leave signals to it
  if (!signals) return fail(call.io, signals.error(), kExitRunFailure);
  auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error(), kExitRunFailure);
  if (auto ready = ensure_run_image(call, **signals, request); !ready) {
    return fail_start(call, **signals, ready.error());
  }
  if (given.detach) return run_detached(call, **signals, request);
  const auto joined = join_containers((*session)->driver, given.network, given.pid, spec);
  if (!joined) return fail(call.io, joined.error(), kExitRunFailure);
  const std::string data_dir = call.globals.options().data_dir;
  const auto definition = define(call.globals, request);
  if (!definition) return fail(call.io, definition.error(), kExitRunFailure);
  const std::string dir = definition_dir(data_dir, definition->container_id);
  if (!given.remove) spec.kept_dir = dir + "/kept";
  Output output;
  const std::string log_dir = given.log_driver == "none" ? "" : dir;
  const auto opened = open_output((*session)->driver, given.interactive, log_dir, spec, output);
  const int exit_code =
      opened ? run_to_end(call, **session, **signals, spec, output) : fail(call.io, opened.error(), kExitRunFailure);
  if (given.remove) [[maybe_unused]]
    const auto removed = remove_definition(data_dir, definition->container_id);
  return exit_code;
}

int run_detached(Call& call, SignalRelay& signals, const RunRequest& request) {
  const auto definition = define(call.globals, request);
  if (!definition) return fail(call.io, definition.error(), kExitRunFailure);
  if (auto started = start_defined(call, signals, *definition); !started) {
    [[maybe_unused]] const auto removed = remove_definition(call.globals.options().data_dir, definition->container_id);
    return fail_start(call, signals, started.error());
  }
  if (request.flags.remove) {
    if (auto begun = begin_remover(call.globals, *definition); !begun) {
      print_note(call.io, str("it is not removed when it has ended: ", begun.error().message));
    }
  }
  print_line(call.io, long_id(definition->container_id));
  return kExitOk;
}

Status open_output(driver::Driver& driver, bool interactive, const std::string& log_dir, driver::TaskSpec& spec,
                   Output& output) {
  constexpr mode_t kTraversable = 0711;
  constexpr mode_t kOwnerOnly = 0700;
  const std::string parent = driver.options()->state_dir + "/cli";
  TRY_VOID(base::make_dirs(parent, kTraversable));
  output.dir = str(parent, "/", spec.id.text.substr(spec.id.text.rfind('/') + 1));
  TRY_VOID(base::make_dirs(output.dir, kOwnerOnly));
  if (interactive) {
    spec.stdin_path = output.dir + "/stdin";
    TRY(output.in, InputPump::make(spec.stdin_path));
  }
  spec.stdout_path = output.dir + "/stdout";
  spec.stderr_path = output.dir + "/stderr";
  const auto on_lost = [&driver, id = spec.id, lost = output.lost](const char* which) {
    return [&driver, id, lost, which](const Error& why) {
      if (lost.set({Error(why).wrap(which)})) stop_unread(driver, id);
    };
  };
  FifoPump::OnData to_log, errors_to_log;
  if (!log_dir.empty()) {
    TRY(const auto log, LogSink::open(log_dir));
    to_log = [log](std::string_view data) { log->write(false, data); };
    errors_to_log = [log](std::string_view data) { log->write(true, data); };
  }
  TRY(output.out, FifoPump::start(spec.stdout_path, STDOUT_FILENO, on_lost("standard output"), to_log));
  TRY(output.err, FifoPump::start(spec.stderr_path, STDERR_FILENO, on_lost("standard error"), errors_to_log));
  return {};
}

// What SIGPIPE is to a program of a pipeline; a container's first process would not notice that one.
void stop_unread(driver::Driver& driver, const driver::TaskId& id) {
  const base::OneShot<base::Status> stopped;
  const auto stop =
      driver.stop(id, kUnreadStopTimeout, "", [stopped](const base::Status& status) { stopped.set(status); });
  if (stop) [[maybe_unused]]
    const auto ended = stopped.wait(Context::cleanup());  // or it has ended
}

int run_to_end(Call& call, DriverSession& session, SignalRelay& signals, const driver::TaskSpec& spec, Output& output) {
  driver::Driver& driver = session.driver;
  // The command may run, and be sent signals, before start() has returned.
  signals.hold();
  const auto started = driver.start(Context::background().with_stop(signals.stop_token()), spec);
  if (!started && output.lost.ready()) return report_lost(call.io, output);
  if (!started) return fail_start(call, signals, started.error());
  if (output.lost.ready()) stop_unread(driver, spec.id);  // a stop just before the end of a start does nothing
  auto terminal = begin_input(call, driver, spec, output);
  if (!terminal) print_note(call.io, terminal.error().message);
  const auto exit = wait_forwarding(session, signals, spec);
  output.in.reset();
  drain(signals, output);
  if (terminal) terminal->reset();
  if (spec.remove_on_exit || !exit) {
    if (auto removed = driver.destroy(Context::cleanup(), spec.id, true); !removed) {
      return fail(call.io, std::move(removed).error().wrap("removing the container"), kExitRunFailure);
    }
  }
  if (output.lost.ready()) return report_lost(call.io, output);
  return exit ? report_exit(call.io, *exit) : fail(call.io, exit.error(), kExitRunFailure);
}

// Null if our terminal is not the container's.
Result<std::unique_ptr<RawTerminal>> begin_input(Call& call, driver::Driver& driver, const driver::TaskSpec& spec,
                                                 Output& output) {
  std::unique_ptr<RawTerminal> terminal;
  if (spec.options.tty) resize(driver, spec.id);
  if (!output.in) return terminal;
  if (spec.options.tty && ::isatty(STDIN_FILENO) == 1) {
    TRY(terminal, RawTerminal::enter(STDIN_FILENO));
  } else if (spec.options.tty) {
    print_note(call.io, "standard input is not a terminal: what -t expects of one does not work");
  }
  const auto on_end = [&driver, id = spec.id] {
    [[maybe_unused]] const auto closed = driver.close_stdin(Context::cleanup(), id);  // it may just have ended
  };
  if (auto begun = output.in->start(STDIN_FILENO, on_end); !begun && begun.error().sys_errno != ENXIO) {
    return std::move(begun).error();
  }
  return terminal;
}

void resize(driver::Driver& driver, const driver::TaskId& id) {
  const driver::TerminalSize size = own_terminal_size();
  if (size.height == 0 || size.width == 0) return;
  [[maybe_unused]] const auto resized = driver.resize(Context::cleanup(), id, size);  // it may just have ended
}

// What the task wrote last is still on its way. A task that gave its output to somebody else's child may never end it;
// a reader that takes its time (a pager) gets all of it, unless a person has had enough.
void drain(SignalRelay& signals, const Output& output) {
  std::stop_source enough;
  signals.set_target([&enough](int signal) {
    if (asks_to_stop(signal)) enough.request_stop();
  });
  const Context ctx = Context::background().with_stop(enough.get_token());
  for (const auto& pump : {output.out.get(), output.err.get()}) {
    [[maybe_unused]] const auto drained = pump->drain(ctx, kLastOutputTime);
  }
  signals.set_target({});
}

Result<driver::ExitResult> wait_forwarding(DriverSession& session, SignalRelay& signals, const driver::TaskSpec& spec) {
  const base::OneShot<driver::ExitResult> exit;
  TRY(const base::Subscription subscription,
      session.driver.wait(spec.id, [exit](const driver::ExitResult& result) { exit.set(result); }));
  auto stops_seen = std::make_shared<int>(0);
  signals.set_target([&driver = session.driver, &spec, stops_seen](int signal) {
    if (signal == SIGWINCH && spec.options.tty) return resize(driver, spec.id);
    forward(driver, spec.id, signal, *stops_seen);
  });
  auto result = exit.wait(Context::background());
  signals.set_target({});
  return result;
}

// The first process of a container ignores signals that it has no handler for; a person who insists means it.
void forward(driver::Driver& driver, const driver::TaskId& id, int signal, int& stops_seen) {
  constexpr int kInsists = 3;
  const Context ctx = Context::background().with_timeout(std::chrono::seconds(5));
  if ((signal == SIGINT || signal == SIGTERM) && ++stops_seen >= kInsists) signal = SIGKILL;
  [[maybe_unused]] const auto sent = driver.signal(ctx, id, base::signal_name(signal));  // it may just have ended
}

int report_lost(Io& io, const Output& output) {
  const Error why = output.lost.wait(Context::background())->why;
  return fail_lost_output(io, Error(why).wrap("the container was stopped"));
}

int fail_start(Call& call, const SignalRelay& signals, const Error& error) {
  const int exit_code = driver::exit_code_of_runtime_error(error);
  return fail_unless_stopped(call.io, signals, error, exit_code == 0 ? kExitRunFailure : exit_code);
}

Output::~Output() {
  in.reset();
  out.reset();
  err.reset();
  if (!dir.empty()) [[maybe_unused]]
    const auto removed = base::remove_tree(dir);
}

}  // namespace

int report_exit(Io& io, const driver::ExitResult& exit) {
  if (exit.oom_killed) print_note(io, "the kernel killed a process of the container: out of memory");
  if (!exit.error.empty()) {
    return fail(io, Error::unknown(exit.error), exit.exit_code == 0 ? kExitRunFailure : exit.exit_code);
  }
  return exit.exit_code;
}

// Pulled here rather than by the driver's start, so that a person sees how far it is.
Status ensure_run_image(Call& call, SignalRelay& signals, RunRequest& request) {
  const RunFlags& flags = request.flags;
  driver::TaskOptions& options = request.spec.options;
  oci::Images local({.data_dir = call.globals.options().data_dir, .helper = ""});
  const bool always = flags.pull == "always" || flags.pull == "newer";
  if (!always && local.find(options.image, options.platform)) return {};
  if (auto named = image_of_digest(local, options.image)) {
    options.image = *std::move(named);
    return {};
  }
  if (flags.pull == "never")
    return Error::not_found(str("the image ", options.image, " is not here, and --pull never"));
  const Context ctx = Context::background().with_stop(signals.stop_token());
  TRY(const auto images, open_images(call.globals));
  TRY(auto pull, pull_request(ctx, call.globals, options.image));
  pull.platform = options.platform;
  Progress progress(call.io, call.io.err_is_terminal ? ProgressStyle::kBar : ProgressStyle::kNone);
  pull.on_progress = [&](const oci::PullProgress& now) { progress.show(now); };
  TRY([[maybe_unused]] const oci::Image image, always ? images->pull(ctx, pull) : images->ensure(ctx, pull));
  return {};
}

}  // namespace cli
