#include "driver/life/stop.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "shim/cgroup.h"

namespace driver {

namespace {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;
using std::chrono::milliseconds;

/// A timer of the loop counts milliseconds in 64 bits; a job that asks for more than this waits for ever.
constexpr std::chrono::hours kStopTimeoutMax{24 * 365};

/// The object lives as long as the Subscription that the caller holds, or a job of it runs. Fields without a lock are
/// the loop's.
class Stop : public std::enable_shared_from_this<Stop> {
 public:
  Stop(StopHost& host, std::shared_ptr<Task> task, StopCallback on_done)
      : host_(host), task_(std::move(task)), on_done_(std::move(on_done)) {}

  void begin_with_signal(int signal, std::chrono::nanoseconds timeout);
  void begin_with_kill();
  void cancel();

 private:
  /// In this order, each step but the first when the one before has not ended the task.
  enum class Step { kSignal, kPatience, kKill, kShimAnswer, kOver };

  void watch_exit();
  void task_ended();
  void wait_patiently();
  void kill();
  void wait_for_init(Result<base::Fd> init);
  void empty_cgroup();
  void wait_for_shim();
  void give_up_shim();
  void finish(const Status& status);
  void end();

  Result<base::Fd> send(int signal);
  void after(std::chrono::milliseconds time, void (Stop::*then)());
  /// Runs `blocking` on a thread, then `then` on the loop with what came of it, unless the stop is over by then.
  template <typename T>
  void on_work(const char* name, std::function<T()> blocking, std::function<void(T)> then);

  StopHost& host_;
  const std::shared_ptr<Task> task_;
  base::Guarded<StopCallback> on_done_;  // empty: called, or not wanted any more
  int signal_ = SIGKILL;
  milliseconds timeout_{0};

  Step step_ = Step::kSignal;
  bool exited_ = false;  // the task's exit is known
  base::Subscription exit_;
  std::unique_ptr<base::Timer> timer_;
  std::unique_ptr<base::Watch> init_;
};

base::Subscription held(std::shared_ptr<Stop> stop) {
  return base::Subscription([stop = std::move(stop)] { stop->cancel(); });
}

}  // namespace

base::Subscription stop_task(StopHost& host, std::shared_ptr<Task> task, int signal, std::chrono::nanoseconds timeout,
                             StopCallback on_done) {
  const auto stop = std::make_shared<Stop>(host, std::move(task), std::move(on_done));
  stop->begin_with_signal(signal, timeout);
  return held(stop);
}

base::Subscription kill_task(StopHost& host, std::shared_ptr<Task> task, StopCallback on_done) {
  const auto stop = std::make_shared<Stop>(host, std::move(task), std::move(on_done));
  stop->begin_with_kill();
  return held(stop);
}

namespace {

void Stop::begin_with_signal(int signal, std::chrono::nanoseconds timeout) {
  signal_ = signal;
  timeout_ = std::chrono::ceil<milliseconds>(std::min<std::chrono::nanoseconds>(timeout, kStopTimeoutMax));
  host_.loop.post([self = shared_from_this()] {
    if (self->step_ == Step::kOver) return;
    self->watch_exit();
    self->on_work<Status>(
        "stop",
        [self]() -> Status {
          TRY_VOID(self->send(self->signal_));
          return {};
        },
        [self](const Status& sent) {
          if (!sent) return self->finish(sent);
          self->wait_patiently();
        });
  });
}

void Stop::begin_with_kill() {
  host_.loop.post([self = shared_from_this()] {
    if (self->step_ == Step::kOver) return;
    self->watch_exit();
    self->kill();
  });
}

void Stop::watch_exit() {
  exit_ = task_->on_exit([weak = weak_from_this()](const ExitResult&) {
    const auto self = weak.lock();
    if (!self) return;
    self->host_.loop.post([self] { self->task_ended(); });
  });
}

void Stop::task_ended() {
  exited_ = true;
  if (step_ == Step::kPatience || step_ == Step::kShimAnswer) finish({});
}

void Stop::wait_patiently() {
  step_ = Step::kPatience;
  if (exited_) return finish({});
  after(timeout_, &Stop::kill);
}

void Stop::kill() {
  if (step_ == Step::kPatience) {
    task_->tell(str("Still running ", std::chrono::duration<double>(timeout_).count(), " s after ",
                    base::signal_name(signal_), ", sending SIGKILL"));
  }
  step_ = Step::kKill;
  on_work<std::shared_ptr<Result<base::Fd>>>(
      "stop kill", [this] { return std::make_shared<Result<base::Fd>>(send(SIGKILL)); },
      [this](const std::shared_ptr<Result<base::Fd>>& init) { wait_for_init(std::move(*init)); });
}

void Stop::wait_for_init(Result<base::Fd> init) {
  if (!init) return finish(std::move(init).error());
  if (!*init) return empty_cgroup();
  timer_ = std::make_unique<base::Timer>(host_.loop, host_.kill_timeout, milliseconds(0), [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->finish(Error::deadline_exceeded(str("pid ", self->task_->record().init.pid, " did not die of SIGKILL within ",
                                              self->host_.kill_timeout.count(), " s")));
  });
  init_ = std::make_unique<base::Watch>(host_.loop, *std::move(init), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->empty_cgroup();
  });
}

// With a pid namespace of its own all the rest is dead by now; in the host's it is not.
void Stop::empty_cgroup() {
  init_.reset();
  timer_.reset();
  on_work<Status>(
      "stop kill",
      [this] {
        return shim::kill_cgroup(Context::background().with_timeout(host_.kill_timeout),
                                 task_->record().names.cgroup_path);
      },
      [this](const Status& killed) {
        if (!killed) return finish(killed);
        wait_for_shim();
      });
}

void Stop::wait_for_shim() {
  step_ = Step::kShimAnswer;
  if (exited_) return finish({});
  after(host_.shim_answer_timeout, &Stop::give_up_shim);
}

// The container is dead, only its shim does not say so. The exit that is made up here ends the stop.
void Stop::give_up_shim() {
  on_work<Status>(
      "stop shim",
      [this]() -> Status {
        task_->abandon_shim(Error::deadline_exceeded("it did not report the end of its container"));
        return {};
      },
      [](const Status&) {});
}

void Stop::finish(const Status& status) {
  end();
  const StopCallback on_done = std::exchange(*on_done_.lock(), {});
  if (on_done) on_done(status);
}

void Stop::end() {
  step_ = Step::kOver;
  exit_.reset();
  timer_.reset();
  init_.reset();
}

void Stop::cancel() {
  std::exchange(*on_done_.lock(), {});
  host_.loop.post([self = shared_from_this()] { self->end(); });
}

// The descriptor of init, none if it has ended (its exit may not be known yet) or cannot be signalled directly.
Result<base::Fd> Stop::send(int signal) {
  auto init = task_->send_signal(Context::background().with_timeout(host_.signal_timeout), signal);
  // A task that somebody paused ends as any other: its signal waits for it.
  shim::thaw_cgroup(task_->record().names.cgroup_path);
  if (!init && init.error().code == base::Code::kNotFound) return base::Fd();
  return init;
}

void Stop::after(milliseconds time, void (Stop::*then)()) {
  timer_ = std::make_unique<base::Timer>(host_.loop, time, milliseconds(0), [weak = weak_from_this(), then] {
    if (const auto self = weak.lock()) (self.get()->*then)();
  });
}

template <typename T>
void Stop::on_work(const char* name, std::function<T()> blocking, std::function<void(T)> then) {
  const auto job = [self = shared_from_this(), blocking = std::move(blocking), then = std::move(then)] {
    self->host_.loop.post([self, then, result = blocking()] {
      if (self->step_ != Step::kOver) then(result);
    });
  };
  if (auto queued = host_.work.submit(name, job); !queued) finish(std::move(queued));
}

}  // namespace
}  // namespace driver
