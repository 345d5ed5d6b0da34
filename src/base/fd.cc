#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <functional>
#include <limits>
#include <optional>

namespace base {

void Fd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);  // EINTR and EIO leave it closed on Linux: never retried
  fd_ = fd;
}

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return Error::from_errno(errno, "creating a pipe");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

Result<Fd> dup_fd(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Error::from_errno(errno, "duplicating a descriptor");
  return Fd(copy);
}

Status wait_fd(const Context& ctx, int fd, Wait for_what) {
  // A stop request must wake poll: it writes to an eventfd that is polled beside the descriptor.
  Fd waker;
  std::optional<std::stop_callback<std::function<void()>>> on_stop;
  if (ctx.stop().stop_possible()) {
    waker = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!waker) return Error::from_errno(errno, "creating an eventfd");
    on_stop.emplace(ctx.stop(), [wake_fd = waker.get()] {
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(wake_fd, &one, sizeof one);
    });
  }
  while (true) {
    TRY_VOID(ctx.check());
    std::array<pollfd, 2> fds{
        {{fd, static_cast<short>(for_what == Wait::kReadable ? POLLIN : POLLOUT), 0}, {waker.get(), POLLIN, 0}}};
    const int ready = ::poll(fds.data(), fds.size(), ctx.remaining_poll_ms());
    if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "polling a descriptor");
    if (ready > 0 && fds[0].revents != 0) return {};
  }
}

namespace {
/// How much one write(2) may take without waiting in the kernel, where ctx is not heard. A regular file never waits for
/// anybody; with O_NONBLOCK nothing does; a pipe that is writable takes PIPE_BUF bytes.
Result<std::size_t> write_bytes_max(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return Error::from_errno(errno, "writing");
  if ((flags & O_NONBLOCK) != 0) return std::numeric_limits<std::size_t>::max();
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::from_errno(errno, "writing");
  return S_ISREG(info.st_mode) ? std::numeric_limits<std::size_t>::max() : std::size_t{PIPE_BUF};
}

bool is_writable(int fd) {
  pollfd asked{fd, POLLOUT, 0};
  return ::poll(&asked, 1, 0) == 1;
}
}  // namespace

Status write_all(const Context& ctx, int fd, std::string_view data) {
  if (data.empty()) return {};
  TRY(const std::size_t bytes_max, write_bytes_max(fd));
  while (!data.empty()) {
    if (bytes_max == PIPE_BUF && !is_writable(fd)) TRY_VOID(wait_fd(ctx, fd, Wait::kWritable));
    const ssize_t n = ::write(fd, data.data(), std::min(data.size(), bytes_max));
    if (n >= 0) {
      data.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      TRY_VOID(wait_fd(ctx, fd, Wait::kWritable));
    } else if (errno != EINTR) {
      return Error::from_errno(errno, "writing");
    }
  }
  return {};
}

Result<std::size_t> read_some(const Context& ctx, int fd, std::span<char> out) {
  while (true) {
    TRY_VOID(wait_fd(ctx, fd, Wait::kReadable));
    const ssize_t n = ::read(fd, out.data(), out.size());
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EINTR && errno != EAGAIN) return Error::from_errno(errno, "reading");
  }
}

Result<std::string> read_to_end(const Context& ctx, int fd, std::size_t bytes_max, std::string_view what) {
  std::string out;
  std::array<char, 16 * 1024> buffer;
  while (true) {
    TRY(const std::size_t n, read_some(ctx, fd, buffer));
    if (n == 0) return out;
    if (out.size() + n > bytes_max) {
      return Error::resource_exhausted(str(what, " is larger than the limit of ", bytes_max, " bytes"));
    }
    out.append(buffer.data(), n);
  }
}

}  // namespace base
