#include "cli/log_file.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>

#include "base/file.h"

namespace cli {

using base::Error;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kTimeBytes = std::string_view("2026-11-28T05:10:11.123456789Z").size();
constexpr std::size_t kReadBytes = 16u << 10;
constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

volatile sig_atomic_t no_more = 0;
void on_sigterm(int) {
  no_more = 1;
}

/// One stream's bytes, cut into entries.
class Stream {
 public:
  Stream(base::Fd fd, bool is_stderr) : fd_(std::move(fd)), is_stderr_(is_stderr) {}
  int fd() const { return fd_.get(); }
  bool open() const { return static_cast<bool>(fd_); }
  /// Reads once; false at the end of the stream, or when nothing is there.
  bool read(std::string& entries);

 private:
  base::Fd fd_;
  bool is_stderr_;
};

/// The file, and what happens when it is full.
class RotatedFile {
 public:
  explicit RotatedFile(std::string dir) : dir_(std::move(dir)) {}
  Status open();
  void append(std::string_view entries);

 private:
  std::string dir_;
  base::Fd fd_;
  std::uint64_t size_ = 0;
};

void cut_into_entries(bool is_stderr, std::string_view data, std::string& entries);
/// What all entries of one moment and stream begin with.
std::string entry_head(LogTime time, bool is_stderr);
void append_entry(std::string& entries, std::string_view head, bool ends_line, std::string_view text);
std::optional<LogTime> parse_time(std::string_view text);
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text);
std::optional<std::chrono::nanoseconds> parse_seconds(std::string_view text);
std::optional<LogTime> parse_date(std::string_view text);
std::optional<int> parse_digits(std::string_view text);

}  // namespace

std::string log_time_text(LogTime time) {
  const std::int64_t nanos = time.time_since_epoch().count();
  const std::time_t seconds = static_cast<std::time_t>(nanos / kNanosPerSecond);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", utc.tm_year + 1900, utc.tm_mon + 1,
                utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<long>(nanos % kNanosPerSecond));
  return text.data();
}

std::string format_log_entry(const LogEntry& entry) {
  std::string line;
  append_entry(line, entry_head(entry.time, entry.is_stderr), entry.ends_line, entry.text);
  return line;
}

std::optional<LogEntry> parse_log_entry(std::string_view line) {
  constexpr std::size_t kHeadBytes = kTimeBytes + std::string_view(" stdout F ").size();
  if (line.size() < kHeadBytes) return std::nullopt;
  const auto time = parse_time(line.substr(0, kTimeBytes));
  const std::string_view stream = line.substr(kTimeBytes, 8);
  const std::string_view tag = line.substr(kTimeBytes + 8, 2);
  if (!time || (stream != " stdout " && stream != " stderr ") || (tag != "F " && tag != "P ")) return std::nullopt;
  return LogEntry{*time, stream == " stderr ", tag == "F ", line.substr(kHeadBytes)};
}

std::optional<LogTime> parse_log_moment(std::string_view text, std::chrono::system_clock::time_point now) {
  if (const auto before = parse_duration(text))
    return std::chrono::time_point_cast<std::chrono::nanoseconds>(now) - *before;
  if (const auto seconds = parse_seconds(text)) return LogTime(*seconds);
  return parse_date(text);
}

std::string log_path(const std::string& dir) {
  return dir + "/log";
}
std::string older_log_path(const std::string& dir) {
  return dir + "/log.1";
}

Status write_log(const std::string& dir, base::Fd out, base::Fd err, base::Fd ready) {
  struct sigaction action {};
  action.sa_handler = on_sigterm;  // no SA_RESTART: it ends the poll
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  TRY(const base::Fd lock, base::open_file(dir + "/lock", O_RDWR | O_CREAT, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return Error::from_errno(errno, str("locking ", dir, "/lock"));
  TRY_VOID(base::write_file(dir + "/lock", str(::getpid(), "\n")));
  RotatedFile file(dir);
  TRY_VOID(file.open());
  std::array<Stream, 2> streams = {Stream(std::move(out), false), Stream(std::move(err), true)};
  for (const Stream& stream : streams) ::fcntl(stream.fd(), F_SETFL, O_NONBLOCK);
  ready.reset();  // the shim goes on

  std::string entries;
  while (no_more == 0 && (streams[0].open() || streams[1].open())) {
    std::array<pollfd, 2> polled = {pollfd{streams[0].fd(), POLLIN, 0}, pollfd{streams[1].fd(), POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
    for (std::size_t i = 0; i < streams.size(); ++i) {
      if (polled[i].revents != 0) streams[i].read(entries);
    }
    file.append(entries);
    entries.clear();
  }
  for (Stream& stream : streams) {
    while (stream.open() && stream.read(entries)) {
      file.append(entries);
      entries.clear();
    }
  }
  return {};
}

Status finish_log(const base::Context& ctx, const std::string& dir) {
  constexpr std::chrono::milliseconds kAgainAfter{5};
  const auto lock = base::open_file(dir + "/lock", O_RDONLY);
  if (!lock) return {};
  for (bool told = false;;) {
    if (::flock(lock->get(), LOCK_SH | LOCK_NB) == 0) return {};
    // The one who holds the lock is alive, and has said who it is.
    if (const auto text = base::read_file(dir + "/lock", 64); text && !told) {
      int pid = 0;
      std::from_chars(text->data(), text->data() + text->size(), pid);
      told = pid > 1 && ::kill(pid, SIGTERM) == 0;
    }
    TRY_VOID(ctx.sleep(kAgainAfter));
  }
}

struct LogSink::File {
  RotatedFile file;
};

LogSink::LogSink(std::unique_ptr<File> file) : file_(std::move(file)) {}
LogSink::~LogSink() = default;

base::Result<std::shared_ptr<LogSink>> LogSink::open(const std::string& dir) {
  auto file = std::make_unique<File>(File{RotatedFile(dir)});
  TRY_VOID(file->file.open());
  return std::shared_ptr<LogSink>(new LogSink(std::move(file)));
}

void LogSink::write(bool is_stderr, std::string_view data) {
  std::string entries;
  cut_into_entries(is_stderr, data, entries);
  const std::lock_guard lock(mutex_);
  file_->file.append(entries);
}

namespace {

bool Stream::read(std::string& entries) {
  std::array<char, kReadBytes> buffer;
  const ssize_t count = ::read(fd_.get(), buffer.data(), buffer.size());
  if (count > 0) {
    cut_into_entries(is_stderr_, {buffer.data(), static_cast<std::size_t>(count)}, entries);
    return true;
  }
  if (count == 0 || (errno != EAGAIN && errno != EINTR)) fd_.reset();
  return false;
}

// What has no newline yet is written at once: a prompt is to be seen.
void cut_into_entries(bool is_stderr, std::string_view data, std::string& entries) {
  const auto now = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  const std::string head = entry_head(now, is_stderr);  // once: there may be thousands
  while (!data.empty()) {
    const std::size_t newline = data.find('\n');
    const std::string_view text = data.substr(0, std::min(newline, kLogLineBytesMax));
    const bool ends_line = newline == text.size();
    append_entry(entries, head, ends_line, text);
    data.remove_prefix(text.size() + (ends_line ? 1 : 0));
  }
}

std::string entry_head(LogTime time, bool is_stderr) {
  return log_time_text(time) + (is_stderr ? " stderr " : " stdout ");
}

void append_entry(std::string& entries, std::string_view head, bool ends_line, std::string_view text) {
  entries.append(head).append(ends_line ? "F " : "P ").append(text).append("\n");
}

Status RotatedFile::open() {
  TRY(fd_, base::open_file(log_path(dir_), O_WRONLY | O_CREAT | O_APPEND, 0600));
  struct stat info {};
  if (::fstat(fd_.get(), &info) != 0) return Error::from_errno(errno, log_path(dir_));
  size_ = static_cast<std::uint64_t>(info.st_size);
  return {};
}

void RotatedFile::append(std::string_view entries) {
  if (entries.empty()) return;
  if (size_ > 0 && size_ + entries.size() > kLogBytesMax) {
    const bool moved = ::rename(log_path(dir_).c_str(), older_log_path(dir_).c_str()) == 0;
    if (moved) [[maybe_unused]]
      const auto opened = open();  // else what comes goes on in the old one
  }
  // Whole entries or none: half of one would make the next unreadable.
  const ssize_t written = ::write(fd_.get(), entries.data(), entries.size());
  if (written > 0 && static_cast<std::size_t>(written) < entries.size()) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) == 0) return;
  }
  if (written > 0) size_ += static_cast<std::uint64_t>(written);
}

std::optional<LogTime> parse_time(std::string_view text) {
  static constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd.dddddddddZ";
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (kShape[i] == 'd' ? !digit : text[i] != kShape[i]) return std::nullopt;
  }
  std::tm utc{};
  utc.tm_year = *parse_digits(text.substr(0, 4)) - 1900;
  utc.tm_mon = *parse_digits(text.substr(5, 2)) - 1;
  utc.tm_mday = *parse_digits(text.substr(8, 2));
  utc.tm_hour = *parse_digits(text.substr(11, 2));
  utc.tm_min = *parse_digits(text.substr(14, 2));
  utc.tm_sec = *parse_digits(text.substr(17, 2));
  constexpr std::time_t kLast = 9'000'000'000;  // of what 64 bits of nanoseconds hold
  const std::time_t seconds = ::timegm(&utc);
  if (seconds < 0) return LogTime();
  if (seconds > kLast) return LogTime::max();
  return LogTime(std::chrono::seconds(seconds) + std::chrono::nanoseconds(*parse_digits(text.substr(20, 9))));
}

// Go's: "1h30m", "90s", "1.5h", "300ms".
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 6> kUnits = {
      {{"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"h", 3600e9}, {"m", 60e9}, {"s", 1e9}}};
  constexpr double kMost = 100.0 * 365 * 86400e9;
  double total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc() || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const auto* unit =
        std::find_if(kUnits.begin(), kUnits.end(), [&](const auto& u) { return text.starts_with(u.first); });
    if (unit == kUnits.end()) return std::nullopt;
    text.remove_prefix(unit->first.size());
    total += number * unit->second;
    if (total > kMost) return std::nullopt;
  }
  return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

// "1764306611" or "1764306611.123456789"
std::optional<std::chrono::nanoseconds> parse_seconds(std::string_view text) {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || seconds < 0 || seconds > 9'000'000'000) return std::nullopt;
  std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
  if (rest.empty()) return std::chrono::seconds(seconds);
  if (rest.front() != '.' || rest.size() > 10) return std::nullopt;
  std::string fraction(rest.substr(1));
  fraction.resize(9, '0');
  const auto nanos = parse_digits(fraction);
  if (!nanos) return std::nullopt;
  return std::chrono::seconds(seconds) + std::chrono::nanoseconds(*nanos);
}

std::optional<LogTime> parse_date(std::string_view text) {
  std::string full(text);
  std::chrono::seconds offset{0};
  if (full.size() == 10) full += "T00:00:00";
  if (full.size() == 16) full += ":00";
  if (full.size() > 19 && (full[full.size() - 6] == '+' || full[full.size() - 6] == '-') &&
      full[full.size() - 3] == ':') {
    const auto hours = parse_digits(std::string_view(full).substr(full.size() - 5, 2));
    const auto minutes = parse_digits(std::string_view(full).substr(full.size() - 2));
    if (!hours || !minutes) return std::nullopt;
    offset = std::chrono::hours(*hours) + std::chrono::minutes(*minutes);
    if (full[full.size() - 6] == '-') offset = -offset;
    full.resize(full.size() - 6);
  } else if (full.ends_with('Z')) {
    full.pop_back();
  }
  if (full.size() == 19) full += ".0";
  if (full.size() < 21 || full.size() > 29 || full[10] == ' ') return std::nullopt;
  full.resize(29, '0');
  const auto time = parse_time(full + "Z");
  if (!time) return std::nullopt;
  return *time - offset;
}

std::optional<int> parse_digits(std::string_view text) {
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

}  // namespace
}  // namespace cli
