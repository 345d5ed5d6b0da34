// Bounded worker threads for blocking work. Threads start on demand, carry the job's name while they run it (ps -L,
// gdb), and leave after an idle time, so an idle program has none.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

namespace base {

struct CrewOptions {
  std::string name;                           ///< for messages
  std::size_t threads_max = 64;               ///< at once; one blocked call each
  std::size_t queue_max = 1024;               ///< waiting jobs; beyond: kResourceExhausted, never queue without bound
  std::chrono::milliseconds idle_time{2000};  ///< a thread without work leaves after this
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
  Status submit(std::string name, std::function<void()> job);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace base
