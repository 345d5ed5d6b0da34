// What a detached container has written.
#include <algorithm>
#include <array>
#include <charconv>
#include <deque>

#include "cli/definition.h"
#include "cli/log_file.h"
#include "cli/log_reader.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::chrono::milliseconds kLookInterval{50};
constexpr std::chrono::seconds kLastLinesTime{5};

struct LogFlags {
  bool follow = false;
  bool timestamps = false;
  std::string tail;
  std::string since;
  std::string until;
};

struct Wanted {
  bool follow = false;
  bool timestamps = false;
  std::optional<std::size_t> tail;
  std::optional<LogTime> since;
  std::optional<LogTime> until;
};

/// The last lines of a log, in the order in which they ended. Lines that were written in parts count once.
class LastLines {
 public:
  explicit LastLines(std::size_t most) : most_(most) {}
  void add(std::string entry, const LogEntry& parsed);
  /// With those that have no end yet.
  std::vector<std::string> entries();

 private:
  using Line = std::vector<std::string>;
  void end(Line& line);

  std::size_t most_;
  std::array<Line, 2> begun_;  // stdout, stderr
  std::deque<Line> ended_;
};

Result<Wanted> parse_wanted(const LogFlags& flags);
Result<LogTime> parse_moment(const char* flag, const std::string& text);
int follow(Call& call, const FoundTask& found, const std::string& dir, LogReader& reader, LogPrinter& printer,
           const Wanted& wanted);
/// All that the log has now.
void for_each_wanted(LogReader& reader, const Wanted& wanted,
                     const std::function<void(const std::string& line, const LogEntry& entry)>& use);

}  // namespace

int logs_command(const Verb& self, Call& call) {
  Flags flags;
  LogFlags given;
  flags.toggle("follow", 'f', "go on until the container has ended", given.follow);
  flags.toggle("timestamps", 't', "show when each line was written", given.timestamps);
  flags.value("tail", 'n', "LINES", "only so many of the last lines", given.tail);
  flags.value("since", 0, "TIME", "only what was written since: 10m, 2026-11-28T05:00:00Z, or seconds since 1970",
              given.since);
  flags.value("until", 0, "TIME", "only what was written before", given.until);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 1) return misuse(self, call.io, Error::invalid_argument("name one container"));
  const auto wanted = parse_wanted(given);
  if (!wanted) return misuse(self, call.io, wanted.error());
  const auto found = find_container(call.globals, args->front());
  if (!found) return fail(call.io, found.error(), kExitRunFailure);
  if (!found->definition) {
    return fail(call.io,
                Error::failed_precondition(str(args->front(),
                                               " has no log here: what Nomad starts is shown by nomad alloc "
                                               "logs, what `run` shows is not kept")),
                kExitRunFailure);
  }

  const std::string dir = definition_dir(call.globals.options().data_dir, found->definition->container_id);
  LogReader reader(dir);
  LogPrinter printer(call.io, wanted->timestamps);
  LastLines last(wanted->tail.value_or(0));
  for_each_wanted(reader, *wanted, [&](const std::string& line, const LogEntry& entry) {
    if (!wanted->tail) {
      printer.print(entry);
    } else {
      last.add(line, entry);
    }
  });
  for (const std::string& line : last.entries()) printer.print(*parse_log_entry(line));
  return wanted->follow ? follow(call, *found, dir, reader, printer, *wanted) : kExitOk;
}

namespace {

int follow(Call& call, const FoundTask& found, const std::string& dir, LogReader& reader, LogPrinter& printer,
           const Wanted& wanted) {
  driver::Driver& driver = found.session->driver;
  const base::OneShot<driver::ExitResult> exit;
  std::optional<base::Subscription> waiting;
  if (found.task.state == driver::TaskState::kRunning && driver.attach(Context::background(), found.task.id)) {
    if (auto begun = driver.wait(found.task.id, [exit](const driver::ExitResult& result) { exit.set(result); })) {
      waiting = *std::move(begun);
    }
  }
  const Context ctx = Context::background();
  for (;;) {
    // Asked before the last look: what was written by then is found by it.
    const bool ended = !waiting || exit.ready();
    if (ended) [[maybe_unused]]
      const auto written = finish_log(ctx.with_timeout(kLastLinesTime), dir);
    for_each_wanted(reader, wanted, [&](const std::string&, const LogEntry& entry) { printer.print(entry); });
    call.io.out.flush();
    if (ended || call.io.out.bad()) return kExitOk;
    if (wanted.until && *wanted.until < std::chrono::system_clock::now()) return kExitOk;
    if (!ctx.sleep(kLookInterval)) return kExitOk;
  }
}

void for_each_wanted(LogReader& reader, const Wanted& wanted,
                     const std::function<void(const std::string& line, const LogEntry& entry)>& use) {
  for (std::string line; reader.next(line);) {
    const auto entry = parse_log_entry(line);
    if (!entry || (wanted.since && entry->time < *wanted.since)) continue;
    if (!wanted.until || entry->time < *wanted.until) use(line, *entry);
  }
}

Result<Wanted> parse_wanted(const LogFlags& flags) {
  Wanted wanted{.follow = flags.follow, .timestamps = flags.timestamps, .tail = {}, .since = {}, .until = {}};
  if (!flags.tail.empty() && flags.tail != "all" && flags.tail != "-1") {
    std::size_t count = 0;
    const char* end = flags.tail.data() + flags.tail.size();
    const auto parsed = std::from_chars(flags.tail.data(), end, count);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return Error::invalid_argument(str("--tail ", flags.tail, " is not a number of lines"));
    }
    wanted.tail = count;
  }
  if (!flags.since.empty()) {
    TRY(wanted.since, parse_moment("--since", flags.since));
  }
  if (!flags.until.empty()) {
    TRY(wanted.until, parse_moment("--until", flags.until));
  }
  return wanted;
}

Result<LogTime> parse_moment(const char* flag, const std::string& text) {
  if (const auto time = parse_log_moment(text, std::chrono::system_clock::now())) return *time;
  return Error::invalid_argument(
      str(flag, " ", text, " is not a time: write 10m, 2026-11-28T05:00:00Z, or seconds since 1970"));
}

void LastLines::add(std::string entry, const LogEntry& parsed) {
  Line& line = begun_[parsed.is_stderr ? 1 : 0];
  const bool ends_line = parsed.ends_line;
  line.push_back(std::move(entry));
  if (ends_line) end(line);
}

void LastLines::end(Line& line) {
  ended_.push_back(std::exchange(line, {}));
  if (ended_.size() > most_) ended_.pop_front();
}

std::vector<std::string> LastLines::entries() {
  for (Line& line : begun_) {
    if (!line.empty()) end(line);
  }
  std::vector<std::string> all;
  for (Line& line : ended_) std::move(line.begin(), line.end(), std::back_inserter(all));
  return all;
}

}  // namespace
}  // namespace cli
