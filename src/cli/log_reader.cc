#include "cli/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/file.h"

namespace cli {

bool LogReader::next(std::string& line) {
  for (;;) {
    const std::size_t newline = buffer_.find('\n', at_);
    if (newline != std::string::npos) {
      line = buffer_.substr(at_, newline - at_);
      at_ = newline + 1;
      return true;
    }
    buffer_.erase(0, at_);
    at_ = 0;
    if (!fill()) return false;
  }
}

bool LogReader::fill() {
  constexpr std::size_t kChunkBytes = 64u << 10;
  for (;;) {
    if (!fd_ && !open_next()) return false;
    std::array<char, kChunkBytes> bytes;
    const ssize_t count = ::read(fd_.get(), bytes.data(), bytes.size());
    if (count > 0) {
      buffer_.append(bytes.data(), static_cast<std::size_t>(count));
      return true;
    }
    // At its end. Another file under the name says that this one is complete.
    struct stat now {};
    const bool same = ::stat(log_path(dir_).c_str(), &now) == 0 && now.st_ino == inode_;
    if (same || !open_next()) return false;
  }
}

// The older file first, once; then whatever has the name.
bool LogReader::open_next() {
  const std::string path = older_done_ ? log_path(dir_) : older_log_path(dir_);
  older_done_ = true;
  auto opened = base::open_file(path, O_RDONLY);
  if (!opened && path == older_log_path(dir_)) opened = base::open_file(log_path(dir_), O_RDONLY);
  if (!opened) return false;
  struct stat info {};
  if (::fstat(opened->get(), &info) != 0) return false;
  fd_ = *std::move(opened);
  inode_ = info.st_ino;
  return true;
}

void LogPrinter::print(const LogEntry& entry) {
  std::ostream& out = entry.is_stderr ? io_.err : io_.out;
  bool& in_line = in_line_[entry.is_stderr ? 1 : 0];
  if (timestamps_ && !in_line) out << log_time_text(entry.time) << ' ';
  out << entry.text;
  if (entry.ends_line) out << '\n';
  in_line = !entry.ends_line;
}

}  // namespace cli
