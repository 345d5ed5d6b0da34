#include "cli/input.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/file.h"
#include "base/thread.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;

Result<std::unique_ptr<InputPump>> InputPump::make(const std::string& path) {
  constexpr mode_t kOwnerOnly = 0600;
  if (::mkfifo(path.c_str(), kOwnerOnly) != 0) return Error::from_errno(errno, path);
  return std::unique_ptr<InputPump>(new InputPump(path));
}

Status InputPump::start(int from_fd, std::function<void()> on_end) {
  from_fd_ = from_fd;
  on_end_ = std::move(on_end);
  TRY(to_, base::open_file(path_, O_WRONLY | O_NONBLOCK));
  TRY(thread_, base::start_thread("input", [this](const std::stop_token& stop) { copy(stop); }));
  return {};
}

void InputPump::copy(const std::stop_token& stop) {
  const Context ctx = Context::background().with_stop(stop);
  read_input(stop, from_fd_, [&](std::string_view data) { return base::write_all(ctx, to_.get(), data).has_value(); });
  to_.reset();
  if (!stop.stop_requested()) on_end_();
}

Result<std::unique_ptr<RawTerminal>> RawTerminal::enter(int fd) {
  termios before = {};
  if (::tcgetattr(fd, &before) != 0) return Error::from_errno(errno, "reading the terminal's settings");
  termios raw = before;
  ::cfmakeraw(&raw);
  if (::tcsetattr(fd, TCSADRAIN, &raw) != 0) return Error::from_errno(errno, "setting the terminal");
  return std::unique_ptr<RawTerminal>(new RawTerminal(fd, before));
}

RawTerminal::~RawTerminal() {
  ::tcsetattr(fd_, TCSADRAIN, &before_);
}

driver::TerminalSize terminal_size(int fd) {
  winsize size = {};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return {};
  return {size.ws_row, size.ws_col};
}

driver::TerminalSize own_terminal_size() {
  return terminal_size(::isatty(STDOUT_FILENO) == 1 ? STDOUT_FILENO : STDIN_FILENO);
}

void read_input(const std::stop_token& stop, int fd, const std::function<bool(std::string_view)>& take) {
  constexpr std::size_t kChunkBytes = 64u << 10;  // a pipe's default size
  const auto chunk = std::make_unique<std::array<char, kChunkBytes>>();
  const Context ctx = Context::background().with_stop(stop);
  while (true) {
    const auto size = base::read_some(ctx, fd, *chunk);
    if (!size || *size == 0 || !take({chunk->data(), *size})) return;
  }
}

}  // namespace cli
