// Where lines of the log go: to a descriptor that others share and may not read, without ever waiting for them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace base {

/// threads  any
/// order    as written; the notice of lost lines stands where they would have stood
class LogSink {
 public:
  static constexpr std::size_t kWaitingBytesMax = 256u << 10;
  /// The line that says that so many were lost.
  using LostLine = std::function<std::string(std::uint64_t lines)>;

  /// `fd` is borrowed, and stays as it is: it is not made non-blocking, for others have it, too.
  LogSink(int fd, LostLine lost_line) : fd_(fd), lost_line_(std::move(lost_line)) {}
  /// A sink lives as long as the process: a thread may be waiting for its reader.
  ~LogSink() = delete;

  /// Takes one line, with its newline. Never blocks. What the reader does not take now waits, and is written by whoever
  /// comes first: the next line, flush(), or a thread that exists only while something waits. Beyond kWaitingBytesMax
  /// lines are dropped and counted; without a reader they are dropped.
  void write(std::string_view line);
  /// Gives the reader `at_most` to take what waits.
  void flush(std::chrono::milliseconds at_most);

 private:
  // With `mutex_` held.
  void drain();
  void add_lost_line();
  bool waits() const { return !waiting_.empty() || lost_ > 0; }

  void wait_for_reader();

  const int fd_;
  const LostLine lost_line_;
  std::mutex mutex_;
  std::string waiting_;
  std::uint64_t lost_ = 0;
  bool has_waiter_ = false;
};

}  // namespace base
