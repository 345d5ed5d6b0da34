// Reading the log of a detached container while it is written.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/log_file.h"

namespace cli {

/// Both files of a log as one, which may grow and be rotated meanwhile.
class LogReader {
 public:
  explicit LogReader(std::string dir) : dir_(std::move(dir)) {}
  /// The next whole line, without its newline; false: there is none yet.
  bool next(std::string& line);
  /// Passes over what is there by now, whole lines of it, without reading it all.
  void skip_to_end();

 private:
  bool fill();
  bool open_next();

  std::string dir_;
  base::Fd fd_;
  ino_t inode_ = 0;
  bool older_done_ = false;
  std::string buffer_;
  std::size_t at_ = 0;
};

/// Prints entries, parts of a line as one line.
class LogPrinter {
 public:
  LogPrinter(Io& io, bool timestamps) : io_(io), timestamps_(timestamps) {}
  void print(const LogEntry& entry);

 private:
  Io& io_;
  bool timestamps_;
  std::array<bool, 2> in_line_{};  // stdout, stderr
};

}  // namespace cli
