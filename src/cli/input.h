// Our own input on its way to a container, and our terminal while it is the container's.
#pragma once

#include <termios.h>

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "base/fd.h"
#include "base/result.h"
#include "driver/values/exec_session.h"

namespace cli {

/// Copies a descriptor to a FIFO on a thread of its own, until it ends or nobody reads the FIFO any more.
class InputPump {
 public:
  /// Makes the FIFO (0600).
  static base::Result<std::unique_ptr<InputPump>> make(const std::string& path);
  InputPump(const InputPump&) = delete;
  InputPump& operator=(const InputPump&) = delete;

  /// Begins, once somebody has the FIFO open for reading. `from_fd` is borrowed. `on_end` is called on that thread
  /// after the FIFO was closed, unless the pump was destroyed before.
  ///   errors  kResourceExhausted no descriptor or thread · by errno: nobody reads the FIFO (ENXIO)
  base::Status start(int from_fd, std::function<void()> on_end);

 private:
  explicit InputPump(std::string path) : path_(std::move(path)) {}
  void copy(const std::stop_token& stop);

  std::string path_;
  int from_fd_ = -1;
  base::Fd to_;
  std::function<void()> on_end_;
  std::jthread thread_;  // last: it uses the others
};

/// A terminal that passes every key on, also Ctrl-C; the destructor makes it what it was.
class RawTerminal {
 public:
  /// `fd` is borrowed.
  static base::Result<std::unique_ptr<RawTerminal>> enter(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  RawTerminal(int fd, const termios& before) : fd_(fd), before_(before) {}

  int fd_;
  termios before_;
};

/// Zeros if `fd` is no terminal.
driver::TerminalSize terminal_size(int fd);
/// Of the terminal that our output goes to, or else our input comes from.
driver::TerminalSize own_terminal_size();

/// Reads to the end, or until `take` wants no more. An input that cannot be read (closed, or a folder) is one without
/// content, as for every program of a shell.
void read_input(const std::stop_token& stop, int fd, const std::function<bool(std::string_view)>& take);

}  // namespace cli
