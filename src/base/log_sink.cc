#include "base/log_sink.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "base/thread.h"

namespace base {

namespace {

/// What was written; 0 = nothing now; -1 = nobody will ever read it.
ssize_t write_now(int fd, std::string_view text);
ssize_t write_if_ready(int fd, std::string_view text);
bool wait_writable(int fd, std::chrono::milliseconds at_most);

}  // namespace

void LogSink::write(std::string_view line) {
  std::lock_guard lock(mutex_);
  drain();
  add_lost_line();
  if (lost_ > 0 || waiting_.size() + line.size() > kWaitingBytesMax) {
    ++lost_;
    return;
  }
  waiting_ += line;
  drain();
  if (!waits() || has_waiter_) return;
  auto waiter = start_thread("log", [this] { wait_for_reader(); });
  if (!waiter) return;  // the next line tries again
  has_waiter_ = true;
  waiter->detach();
}

void LogSink::flush(std::chrono::milliseconds at_most) {
  const auto until = Clock::now() + at_most;
  while (true) {
    {
      std::lock_guard lock(mutex_);
      drain();
      add_lost_line();
      drain();
      if (!waits()) return;
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    if (left.count() <= 0 || !wait_writable(fd_, left)) return;
  }
}

void LogSink::drain() {
  std::size_t taken = 0;
  while (taken < waiting_.size()) {
    const ssize_t n = write_now(fd_, std::string_view(waiting_).substr(taken));
    if (n < 0) {
      waiting_.clear();
      lost_ = 0;
      return;
    }
    if (n == 0) break;
    taken += static_cast<std::size_t>(n);
  }
  waiting_.erase(0, taken);
}

// Half the buffer must be free, so that lines and notices do not take turns.
void LogSink::add_lost_line() {
  if (lost_ == 0 || waiting_.size() > kWaitingBytesMax / 2) return;
  waiting_ += lost_line_(lost_);
  lost_ = 0;
}

void LogSink::wait_for_reader() {
  constexpr std::chrono::minutes kForLong{10};
  while (true) {
    wait_writable(fd_, kForLong);
    std::lock_guard lock(mutex_);
    drain();
    add_lost_line();
    drain();
    if (waits()) continue;
    has_waiter_ = false;
    return;
  }
}

namespace {

ssize_t write_now(int fd, std::string_view text) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return -1;
  ssize_t n;
  if (S_ISSOCK(info.st_mode)) {
    n = ::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } else if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    // The same pipe or terminal, opened once more: this one may be non-blocking without anybody noticing.
    const std::string path = str("/proc/self/fd/", fd);
    const Fd own(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    n = own ? ::write(own.get(), text.data(), text.size()) : write_if_ready(fd, text);
  } else {
    n = ::write(fd, text.data(), text.size());
  }
  if (n >= 0) return n;
  return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

// No /proc, or no descriptor left. A pipe that is ready takes PIPE_BUF bytes at once; only another process that fills
// it in between could make this wait.
ssize_t write_if_ready(int fd, std::string_view text) {
  if (!wait_writable(fd, std::chrono::milliseconds(0))) return 0;
  return ::write(fd, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
}

bool wait_writable(int fd, std::chrono::milliseconds at_most) {
  pollfd wanted{fd, POLLOUT, 0};
  return ::poll(&wanted, 1, static_cast<int>(at_most.count())) > 0;
}

}  // namespace

}  // namespace base
