#include "driver/host/oom.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "base/file.h"
#include "base/text.h"

namespace driver {

using base::Result;
using base::str;

namespace {

constexpr std::size_t kFileBytesMax = 8u << 10;
constexpr std::size_t kLogRecordBytesMax = 8u << 10;  ///< the kernel's CONSOLE_EXT_LOG_MAX
constexpr int kLogRecordsMax = 100'000;
/// v1 says "no limit" as the highest number of whole pages; no real limit comes near.
constexpr std::uint64_t kNoLimitBytes = std::uint64_t{1} << 62;

std::uint64_t number_in(const std::string& path);
std::string_view value_of(std::string_view line, std::string_view key);
std::string size_text(std::uint64_t bytes);

}  // namespace

Result<OomReport> read_oom_report(const CgroupLocation& location) {
  OomReport report;
  TRY(report.kills, read_oom_kills(location));
  if (location.mode == CgroupMode::kOff) return report;
  const bool v2 = location.mode == CgroupMode::kV2;
  const std::string dir = str(location.root, v2 ? "" : "/memory", location.path, "/");
  report.limit_bytes = number_in(dir + (v2 ? "memory.max" : "memory.limit_in_bytes"));
  if (report.limit_bytes >= kNoLimitBytes) report.limit_bytes = 0;
  report.peak_bytes = number_in(dir + (v2 ? "memory.peak" : "memory.max_usage_in_bytes"));
  return report;
}

std::optional<OomVictim> find_oom_victim(const std::string& path) {
  const auto log = base::open_file("/dev/kmsg", O_RDONLY | O_NONBLOCK);
  if (!log) return std::nullopt;
  std::optional<OomVictim> last;
  std::array<char, kLogRecordBytesMax> record;
  for (int n = 0; n < kLogRecordsMax; ++n) {
    const ssize_t size = ::read(log->get(), record.data(), record.size());
    if (size < 0 && (errno == EPIPE || errno == EINTR)) continue;  // overwritten meanwhile: the next read is the oldest
    if (size <= 0) break;                                          // EAGAIN: this was the last one
    if (auto victim = parse_oom_line({record.data(), static_cast<std::size_t>(size)}, path)) last = std::move(victim);
  }
  return last;
}

std::optional<OomVictim> parse_oom_line(std::string_view line, std::string_view path) {
  const std::size_t start = line.find("oom-kill:");
  if (start == std::string_view::npos) return std::nullopt;
  line.remove_prefix(start);
  const std::string_view cgroup = value_of(line, ",task_memcg=");
  if (!cgroup.starts_with(path) || (cgroup.size() > path.size() && cgroup[path.size()] != '/')) return std::nullopt;
  // The process chose its name, which may have commas: what follows it is found from the end.
  const std::size_t name = line.find(",task=");
  const std::size_t pid = line.rfind(",pid=");
  if (name == std::string_view::npos || pid == std::string_view::npos || pid < name) return std::nullopt;
  OomVictim victim;
  const std::string_view digits = value_of(line.substr(pid), ",pid=");
  if (std::from_chars(digits.data(), digits.data() + digits.size(), victim.pid).ec != std::errc()) return std::nullopt;
  constexpr std::size_t kKeyBytes = 6;  // ",task="
  for (const char c : line.substr(name + kKeyBytes, pid - name - kKeyBytes)) {
    victim.name += base::is_control(c) ? '?' : c;
  }
  return victim;
}

std::string oom_message(const OomReport& report) {
  std::string text = report.limit_bytes > 0 ? str("OOM killed: memory limit ", size_text(report.limit_bytes))
                                            : str("OOM killed: no memory limit, the host ran out of memory");
  if (report.peak_bytes > 0) text += str(", peak ", size_text(report.peak_bytes));
  if (report.victim) text += str(", victim pid ", report.victim->pid, " (", report.victim->name, ")");
  return str(text, ", kills ", report.kills);
}

namespace {

// 0 for a file that is not there, and for "max".
std::uint64_t number_in(const std::string& path) {
  const auto text = base::read_file(path, kFileBytesMax);
  std::uint64_t value = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

// Up to the next comma or line's end; "" if the key is not there.
std::string_view value_of(std::string_view line, std::string_view key) {
  const std::size_t at = line.find(key);
  if (at == std::string_view::npos) return {};
  line.remove_prefix(at + key.size());
  return line.substr(0, line.find_first_of(",\n"));
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::uint64_t kMiB = 1u << 20;
  return bytes < kMiB ? str(bytes >> 10, " KiB") : str(bytes / kMiB, " MiB");
}

}  // namespace
}  // namespace driver
