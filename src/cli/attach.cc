// Our terminal as that of a container which runs on by itself: its output comes out of its log, as it is written, and
// what is typed goes into the FIFO that its shim reads.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>

#include "base/file.h"
#include "base/process.h"
#include "base/thread.h"
#include "cli/detach_keys.h"
#include "cli/input.h"
#include "cli/log_reader.h"
#include "cli/start.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::chrono::milliseconds kOutputInterval{50};
constexpr std::chrono::seconds kRemainderTime{5};
constexpr std::chrono::seconds kProxyTime{5};

struct AttachFlags {
  std::string detach_keys = DetachKeys::kDefault;
  bool no_stdin = false;
  bool sig_proxy = true;
};

/// What is typed, on its way to the container.
class TypedInput {
 public:
  explicit TypedInput(DetachKeys keys) : keys_(std::move(keys)) {}
  /// Begins, once the container's FIFO is open. Keys are looked for if our input is a terminal.
  Status start(const std::string& fifo);
  /// The keys have come.
  bool detached() const { return detached_; }

 private:
  void copy(const std::stop_token& stop);

  DetachKeys keys_;
  bool looks_for_keys_ = false;
  Fd to_;
  std::atomic<bool> detached_{false};
  std::jthread thread_;  // last: it uses the others
};

/// One call: whom it is attached to.
struct Attachment {
  const FoundTask& found;
  std::string dir;  ///< of its definition
  bool tty = false;
  bool takes_input = false;
  bool wants_input = false;
};

Result<Attachment> find_attachment(const Globals& globals, const FoundTask& found, const std::string& wanted);
int attach_to(Call& call, SignalRelay& signals, const AttachFlags& given, DetachKeys keys,
              const Attachment& attachment);
int show_output(Call& call, const Attachment& attachment, LogReader& reader, const TypedInput& input,
                const std::atomic<int>& stopped_by);
void proxy_signal(const Attachment& attachment, int signal);

}  // namespace

int attach_command(const Verb& self, Call& call) {
  Flags flags;
  AttachFlags given;
  flags.value("detach-keys", 0, "KEYS", "leave it running when these are typed (default ctrl-p,ctrl-q); \"\": none",
              given.detach_keys);
  flags.toggle("no-stdin", 0, "do not pass on standard input", given.no_stdin);
  flags.toggle("sig-proxy", 0, "pass on signals to the container (default; false: they end the attach)",
               given.sig_proxy);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 1) return misuse(self, call.io, Error::invalid_argument("name one container"));
  auto keys = DetachKeys::parse(given.detach_keys);
  if (!keys) return misuse(self, call.io, keys.error());
  const auto signals = SignalRelay::start();  // before any other thread, so that they all leave signals to it
  if (!signals) return fail(call.io, signals.error(), kExitRunFailure);
  const auto found = find_running(call.globals, args->front());
  if (!found) return fail(call.io, found.error(), kExitRunFailure);
  const auto attachment = find_attachment(call.globals, *found, args->front());
  if (!attachment) return fail(call.io, attachment.error(), kExitRunFailure);
  return attach_to(call, **signals, given, *std::move(keys), *attachment);
}

namespace {

Result<Attachment> find_attachment(const Globals& globals, const FoundTask& found, const std::string& wanted) {
  if (!found.definition) {
    return Error::failed_precondition(str(wanted,
                                          " cannot be attached to: what Nomad starts has its output at the "
                                          "agent, see nomad alloc logs and nomad alloc exec"));
  }
  TRY(const RunRequest run, run_of(*found.definition));
  if (run.flags.log_driver == "none") {
    return Error::failed_precondition(str(wanted,
                                          " cannot be attached to: it was made with --log-driver none, and "
                                          "its output comes out of its log"));
  }
  return Attachment{found, definition_dir(globals.options().data_dir, found.definition->container_id),
                    run.spec.options.tty, run.flags.interactive && run.spec.options.tty, run.flags.interactive};
}

int attach_to(Call& call, SignalRelay& signals, const AttachFlags& given, DetachKeys keys,
              const Attachment& attachment) {
  driver::Driver& driver = attachment.found.session->driver;
  const driver::TaskId& id = attachment.found.task.id;
  if (auto attached = driver.attach(Context::background().with_stop(signals.stop_token()), id); !attached) {
    return fail_unless_stopped(call.io, signals, attached.error(), kExitRunFailure);
  }
  LogReader reader(attachment.dir);
  signals.hold();
  reader.skip_to_end();  // what was written before is for `logs`
  std::atomic<int> stopped_by{0};
  signals.set_target([&](int signal) {
    if (signal == SIGWINCH && attachment.tty) {
      [[maybe_unused]] const auto resized = driver.resize(Context::cleanup(), id, own_terminal_size());
    } else if (given.sig_proxy) {
      proxy_signal(attachment, signal);
    } else if (asks_to_stop(signal)) {
      stopped_by = signal;
    }
  });
  TypedInput input(std::move(keys));
  std::unique_ptr<RawTerminal> terminal;
  if (attachment.wants_input && !attachment.takes_input && !given.no_stdin) {
    print_note(call.io,
               "what is typed does not reach it: a container that runs on by itself takes input only with -it");
  }
  if (attachment.takes_input && !given.no_stdin) {
    if (::isatty(STDIN_FILENO) == 1) {
      if (auto raw = RawTerminal::enter(STDIN_FILENO)) terminal = *std::move(raw);
    }
    if (auto begun = input.start(attachment.dir + "/stdin"); !begun) {
      terminal.reset();
      print_note(call.io, str("what is typed does not reach it: ", begun.error().message));
    }
  }
  if (const driver::TerminalSize size = own_terminal_size(); attachment.tty && size.width > 0) {
    [[maybe_unused]] const auto resized = driver.resize(Context::cleanup(), id, size);  // it may just have ended
  }
  const int exit_code = show_output(call, attachment, reader, input, stopped_by);
  signals.set_target({});
  return exit_code;
}

int show_output(Call& call, const Attachment& attachment, LogReader& reader, const TypedInput& input,
                const std::atomic<int>& stopped_by) {
  const base::OneShot<driver::ExitResult> exit;
  const auto waiting = attachment.found.session->driver.wait(
      attachment.found.task.id, [exit](const driver::ExitResult& result) { exit.set(result); });
  if (!waiting) return fail(call.io, waiting.error(), kExitRunFailure);
  const Context ctx = Context::background();
  LogPrinter printer(call.io, false);
  for (;;) {
    // Asked before the last look: what was written by then is found by it.
    const bool ended = exit.ready();
    if (ended) [[maybe_unused]]
      const auto written = finish_log(ctx.with_timeout(kRemainderTime), attachment.dir);
    for (std::string line; reader.next(line);) {
      if (const auto entry = parse_log_entry(line)) printer.print(*entry);
    }
    call.io.out.flush();
    if (ended) return report_exit(call.io, *exit.wait(ctx));
    if (input.detached() || call.io.out.bad()) return kExitOk;
    if (stopped_by != 0) return kExitSignalBase + stopped_by;
    [[maybe_unused]] const auto waited = exit.wait(ctx.with_timeout(kOutputInterval));
  }
}

void proxy_signal(const Attachment& attachment, int signal) {
  const Context ctx = Context::background().with_timeout(kProxyTime);
  [[maybe_unused]] const auto sent = attachment.found.session->driver.signal(
      ctx, attachment.found.task.id, base::signal_name(signal));  // it may just have ended
}

Status TypedInput::start(const std::string& fifo) {
  looks_for_keys_ = ::isatty(STDIN_FILENO) == 1;
  TRY(to_, base::open_file(fifo, O_WRONLY | O_NONBLOCK));
  TRY(thread_, base::start_thread("input", [this](const std::stop_token& stop) { copy(stop); }));
  return {};
}

// The end of our input is not that of the container's: others may attach to it after us.
void TypedInput::copy(const std::stop_token& stop) {
  const Context ctx = Context::background().with_stop(stop);
  read_input(stop, STDIN_FILENO, [&](std::string_view typed) {
    const std::string passed = looks_for_keys_ ? keys_.pass(typed) : std::string(typed);
    if (!passed.empty() && !base::write_all(ctx, to_.get(), passed)) return false;
    detached_ = keys_.detached();
    return !detached_;
  });
}

}  // namespace
}  // namespace cli
