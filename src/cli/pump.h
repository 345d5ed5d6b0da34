// A task's output on its way to ours: we play the part that Nomad's log collector plays for jobs.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/sync.h"

namespace cli {

/// Copies a FIFO to a descriptor on a thread of its own until the last writer has closed it. A target that takes no
/// more
/// (`… | head`) does not hold the task up: the rest is read and dropped.
class FifoPump {
 public:
  /// Makes the FIFO (0600) and opens its reading end, so that a writer never waits for us. `to_fd` is borrowed.
  static base::Result<std::unique_ptr<FifoPump>> start(const std::string& path, int to_fd);
  /// Stops if it has not ended.
  ~FifoPump();
  FifoPump(const FifoPump&) = delete;
  FifoPump& operator=(const FifoPump&) = delete;

  /// Waits for the end of the stream, or of ctx.
  base::Status drain(const base::Context& ctx);

 private:
  FifoPump(base::Fd from, int to_fd);
  void copy();

  base::Fd from_;
  int to_fd_;
  std::stop_source stop_;
  base::OneShot<bool> ended_;
  std::thread thread_;
};

}  // namespace cli
