// A task's output on its way to ours: we play the part that Nomad's log collector plays for jobs.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/sync.h"

namespace cli {

/// Copies a FIFO to a descriptor on a thread of its own until the last writer has closed it. When the target takes no
/// more (`… | head`, a full disk), `on_lost` is called with the reason, once, on that thread; the rest is read and
/// dropped, so that the writer can end.
class FifoPump {
 public:
  using OnLost = std::function<void(const base::Error& why)>;
  using OnData = std::function<void(std::string_view data)>;
  /// Makes the FIFO (0600) and opens its reading end, so that a writer never waits for us. `to_fd` is borrowed.
  ///   errors  kAlreadyExists and others of mkfifo · kResourceExhausted no descriptor or thread
  /// `on_data`, if there is one, sees everything that comes, on that thread.
  static base::Result<std::unique_ptr<FifoPump>> start(const std::string& path, int to_fd, OnLost on_lost,
                                                       OnData on_data = {});
  /// The destructor stops it if it has not ended.
  FifoPump(const FifoPump&) = delete;
  FifoPump& operator=(const FifoPump&) = delete;

  /// Waits for the end of the stream: for as long as the target takes its time (`… | less`), and `idle` at most for
  /// more to come.
  ///   errors  kUnavailable nothing has come for so long · kCancelled, kDeadlineExceeded ctx
  base::Status drain(const base::Context& ctx, std::chrono::milliseconds idle);

 private:
  FifoPump(base::Fd from, int to_fd, OnLost on_lost, OnData on_data)
      : from_(std::move(from)), to_fd_(to_fd), on_lost_(std::move(on_lost)), on_data_(std::move(on_data)) {}
  void copy(const std::stop_token& stop);
  base::Status write(const base::Context& ctx, std::string_view data);

  base::Fd from_;
  int to_fd_;
  OnLost on_lost_;
  OnData on_data_;
  std::atomic<bool> writing_{false};
  std::atomic<std::uint64_t> chunks_{0};
  base::OneShot<bool> ended_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace cli
