#include "cli/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/file.h"

namespace cli {

namespace {

constexpr std::size_t kLogChunkBytes = 64u << 10;
static_assert(kLogChunkBytes > 2 * kLogLineBytesMax);

}  // namespace

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

void LogReader::skip_to_end() {
  older_done_ = true;
  if (!open_next()) return;  // nothing has been written
  std::array<char, kLogChunkBytes> bytes;
  const off_t size = ::lseek(fd_.get(), 0, SEEK_END);
  const off_t from = std::max<off_t>(0, size - static_cast<off_t>(bytes.size()));
  if (::lseek(fd_.get(), from, SEEK_SET) < 0) return;
  const ssize_t count = ::read(fd_.get(), bytes.data(), bytes.size());
  if (count <= 0) return;
  // Of a line that is being written the beginning is needed.
  const std::string_view last(bytes.data(), static_cast<std::size_t>(count));
  buffer_ = last.substr(last.rfind('\n') + 1);
}

bool LogReader::fill() {
  for (;;) {
    if (!fd_ && !open_next()) return false;
    std::array<char, kLogChunkBytes> bytes;
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
