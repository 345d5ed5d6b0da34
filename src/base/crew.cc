#include "base/crew.h"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "base/loop.h"
#include "base/thread.h"

namespace base {

namespace {
constexpr std::chrono::milliseconds kThreadRetry{100};
}  // namespace

struct Crew::State : std::enable_shared_from_this<Crew::State> {
  struct Job {
    std::string name;
    std::function<void()> run;
  };

  explicit State(CrewOptions o) : options(std::move(o)) {}

  // With `mutex` held.
  Status start_worker();
  void retry_later();
  // On a thread of its own.
  void work_off();
  // On the loop's.
  void retry();

  const CrewOptions options;
  std::mutex mutex;
  std::condition_variable work;  // a job came, or closing
  std::condition_variable gone;  // a thread left
  std::deque<Job> queue;
  std::size_t threads = 0;
  std::size_t idle = 0;
  bool closing = false;
  bool retrying = false;               // the timer is there, or on its way
  std::unique_ptr<Timer> retry_timer;  // the loop's
};

Crew::Crew(CrewOptions options) : state_(std::make_shared<State>(std::move(options))) {}

Crew::~Crew() {
  std::unique_lock lock(state_->mutex);
  state_->closing = true;
  state_->queue.clear();
  state_->work.notify_all();
  state_->gone.wait(lock, [this] { return state_->threads == 0; });
  const bool retrying = state_->retrying;
  lock.unlock();
  if (retrying) state_->options.retry_on->run([this] { state_->retry_timer.reset(); });
}

Status Crew::submit(std::string name, std::function<void()> job) {
  std::unique_lock lock(state_->mutex);
  if (state_->closing) return Error::cancelled("shutting down");
  if (state_->queue.size() >= state_->options.queue_max) {
    return Error::resource_exhausted(
        str("too many ", state_->options.name, " at once (limit ", state_->options.queue_max, ")"));
  }
  state_->queue.push_back({std::move(name), std::move(job)});
  if (state_->idle >= state_->queue.size() || state_->threads >= state_->options.threads_max) {
    state_->work.notify_one();
    return {};
  }
  auto started = state_->start_worker();
  if (started || state_->threads > 0) return {};  // the threads that exist will come to it
  if (state_->options.retry_on != nullptr) {
    state_->retry_later();
    return {};
  }
  const State::Job refused = std::move(state_->queue.back());  // ends after the lock
  state_->queue.pop_back();
  lock.unlock();
  return started;
}

// Detached and counted: the destructor waits for the count, nobody has to join one by one.
Status Crew::State::start_worker() {
  TRY(std::jthread thread, start_thread(options.name, [self = shared_from_this()] { self->work_off(); }));
  thread.detach();
  ++threads;
  return {};
}

void Crew::State::work_off() {
  std::unique_lock guard(mutex);
  while (true) {
    if (queue.empty()) {
      ++idle;
      const bool woken = work.wait_for(guard, options.idle_time, [this] { return closing || !queue.empty(); });
      --idle;
      if (!woken || queue.empty()) break;
    }
    Job next = std::move(queue.front());
    queue.pop_front();
    guard.unlock();
    ::pthread_setname_np(::pthread_self(), next.name.substr(0, 15).c_str());
    next.run();
    next.run = nullptr;  // what the job captured dies here, outside the lock
    guard.lock();
  }
  --threads;
  gone.notify_all();
}

void Crew::State::retry_later() {
  if (std::exchange(retrying, true)) return;
  options.retry_on->post([self = shared_from_this()] {
    std::lock_guard lock(self->mutex);
    if (self->closing) return;
    self->retry_timer =
        std::make_unique<Timer>(*self->options.retry_on, kThreadRetry, kThreadRetry, [weak = self->weak_from_this()] {
          if (const auto state = weak.lock()) state->retry();
        });
  });
}

void Crew::State::retry() {
  std::lock_guard lock(mutex);
  if (!queue.empty() && threads == 0 && !start_worker()) return;
  retrying = false;
  retry_timer.reset();
}

}  // namespace base
