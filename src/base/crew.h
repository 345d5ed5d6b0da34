// Bounded worker threads for blocking work. Threads start on demand, carry the job's name while they run it (ps -L,
// gdb), and leave after an idle time, so an idle program has none.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

namespace base {

class Loop;

struct CrewOptions {
  std::string name;                           ///< for messages
  std::size_t threads_max = 64;               ///< at once; one blocked call each
  std::size_t queue_max = 1024;               ///< waiting jobs; beyond: kResourceExhausted, never queue without bound
  std::chrono::milliseconds idle_time{2000};  ///< a thread without work leaves after this
  /// For work that must be done although no thread can be had now: it waits in the queue, and this loop, which outlives
  /// the crew, tries again every 100 ms. Without a loop such a job is refused.
  Loop* retry_on = nullptr;
};

class Crew {
 public:
  explicit Crew(CrewOptions options);
  /// Waits for running jobs; queued jobs are dropped.
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  /// Runs `job` on a worker named `name` (cut to 15 bytes). Any thread. An exception that escapes a job is our bug:
  /// logged, abort.
  ///   errors  kResourceExhausted: the queue is full, or there is no thread and none can be had · kCancelled: closing
  Status submit(std::string name, std::function<void()> job);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace base
