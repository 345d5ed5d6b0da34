// Signals that a person or a supervisor sends to the command line, given to whoever they are meant for.
#pragma once

#include <signal.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/sync.h"

namespace cli {

/// INT, TERM, HUP, QUIT: whoever sends one wants an end.
bool asks_to_stop(int signal);

/// Blocks INT, TERM, HUP, QUIT, USR1, USR2, CONT and WINCH in this thread and all later ones, and takes them on a
/// thread of its own. Until a target is set, INT, TERM, HUP and QUIT request a stop: whatever is under way is
/// cancelled. Make it before any other thread exists. The destructor puts the mask back.
class SignalRelay {
 public:
  /// kResourceExhausted if there is no descriptor or thread for it.
  static base::Result<std::unique_ptr<SignalRelay>> start();
  ~SignalRelay();
  SignalRelay(const SignalRelay&) = delete;
  SignalRelay& operator=(const SignalRelay&) = delete;

  std::stop_token stop_token() { return stop_.get_token(); }
  /// The signal that requested the stop, 0 if none did.
  int stopped_by() const { return stopped_by_; }
  /// From now on signals are kept for the target, which is about to exist.
  void hold();
  /// Kept signals go here at once, later ones on the relay's thread, one at a time. An empty function: nowhere again.
  /// After return the previous target is not running any more.
  void set_target(std::function<void(int signal)> target);

 private:
  SignalRelay() = default;
  base::Status begin();
  void serve();
  void deliver(int signal);

  sigset_t before_{};
  base::Fd signals_;
  base::Pipe wake_;
  std::stop_source stop_;
  std::atomic<int> stopped_by_{0};
  std::mutex mutex_;
  // Under mutex_.
  bool holds_ = false;
  std::vector<int> held_;
  std::function<void(int)> target_;
  std::jthread thread_;
};

}  // namespace cli
