// One line of hclog JSON per event to stderr, which the Nomad agent re-emits in its own log:
//   {"@level":"info","@message":"task started","@timestamp":"2026-01-02T03:04:05.000006Z","task":"…"}
// Levels: error = an operator must act · warn = we recovered · info = life-cycle edges (at most 10 a task) ·
// debug = per step · trace = frames. An error is logged or returned, never both. No secret is ever passed in.
#pragma once

#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace base {

enum class LogLevel { kTrace, kDebug, kInfo, kWarn, kError, kOff };

/// A key and its value as text; any ostream-able value.
struct LogField {
  std::string_view key;
  std::string value;
  template <typename T>
  LogField(std::string_view k, const T& v) : key(k), value(str(v)) {}
};

/// "trace", "debug", "info", "warn", "error", "off"; nullopt for anything else.
std::optional<LogLevel> log_level_from_name(std::string_view name);

/// Human: "level message key=value" for a person at a terminal; hclog: JSON lines for the agent.
enum class LogFormat { kHclog, kHuman };
/// Process-wide, set once by main before threads start.
void set_log(LogLevel least, LogFormat format);
bool log_enabled(LogLevel level);
/// Any thread. Never blocks: a line that stderr does not take now waits in a buffer of 256 KiB (base/log_sink.h);
/// beyond it lines are dropped, and one line says how many. What others wrote is made printable.
void log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

/// Gives the reader of stderr this time to take what waits: before an exit or an abort.
void flush_log(std::chrono::milliseconds at_most);

/// The line without newline, for tests: `unix_micros` since the epoch.
std::string format_hclog(LogLevel level, std::string_view message, std::initializer_list<LogField> fields,
                         std::int64_t unix_micros);

}  // namespace base

#define LOG_AT(level, ...)                                             \
  do {                                                                 \
    if (::base::log_enabled(level)) ::base::log((level), __VA_ARGS__); \
  } while (false)
/// LOG_INFO("task started", {{"task", id}, {"pid", pid}});
#define LOG_TRACE(...) LOG_AT(::base::LogLevel::kTrace, __VA_ARGS__)
#define LOG_DEBUG(...) LOG_AT(::base::LogLevel::kDebug, __VA_ARGS__)
#define LOG_INFO(...) LOG_AT(::base::LogLevel::kInfo, __VA_ARGS__)
#define LOG_WARN(...) LOG_AT(::base::LogLevel::kWarn, __VA_ARGS__)
#define LOG_ERROR(...) LOG_AT(::base::LogLevel::kError, __VA_ARGS__)
