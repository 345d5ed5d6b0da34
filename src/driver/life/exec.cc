#include "driver/life/exec.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>

#include "base/log.h"
#include "base/text.h"
#include "driver/life/exec_process.h"
#include "driver/life/runtime_error.h"

namespace driver {

namespace {
using base::Context;
using base::Error;
using base::Result;
using base::str;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kChunkBytes = 16u << 10;
constexpr std::size_t kStdinBytesMax = 64u << 10;  // waiting for the command; then the caller is asked to pause
/// Of a terminal, which the shim closes at the command's end even if a background process still holds it.
constexpr milliseconds kTerminalDrain{250};
/// A process that was left behind and writes without pause: after so many times drain_after_exit it is enough.
constexpr int kDrainsMax = 10;
constexpr seconds kControlTimeout{10};
constexpr milliseconds kTaskEndTimeout{500};
constexpr std::chrono::hours kTimeoutMax{24 * 365};
constexpr std::uint32_t kStdinIndex = 2;  // after the outputs, in what epoll tells

/// Everything lives on the loop's thread but what start() uses.
class Exec final : public ExecSession, public std::enable_shared_from_this<Exec> {
 public:
  Exec(ExecHost& host, std::shared_ptr<Task> task, ExecSpec spec, ExecCallbacks callbacks);
  ~Exec() override { --host_.sessions; }
  void begin();

  bool write_stdin(std::string_view data) override;
  void close_stdin() override;
  void resize(TerminalSize size) override;
  void resume_output() override;
  void heartbeat() override;
  void cancel() override;

 private:
  enum class State { kStarting, kRunning, kEnded };
  struct Output {
    ExecStream stream;
    base::Fd fd = {};
    bool open = false;
    bool watched = false;
  };

  void set_timeout();
  Result<StartedExec> start();
  void started(Result<StartedExec> started);
  void refused(Error error);
  void exited(Result<shim::ContainerExit> exit);
  void pump();
  void read_output(Output& output);
  void watch_outputs(bool wanted);
  void flush_stdin();
  void end_stdin();
  void watch_stdin(bool wanted);
  void poll(int operation, int fd, std::uint32_t events, std::uint32_t which);
  void control();
  void end_if_done();
  void drain_tick();
  void stop(Error why);
  void kill_and_end(Error why);
  void end(Result<ExitResult> result);
  void answer(Result<ExitResult> result);
  base::Status on_work(const char* name, std::function<void()> blocking, std::function<void()> then);

  ExecHost& host_;
  const std::shared_ptr<Task> task_;
  const std::shared_ptr<shim::Shim> shim_;  // null: the task does not run, or its shim does not answer
  const Record record_;
  const ExecSpec spec_;
  const ExecNames names_;
  std::stop_source stop_start_;
  base::Guarded<TerminalSize> size_;

  ExecCallbacks callbacks_;
  State state_ = State::kStarting;
  bool stopping_ = false;
  base::ProcessId process_;
  std::vector<StreamId> its_pipes_;
  std::optional<ExitResult> exit_;
  base::OneShot<bool> gone_;  // the shim has told of the exit, or will not any more

  std::unique_ptr<base::Watch> watch_;  // of an epoll descriptor, which is readable when one of the pipes is ready
  std::array<Output, 2> outputs_{Output{ExecStream::kStdout}, Output{ExecStream::kStderr}};
  bool paused_ = false;
  std::unique_ptr<base::Timer> timeout_timer_;
  std::unique_ptr<base::Timer> silence_timer_;
  std::unique_ptr<base::Timer> drain_timer_;
  bool heard_ = false;  // since the last drain_tick
  bool drained_ = false;
  int drains_ = 0;

  base::Fd stdin_;
  bool stdin_watched_ = false;
  bool stdin_ended_ = false;  // no more will come
  bool stdin_full_ = false;   // the caller waits for on_stdin_drained
  std::string stdin_pending_;
  std::size_t stdin_written_ = 0;  // of stdin_pending_

  bool resize_wanted_ = false;
  bool close_wanted_ = false;
  bool controlling_ = false;
};

}  // namespace

Result<std::shared_ptr<ExecSession>> run_exec(ExecHost& host, std::shared_ptr<Task> task, ExecSpec spec,
                                              ExecCallbacks callbacks) {
  if (spec.command.empty() || spec.command[0].empty()) {
    return Error::invalid_argument("no command to run in the task was given");
  }
  if (host.sessions.load() >= ExecHost::kSessionsMax) {
    return Error::resource_exhausted(
        str("this node runs ", ExecHost::kSessionsMax, " commands in tasks already: try again later"));
  }
  const auto exec = std::make_shared<Exec>(host, std::move(task), std::move(spec), std::move(callbacks));
  exec->begin();
  return std::shared_ptr<ExecSession>(exec);
}

void ExecGate::enter(const std::string& container_id, std::function<void()> start) {
  Task& task = tasks_[container_id];
  if (task.starting >= kStartsOfTaskMax) return task.waiting.push_back(std::move(start));
  ++task.starting;
  start();
}

void ExecGate::leave(const std::string& container_id) {
  const auto it = tasks_.find(container_id);
  CHECK(it != tasks_.end() && it->second.starting > 0);
  Task& task = it->second;
  if (!task.waiting.empty()) {
    const auto next = std::move(task.waiting.front());
    task.waiting.pop_front();
    return next();
  }
  if (--task.starting == 0) tasks_.erase(it);
}

namespace {

Exec::Exec(ExecHost& host, std::shared_ptr<Task> task, ExecSpec spec, ExecCallbacks callbacks)
    : host_(host),
      task_(std::move(task)),
      shim_(task_->shim()),
      record_(task_->record()),
      spec_(std::move(spec)),
      names_(new_exec_names(record_.names.bundle_dir)),
      size_(spec_.size),
      callbacks_(std::move(callbacks)) {
  ++host_.sessions;
}

void Exec::begin() {
  host_.loop.post([self = shared_from_this()] {
    if (self->spec_.timeout.count() > 0) self->set_timeout();
    self->host_.gate.enter(self->record_.names.container_id, [self] {
      const auto result = std::make_shared<std::optional<Result<StartedExec>>>();
      const auto then = [self, result] {
        self->host_.gate.leave(self->record_.names.container_id);
        self->started(*std::move(*result));
      };
      const auto queued = self->on_work(
          "exec start", [self, result] { result->emplace(self->start()); }, then);
      if (queued) return;
      result->emplace(queued.error());
      then();
    });
  });
}

void Exec::set_timeout() {
  const auto timeout = std::min<std::chrono::nanoseconds>(spec_.timeout, kTimeoutMax);
  const auto on_fire = [weak = weak_from_this(), timeout] {
    const auto self = weak.lock();
    if (!self) return;
    const std::chrono::duration<double> limit = timeout;
    self->stop(Error::deadline_exceeded(
        str(self->spec_.command[0], " did not end within ", limit.count(), " s and was killed")));
  };
  timeout_timer_ =
      std::make_unique<base::Timer>(host_.loop, std::chrono::ceil<milliseconds>(timeout), milliseconds(0), on_fire);
}

// On a worker.
Result<StartedExec> Exec::start() {
  if (record_.phase != driver::Phase::kRunning || !shim_) return Error::failed_precondition("the task is not running");
  ExecSpec spec = spec_;
  spec.size = *size_.lock();
  const Turns::Turn turn = host_.turns.urgent();
  auto started = start_exec(Context::background().with_stop(stop_start_.get_token()), *shim_, record_, spec, names_);
  if (started) return started;
  Error error = translate_runtime_error(std::move(started).error());
  if (error.code == base::Code::kCancelled || exit_code_of_runtime_error(error) != 0) return error;
  // The runtime has many words for a container that ends under it, which may be not quite over.
  const auto init = base::open_pidfd(record_.init);
  const bool ended =
      init ? base::wait_exited(Context::background().with_timeout(kTaskEndTimeout), init->get()).has_value()
           : init.error().code == base::Code::kNotFound;
  return ended ? Error::failed_precondition("the task is not running") : error;
}

void Exec::started(Result<StartedExec> started) {
  if (!started) return refused(std::move(started).error());
  state_ = State::kRunning;
  process_ = started->process;
  its_pipes_ = std::move(started->its_pipes);
  shim_->wait(names_.id,
              [self = shared_from_this()](Result<shim::ContainerExit> exit) { self->exited(std::move(exit)); });
  outputs_[0].fd = std::move(started->pipes.out);
  outputs_[1].fd = std::move(started->pipes.err);
  stdin_ = std::move(started->pipes.in);
  if (stopping_) return kill_and_end(Error::cancelled("the command was cancelled"));
  base::Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return stop(Error::from_errno(errno, "watching a command's output"));
  watch_ = std::make_unique<base::Watch>(host_.loop, std::move(epoll), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->pump();
  });
  for (Output& output : outputs_) output.open = static_cast<bool>(output.fd);
  watch_outputs(true);
  flush_stdin();
  control();
}

void Exec::refused(Error error) {
  state_ = State::kEnded;
  ExitResult exit;
  exit.exit_code = exit_code_of_runtime_error(error);
  if (exit.exit_code == 0 || stopping_) return answer(std::move(error));
  // As a shell says it.
  if (callbacks_.on_output)
    callbacks_.on_output(spec_.tty ? ExecStream::kStdout : ExecStream::kStderr,
                         str(base::printable(error.message), spec_.tty ? "\r\n" : "\n"));
  answer(exit);
}

void Exec::exited(Result<shim::ContainerExit> exit) {
  gone_.set(true);
  if (!exit) return stop(Error::aborted(str("the end of ", spec_.command[0], " is unknown: ", exit.error().message)));
  exit_ = exit_from_status(exit->exit_status);
  end_if_done();
}

// ---- output ------------------------------------------------------------------------------------------------------

void Exec::pump() {
  std::array<epoll_event, 3> events{};
  const int count = ::epoll_wait(watch_->fd(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count && watch_; ++i) {
    const std::uint32_t which = events[static_cast<std::size_t>(i)].data.u32;
    if (which == kStdinIndex) {
      flush_stdin();
    } else if (outputs_[which].watched) {
      read_output(outputs_[which]);
    }
  }
}

// Once for each time that the pipe is ready: the loop has other descriptors, too.
void Exec::read_output(Output& output) {
  std::array<char, kChunkBytes> buffer;
  const ssize_t n = ::read(output.fd.get(), buffer.data(), buffer.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    poll(EPOLL_CTL_DEL, output.fd.get(), 0, 0);
    output.open = output.watched = false;
    return end_if_done();
  }
  heard_ = true;
  if (callbacks_.on_output(output.stream, {buffer.data(), static_cast<std::size_t>(n)})) return;
  paused_ = true;
  watch_outputs(false);
}

void Exec::watch_outputs(bool wanted) {
  for (Output& output : outputs_) {
    if (!output.open || output.watched == wanted) continue;
    output.watched = wanted;
    // Out of the set, not just without events: the end of a pipe is told even to those who asked for nothing.
    poll(wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, output.fd.get(), EPOLLIN,
         output.stream == ExecStream::kStdout ? 0 : 1);
  }
}

void Exec::resume_output() {
  paused_ = false;
  if (watch_) watch_outputs(true);
}

void Exec::poll(int operation, int fd, std::uint32_t events, std::uint32_t which) {
  epoll_event event{};
  event.events = events;
  event.data.u32 = which;
  if (::epoll_ctl(watch_->fd(), operation, fd, &event) != 0) {
    stop(Error::from_errno(errno, "watching a command's pipes"));
  }
}

// ---- input -------------------------------------------------------------------------------------------------------

bool Exec::write_stdin(std::string_view data) {
  if (state_ == State::kEnded || stdin_ended_) return true;
  if (state_ == State::kRunning && !stdin_) return true;  // the command has closed it
  stdin_pending_.append(data);
  flush_stdin();
  stdin_full_ = stdin_pending_.size() - stdin_written_ >= kStdinBytesMax;
  return !stdin_full_;
}

void Exec::close_stdin() {
  if (state_ == State::kEnded || stdin_ended_) return;
  stdin_ended_ = true;
  flush_stdin();
}

void Exec::flush_stdin() {
  if (state_ != State::kRunning || stopping_ || !stdin_) return;
  while (stdin_written_ < stdin_pending_.size()) {
    const ssize_t n =
        ::write(stdin_.get(), stdin_pending_.data() + stdin_written_, stdin_pending_.size() - stdin_written_);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return watch_stdin(true);
    if (n < 0) stdin_ended_ = true;  // EPIPE: the command does not want it
    stdin_written_ = n < 0 ? stdin_pending_.size() : stdin_written_ + static_cast<std::size_t>(n);
  }
  stdin_pending_.clear();
  stdin_pending_.shrink_to_fit();
  stdin_written_ = 0;
  watch_stdin(false);
  if (stdin_ended_) end_stdin();
  if (std::exchange(stdin_full_, false) && callbacks_.on_stdin_drained) callbacks_.on_stdin_drained();
}

// The command sees the end once both writers are closed: ours, and the one that the shim keeps.
void Exec::end_stdin() {
  stdin_.reset();
  close_wanted_ = true;
  control();
}

void Exec::watch_stdin(bool wanted) {
  if (stdin_watched_ == wanted) return;
  stdin_watched_ = wanted;
  poll(wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, stdin_.get(), EPOLLOUT, kStdinIndex);
}

// ---- the shim's calls --------------------------------------------------------------------------------------------

void Exec::resize(TerminalSize size) {
  if (!spec_.tty || size.height == 0 || size.width == 0) return;
  *size_.lock() = size;
  resize_wanted_ = true;
  control();
}

// One call at a time, so that the last size wins; the sizes in between are not worth a call.
void Exec::control() {
  if (state_ != State::kRunning || stopping_ || exit_ || controlling_ || !(resize_wanted_ || close_wanted_)) return;
  controlling_ = true;
  const bool resizing = std::exchange(resize_wanted_, false);
  const bool closing = !resizing && std::exchange(close_wanted_, false);
  const auto blocking = [this, closing] {
    const Context ctx = Context::background().with_timeout(kControlTimeout);
    const TerminalSize size = *size_.lock();
    const auto done =
        closing ? shim_->close_stdin(ctx, names_.id) : shim_->resize(ctx, names_.id, size.width, size.height);
    // The command may have ended by itself meanwhile.
    if (!done) LOG_DEBUG("a command's terminal or stdin", {{"exec", names_.id}, {"error", done.error().message}});
  };
  const auto queued = on_work("exec control", blocking, [this] {
    controlling_ = false;
    control();
  });
  if (!queued) stop(queued.error());
}

// The queue has room for all sessions, which have two jobs at most: what is refused is refused for want of a thread.
base::Status Exec::on_work(const char* name, std::function<void()> blocking, std::function<void()> then) {
  const auto job = [self = shared_from_this(), blocking = std::move(blocking), then = std::move(then)] {
    blocking();
    self->host_.loop.post([self, then] { then(); });
  };
  return host_.work.submit(name, job);
}

// ---- the end -----------------------------------------------------------------------------------------------------

void Exec::end_if_done() {
  if (state_ != State::kRunning || stopping_ || !exit_) return;
  const bool all_read = !outputs_[0].open && !outputs_[1].open;
  if (all_read || drained_) return end(*exit_);
  const auto drain = spec_.tty ? std::optional(kTerminalDrain) : spec_.drain_after_exit;
  if (!drain || drain_timer_) return;
  heard_ = false;
  drain_timer_ = std::make_unique<base::Timer>(host_.loop, *drain, *drain, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->drain_tick();
  });
}

void Exec::drain_tick() {
  if (paused_) return;  // it is not the command that is silent
  if (std::exchange(heard_, false) && ++drains_ < kDrainsMax) return;
  drained_ = true;
  end_if_done();
}

void Exec::cancel() {
  host_.loop.post([self = shared_from_this()] { self->stop(Error::cancelled("the command was cancelled")); });
}

void Exec::heartbeat() {
  if (state_ == State::kEnded || stopping_) return;
  silence_timer_ = std::make_unique<
      base::Timer>(host_.loop, kExecSilenceMax, milliseconds(0), [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    if (self->stdin_full_) return self->heartbeat();  // it is we who do not listen
    LOG_INFO("a command's caller is silent, killing it", {{"task", self->record_.id.text}, {"exec", self->names_.id}});
    self->stop(Error::cancelled("the command's caller is silent"));
  });
}

void Exec::stop(Error why) {
  if (state_ == State::kEnded || stopping_) return;
  stopping_ = true;
  if (state_ == State::kRunning) return kill_and_end(std::move(why));
  stop_start_.request_stop();
  answer(std::move(why));  // the start may hang; what comes of it is killed
}

void Exec::kill_and_end(Error why) {
  const auto job = [self = shared_from_this(), why = std::move(why)] {
    const auto killed =
        kill_family(Context::background().with_timeout(kExecKillTimeout),
                    {self->process_, self->record_.names.cgroup_path, self->its_pipes_, self->record_.init});
    if (!killed)
      LOG_WARN("cannot kill a command", {{"task", self->record_.id.text}, {"error", killed.error().message}});
    self->host_.loop.post([self, why] { self->end(why); });
  };
  if (const auto queued = host_.kills.submit("exec kill", job); !queued) {
    LOG_WARN("cannot kill a command", {{"task", record_.id.text}, {"error", queued.error().message}});
    end(queued.error());
  }
}

void Exec::end(Result<ExitResult> result) {
  if (state_ == State::kEnded) return;
  state_ = State::kEnded;
  watch_.reset();
  stdin_.reset();
  drain_timer_.reset();
  answer(std::move(result));
  // outputs_[0] stays open until then: its lock says that the command is not an orphan.
  const auto clear = [this, self = shared_from_this()] {
    const Context ctx = Context::cleanup();
    [[maybe_unused]] const auto gone = gone_.wait(ctx);
    const auto cleared = clear_exec(ctx, *shim_, record_, names_);
    // With the task everything of it goes.
    if (!cleared) LOG_DEBUG("a command stays", {{"exec", names_.id}, {"error", cleared.error().message}});
  };
  if (const auto queued = host_.ends.submit("exec end", clear); !queued) {
    LOG_WARN("a command stays until its task ends",
             {{"task", record_.id.text}, {"exec", names_.id}, {"error", queued.error().message}});
  }
}

/// Once, and then nobody is held any more.
void Exec::answer(Result<ExitResult> result) {
  timeout_timer_.reset();
  silence_timer_.reset();
  const ExecCallbacks callbacks = std::exchange(callbacks_, {});
  if (callbacks.on_end) callbacks.on_end(std::move(result));
}

}  // namespace

}  // namespace driver
