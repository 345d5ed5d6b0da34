// The log of a detached container, as Kubernetes' runtimes write it (CRI), so that every log shipper reads it:
//
//   2026-11-28T05:10:11.123456789Z stdout F a line
//   2026-11-28T05:10:12.000000000Z stderr P a part of one, without its end
//
// disk     <definition dir>/log, and log.1 before it: each at most kLogBytesMax. `lock` is held by the writer for as
// long
//          as it lives.
// spec     Kubernetes CRI logging format
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace cli {

inline constexpr std::uint64_t kLogBytesMax = 10u << 20;
inline constexpr std::size_t kLogLineBytesMax = 16u << 10;  ///< longer ones are written in parts

using LogTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;

struct LogEntry {
  LogTime time;
  bool is_stderr = false;
  bool ends_line = true;
  std::string_view text;  ///< without its newline
};

/// "2026-11-28T05:10:11.123456789Z". Pure.
std::string log_time_text(LogTime time);
/// An entry's line, with its newline. Pure.
std::string format_log_entry(const LogEntry& entry);
/// `line` without its newline; nullopt: not of this form. Pure.
std::optional<LogEntry> parse_log_entry(std::string_view line);

/// What --since and --until take: "2026-11-28", "2026-11-28T05:10:11[.123][Z|+01:00]", "10m" or "1h30m" before `now`,
/// seconds since 1970. nullopt: none of them. Pure.
std::optional<LogTime> parse_log_moment(std::string_view text, std::chrono::system_clock::time_point now);

std::string log_path(const std::string& dir);
std::string older_log_path(const std::string& dir);

/// Writes what comes on two pipes until both have ended, or a SIGTERM says that no more is to come.
///   in      dir: exists; out, err: reading ends, as the shim passes them to a logging program (3 and 4)
///   blocks  until then
///   errors  by errno: the log cannot be opened. One that takes no more (a full disk) loses lines, and ends nothing
base::Status write_log(const std::string& dir, base::Fd out, base::Fd err, base::Fd ready);

/// For a container that has ended: its shim still holds the pipes, so that the writer does not see their end. It is
/// told, writes what is there, and ends.
///   blocks  until it has, or ctx ends. No writer = OK
base::Status finish_log(const base::Context& ctx, const std::string& dir);

/// The log of a container whose output passes through this process.
/// threads  any
class LogSink {
 public:
  ///   errors  by errno; dir is there
  static base::Result<std::shared_ptr<LogSink>> open(const std::string& dir);
  ~LogSink();
  void write(bool is_stderr, std::string_view data);

 private:
  struct File;
  explicit LogSink(std::unique_ptr<File> file);
  std::mutex mutex_;
  std::unique_ptr<File> file_;
};

}  // namespace cli
