#include "base/log.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>

#include "base/log_sink.h"
#include "base/text.h"

namespace base {

namespace {
std::atomic<LogLevel> g_least{LogLevel::kInfo};
std::atomic<LogFormat> g_format{LogFormat::kHclog};
constexpr std::array<std::string_view, 6> kLevelNames = {"trace", "debug", "info", "warn", "error", "off"};
constexpr std::size_t kLineBytesMax = 32 * 1024;  // the agent splits lines beyond 64 KiB and logs them raw

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : printable(text)) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

std::string format_human(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  std::string out = str(kLevelNames[static_cast<std::size_t>(level)], ": ", printable(message));
  for (const LogField& field : fields) out += str(" ", field.key, "=", printable(field.value));
  return out;
}

std::string format(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  if (g_format.load() == LogFormat::kHuman) return format_human(level, message, fields);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return format_hclog(level, message, fields, static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000);
}

LogSink& sink() {
  static LogSink& stderr_sink = *new LogSink(STDERR_FILENO, [](std::uint64_t lines) {
    return format(LogLevel::kWarn, "lines of the log were lost: nobody read them", {{"lines", lines}}) + "\n";
  });
  return stderr_sink;
}
}  // namespace

std::optional<LogLevel> log_level_from_name(std::string_view name) {
  const auto it = std::find(kLevelNames.begin(), kLevelNames.end(), name);
  if (it == kLevelNames.end()) return std::nullopt;
  return static_cast<LogLevel>(it - kLevelNames.begin());
}

void set_log(LogLevel least, LogFormat format) {
  g_least = least;
  g_format = format;
}

bool log_enabled(LogLevel level) {
  return level >= g_least.load(std::memory_order_relaxed);
}

std::string format_hclog(LogLevel level, std::string_view message, std::initializer_list<LogField> fields,
                         std::int64_t unix_micros) {
  // The agent's parser wants exactly six fractional digits and all three @-values as strings.
  const time_t seconds = static_cast<time_t>(unix_micros / 1'000'000);
  tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 48> stamp;
  const std::size_t n = ::strftime(stamp.data(), stamp.size(), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(stamp.data() + n, stamp.size() - n, ".%06dZ", static_cast<int>(unix_micros % 1'000'000));

  std::string out = "{\"@level\":";
  append_json_string(out, kLevelNames[static_cast<std::size_t>(level)]);
  out += ",\"@message\":";
  append_json_string(out, message);
  out += ",\"@timestamp\":";
  append_json_string(out, stamp.data());
  for (const LogField& field : fields) {
    out += ',';
    append_json_string(out, field.key);
    out += ':';
    append_json_string(out, field.value);
  }
  out += '}';
  return out;
}

void log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  if (level >= LogLevel::kOff) return;
  std::string line = format(level, message, fields);
  if (line.size() > kLineBytesMax) line = format(level, str(message.substr(0, kLineBytesMax / 8), " [cut]"), {});
  sink().write(line + "\n");
}

void flush_log(std::chrono::milliseconds at_most) {
  sink().flush(at_most);
}

}  // namespace base
