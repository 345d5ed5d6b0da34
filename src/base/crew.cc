#include "base/crew.h"

#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "base/log.h"

namespace base {

struct Crew::State {
  struct Job {
    std::string name;
    std::function<void()> run;
  };

  explicit State(CrewOptions o) : options(std::move(o)) {}

  const CrewOptions options;
  std::mutex mutex;
  std::condition_variable work;  // a job came, or closing
  std::condition_variable gone;  // a thread left
  std::deque<Job> queue;
  std::size_t threads = 0;
  std::size_t idle = 0;
  bool closing = false;
};

namespace {

void run_job(const std::string& name, const std::function<void()>& job) {
  ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
  try {
    job();
  } catch (const std::exception& e) {
    // Nothing of ours throws: this is bad_alloc or a library's exception that was not stopped at its call.
    check_failed(name.c_str(), 0, e.what());
  }
}

}  // namespace

Crew::Crew(CrewOptions options) : state_(std::make_shared<State>(std::move(options))) {}

Crew::~Crew() {
  std::unique_lock lock(state_->mutex);
  state_->closing = true;
  state_->queue.clear();
  state_->work.notify_all();
  state_->gone.wait(lock, [this] { return state_->threads == 0; });
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
  ++state_->threads;
  lock.unlock();
  // Detached and counted: the destructor waits for the count, nobody has to join one by one. Signals are the loop's.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread([state = state_] {
      std::unique_lock guard(state->mutex);
      while (true) {
        if (state->queue.empty()) {
          ++state->idle;
          const bool woken = state->work.wait_for(guard, state->options.idle_time,
                                                  [&] { return state->closing || !state->queue.empty(); });
          --state->idle;
          if (!woken || state->queue.empty()) break;
        }
        State::Job next = std::move(state->queue.front());
        state->queue.pop_front();
        guard.unlock();
        run_job(next.name, next.run);
        next.run = nullptr;  // what the job captured dies here, outside the lock
        guard.lock();
      }
      --state->threads;
      state->gone.notify_all();
    }).detach();
  } catch (const std::system_error&) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    lock.lock();
    --state_->threads;
    if (state_->threads == 0) {
      state_->queue.clear();
      return Error::resource_exhausted("cannot start a thread: raise the limit on tasks (TasksMax, pids.max)");
    }
    return {};  // the threads that exist will come to it
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

}  // namespace base
