#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "base/thread.h"
#include "cli/input.h"
#include "cli/run_spec.h"
#include "cli/start.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

struct ExecFlags {
  bool detach = false;
  bool interactive = false;
  bool tty = false;
  std::string user;
  std::string workdir;
  std::vector<std::string> env;
};

/// A command's output on its way to ours. The command's side is the loop's and may not block; ours may, so that a
/// thread of its own writes.
class OutputQueue {
 public:
  static constexpr std::size_t kWaitingMax = 1u << 20;

  /// Both are called on the writing thread: after push() said false; and once when our output takes no more.
  OutputQueue(std::function<void()> on_room, std::function<void()> on_lost)
      : on_room_(std::move(on_room)), on_lost_(std::move(on_lost)) {}
  ~OutputQueue() { [[maybe_unused]] const auto written = finish(); }
  base::Status start();
  /// False if that was enough for now.
  bool push(driver::ExecStream stream, std::string_view data);
  /// Waits until all is written. Why not all could be, if it could not.
  Status finish();

 private:
  struct Piece {
    int fd;
    std::string data;
  };
  void write_all();

  std::function<void()> on_room_;
  std::function<void()> on_lost_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Under mutex_.
  std::deque<Piece> pieces_;
  std::size_t waiting_ = 0;
  bool full_ = false;
  bool ended_ = false;
  Status lost_;
  std::jthread thread_;
};

/// Standard input on its way to the command: no more at once than it takes.
class ExecInput {
 public:
  ExecInput(base::Loop& loop, std::shared_ptr<driver::ExecSession> session)
      : loop_(loop), session_(std::move(session)) {}
  base::Status start();
  void drained();

 private:
  void copy(const std::stop_token& stop);

  base::Loop& loop_;
  std::shared_ptr<driver::ExecSession> session_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool full_ = false;  // under mutex_
  std::jthread thread_;
};

Result<FoundTask> find_for_exec(const Globals& globals, const std::string& wanted);
int exec_detached(Call& call, const ExecFlags& given, const std::string& wanted,
                  const std::vector<std::string>& command);
int exec_in(Call& call, const ExecFlags& given, const std::string& wanted, std::vector<std::string> command);
int run_session(Call& call, DriverSession& driver, SignalRelay& signals, const driver::TaskId& id,
                driver::ExecSpec spec);

}  // namespace

int exec_command(const Verb& self, Call& call) {
  Flags flags;
  ExecFlags given;
  flags.toggle("detach", 'd', "leave the command running, and show nothing of it", given.detach);
  flags.toggle("interactive", 'i', "pass on standard input", given.interactive);
  flags.toggle("tty", 't', "give the command a terminal", given.tty);
  flags.value("user", 'u', "USER[:GROUP]", "user to run as (default: the container's)", given.user);
  flags.value("workdir", 'w', "DIR", "working directory (default: the container's)", given.workdir);
  flags.list("env", 'e', "K=V", "set an environment variable; K alone passes on the caller's value", given.env);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kAtFirstArgument, exit_code);
  if (!args) return exit_code;
  if (args->size() < 2) {
    return misuse(self, call.io, Error::invalid_argument(args->empty() ? "name the container" : "name the command"));
  }
  std::vector<std::string> command(args->begin() + 1, args->end());
  if (given.detach) return exec_detached(call, given, args->front(), command);
  return exec_in(call, given, args->front(), std::move(command));
}

namespace {

// A command lives as long as somebody holds its session: a process of its own does, with nothing to read and to show.
int exec_detached(Call& call, const ExecFlags& given, const std::string& wanted,
                  const std::vector<std::string>& command) {
  const auto found = find_for_exec(call.globals, wanted);
  if (!found) return fail(call.io, found.error(), kExitRunFailure);
  const driver::PluginOptions options = call.globals.options();
  std::map<std::string, std::string> env;
  if (auto added = add_env(given.env, env); !added) return fail(call.io, added.error(), kExitMisuse);
  std::vector<std::string> args = {"--data-dir", options.data_dir, "--state-dir", options.state_dir, "exec"};
  for (const auto& [key, value] : env) args.insert(args.end(), {"-e", key + "=" + value});
  if (!given.user.empty()) args.insert(args.end(), {"-u", given.user});
  if (!given.workdir.empty()) args.insert(args.end(), {"-w", given.workdir});
  args.push_back(container_id_of(found->task));
  args.insert(args.end(), command.begin(), command.end());
  const auto begun = begin_own_program(std::move(args));
  return begun ? kExitOk : fail(call.io, begun.error(), kExitRunFailure);
}

Result<FoundTask> find_for_exec(const Globals& globals, const std::string& wanted) {
  TRY(auto found, find_running(globals, wanted));
  if (attribute(found.task, "paused").empty()) return found;
  return Error::failed_precondition(str(wanted, " is paused: unpause it first"));
}

int exec_in(Call& call, const ExecFlags& given, const std::string& wanted, std::vector<std::string> command) {
  const auto signals = SignalRelay::start();  // before any other thread, so that they all leave signals to it
  if (!signals) return fail(call.io, signals.error(), kExitRunFailure);
  const auto found = find_for_exec(call.globals, wanted);
  if (!found) return fail(call.io, found.error(), kExitRunFailure);
  const Context ctx = Context::background().with_stop((*signals)->stop_token());
  if (auto attached = found->session->driver.attach(ctx, found->task.id); !attached) {
    return fail(call.io, attached.error(), kExitRunFailure);
  }
  driver::ExecSpec spec;
  spec.command = std::move(command);
  spec.tty = given.tty;
  spec.has_stdin = given.interactive;
  spec.user = given.user;
  spec.cwd = given.workdir;
  if (auto added = add_env(given.env, spec.env); !added) return fail(call.io, added.error(), kExitMisuse);
  if (given.tty) spec.size = own_terminal_size();
  return run_session(call, *found->session, **signals, found->task.id, std::move(spec));
}

int run_session(Call& call, DriverSession& driver, SignalRelay& signals, const driver::TaskId& id,
                driver::ExecSpec spec) {
  std::atomic<int> stopped_by{0};
  const bool tty = spec.tty;
  const bool has_stdin = spec.has_stdin;
  std::shared_ptr<driver::ExecSession> session;
  std::unique_ptr<ExecInput> input;
  OutputQueue output([&] { driver.loop.post([session] { session->resume_output(); }); }, [&] { session->cancel(); });
  if (auto begun = output.start(); !begun) return fail(call.io, begun.error(), kExitRunFailure);
  const base::OneShot<Result<driver::ExitResult>> ended;
  driver::ExecCallbacks callbacks;
  callbacks.on_output = [&](driver::ExecStream stream, std::string_view data) { return output.push(stream, data); };
  callbacks.on_stdin_drained = [&] {
    if (input) input->drained();
  };
  callbacks.on_end = [ended](Result<driver::ExitResult> exit) { ended.set(std::move(exit)); };
  signals.hold();
  Status begun;
  driver.loop.run([&] {  // no callback comes before the session is known
    auto made = driver.driver.exec(id, std::move(spec), std::move(callbacks));
    if (!made) {
      begun = std::move(made).error();
      return;
    }
    session = *std::move(made);
    if (has_stdin) input = std::make_unique<ExecInput>(driver.loop, session);
  });
  if (!begun) return fail(call.io, begun.error(), kExitRunFailure);
  std::unique_ptr<RawTerminal> terminal;
  if (tty && has_stdin && ::isatty(STDIN_FILENO) == 1) {
    if (auto raw = RawTerminal::enter(STDIN_FILENO)) terminal = *std::move(raw);
  }
  if (input) begun = input->start();
  signals.set_target([&](int signal) {
    if (signal == SIGWINCH && tty) {
      driver.loop.post([session, size = own_terminal_size()] { session->resize(size); });
    } else if (asks_to_stop(signal)) {
      stopped_by = signal;
      session->cancel();
    }
  });
  if (!begun) session->cancel();
  const auto exit = ended.wait(Context::background());
  input.reset();
  const Status written = output.finish();
  signals.set_target({});
  terminal.reset();
  if (!begun) return fail(call.io, begun.error(), kExitRunFailure);
  if (!written) return fail_lost_output(call.io, written.error());
  if (*exit) return (*exit)->exit_code;
  return stopped_by != 0 ? kExitSignalBase + stopped_by : fail(call.io, exit->error(), kExitRunFailure);
}

Status OutputQueue::start() {
  TRY(thread_, base::start_thread("output", [this] { write_all(); }));
  return {};
}

bool OutputQueue::push(driver::ExecStream stream, std::string_view data) {
  std::lock_guard lock(mutex_);
  if (!lost_) return true;  // nobody takes it any more, and the command must not wait for that
  pieces_.push_back({stream == driver::ExecStream::kStdout ? STDOUT_FILENO : STDERR_FILENO, std::string(data)});
  waiting_ += data.size();
  full_ = waiting_ > kWaitingMax;
  changed_.notify_all();
  return !full_;
}

void OutputQueue::write_all() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ended_ || !pieces_.empty(); });
    if (pieces_.empty()) return;
    const Piece piece = std::move(pieces_.front());
    pieces_.pop_front();
    const bool lost = !lost_;
    lock.unlock();
    Status written = lost ? Status() : base::write_all(Context::background(), piece.fd, piece.data);
    if (!written) on_lost_();
    lock.lock();
    if (!written) lost_ = std::move(written).error().wrap("standard output");
    waiting_ -= piece.data.size();
    if (full_ && waiting_ == 0) {
      full_ = false;
      on_room_();
    }
  }
}

Status OutputQueue::finish() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  return lost_;
}

Status ExecInput::start() {
  TRY(thread_, base::start_thread("input", [this](const std::stop_token& stop) { copy(stop); }));
  return {};
}

void ExecInput::drained() {
  std::lock_guard lock(mutex_);
  full_ = false;
  changed_.notify_all();
}

void ExecInput::copy(const std::stop_token& stop) {
  read_input(stop, STDIN_FILENO, [&](std::string_view data) {
    loop_.run([&] {
      if (session_->write_stdin(data)) return;
      std::lock_guard lock(mutex_);
      full_ = true;
    });
    std::unique_lock lock(mutex_);
    return changed_.wait(lock, stop, [this] { return !full_; });
  });
  if (!stop.stop_requested()) loop_.post([session = session_] { session->close_stdin(); });
}

}  // namespace
}  // namespace cli
