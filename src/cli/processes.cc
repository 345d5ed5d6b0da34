#include "cli/processes.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iomanip>
#include <map>
#include <sstream>

#include "base/text.h"
#include "cli/flags.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

/// What cells are made from besides their process.
struct TableFacts {
  const std::map<pid_t, pid_t>& inside;  // by the host's numbers
  const driver::AccountNames& names;
  std::chrono::nanoseconds since_boot;
};

struct Column {
  std::string_view name;
  std::string_view title;
  std::string (*cell)(const ProcessFacts&, const TableFacts&);
};

std::string name_or_number(const std::map<std::uint32_t, std::string>& names, std::uint32_t number);
std::chrono::nanoseconds time_of_ticks(std::uint64_t ticks);
std::chrono::nanoseconds age_of(const ProcessFacts& process, const TableFacts& facts);
std::string cpu_percent(const ProcessFacts& process, const TableFacts& facts);
std::string terminal_name(std::int64_t device);
std::string command_line(const ProcessFacts& process);
std::string_view status_value(std::string_view status, std::string_view key);
std::vector<std::string_view> blank_words(std::string_view text);
template <typename Number>
Number number_from(std::string_view text);

constexpr std::array<Column, 19> kColumns = {{
    {"user", "USER", [](const auto& p, const auto& t) { return name_or_number(t.names.users, p.uid); }},
    {"group", "GROUP", [](const auto& p, const auto& t) { return name_or_number(t.names.groups, p.gid); }},
    {"huser", "HUSER", [](const auto& p, const auto&) { return str(p.uid); }},
    {"hgroup", "HGROUP", [](const auto& p, const auto&) { return str(p.gid); }},
    {"pid", "PID", [](const auto& p, const auto&) { return str(p.inside); }},
    {"ppid", "PPID",
     [](const auto& p, const auto& t) {
       const auto parent = t.inside.find(p.parent);
       return str(parent == t.inside.end() ? 0 : parent->second);
     }},
    {"pgid", "PGID", [](const auto& p, const auto&) { return str(p.group_inside); }},
    {"hpid", "HPID", [](const auto& p, const auto&) { return str(p.pid); }},
    {"pcpu", "%CPU", cpu_percent},
    {"etime", "ELAPSED", [](const auto& p, const auto& t) { return show_go_duration(age_of(p, t)); }},
    {"time", "TIME",
     [](const auto& p, const auto&) {
       return show_go_duration(std::chrono::floor<std::chrono::seconds>(time_of_ticks(p.cpu_ticks)));
     }},
    {"tty", "TTY", [](const auto& p, const auto&) { return terminal_name(p.terminal); }},
    {"state", "STATE", [](const auto& p, const auto&) { return std::string(1, p.state); }},
    {"nice", "NI", [](const auto& p, const auto&) { return str(p.nice); }},
    {"vsz", "VSZ", [](const auto& p, const auto&) { return str(p.virtual_bytes / 1024); }},
    {"rss", "RSS",
     [](const auto& p, const auto&) {
       return str(p.resident_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) / 1024);
     }},
    {"comm", "COMMAND", [](const auto& p, const auto&) { return p.name; }},
    {"args", "COMMAND", [](const auto& p, const auto&) { return command_line(p); }},
    {"command", "COMMAND", [](const auto& p, const auto&) { return command_line(p); }},
}};

Result<const Column*> find_column(const std::string& name);

}  // namespace

std::optional<ProcessFacts> parse_process(std::string_view stat, std::string_view status, std::string_view cmdline,
                                          std::size_t depth) {
  // "123 (a name) S 1 …": the name ends at the last ')'. Fields by their numbers in proc_pid_stat(5).
  constexpr std::size_t kFirstField = 3;
  constexpr std::size_t kFieldsMin = 24;
  const std::size_t name_begin = stat.find('(');
  const std::size_t name_end = stat.rfind(") ");
  if (name_begin == std::string_view::npos || name_end == std::string_view::npos || name_end < name_begin) {
    return std::nullopt;
  }
  const auto fields = blank_words(stat.substr(name_end + 2));
  if (fields.size() + kFirstField <= kFieldsMin) return std::nullopt;
  const auto field = [&](std::size_t number) { return fields[number - kFirstField]; };
  const auto inside = blank_words(status_value(status, "NSpid:"));
  const auto groups = blank_words(status_value(status, "NSpgid:"));
  const auto uids = blank_words(status_value(status, "Uid:"));
  const auto gids = blank_words(status_value(status, "Gid:"));
  if (inside.size() <= depth || groups.size() <= depth || uids.size() < 2 || gids.size() < 2) return std::nullopt;
  ProcessFacts process;
  process.pid = number_from<pid_t>(stat.substr(0, name_begin));
  process.name = stat.substr(name_begin + 1, name_end - name_begin - 1);
  process.state = field(3).front();
  process.parent = number_from<pid_t>(field(4));
  process.terminal = number_from<std::int64_t>(field(7));
  process.cpu_ticks = number_from<std::uint64_t>(field(14)) + number_from<std::uint64_t>(field(15));
  process.nice = number_from<std::int64_t>(field(19));
  process.start_ticks = number_from<std::uint64_t>(field(22));
  process.virtual_bytes = number_from<std::uint64_t>(field(23));
  process.resident_pages = number_from<std::uint64_t>(field(24));
  process.inside = number_from<pid_t>(inside[depth]);
  process.group_inside = number_from<pid_t>(groups[depth]);
  process.uid = number_from<std::uint32_t>(uids[1]);
  process.gid = number_from<std::uint32_t>(gids[1]);
  while (cmdline.ends_with('\0')) cmdline.remove_suffix(1);
  if (cmdline.empty()) return process;
  for (const std::string_view word : base::split(cmdline, '\0')) process.words.emplace_back(word);
  return process;
}

std::size_t pid_namespace_depth(std::string_view status) {
  return std::max<std::size_t>(blank_words(status_value(status, "NSpid:")).size(), 1) - 1;
}

Result<std::vector<std::vector<std::string>>> process_table(const std::vector<ProcessFacts>& processes,
                                                            const std::vector<std::string>& columns,
                                                            const driver::AccountNames& names,
                                                            std::chrono::nanoseconds since_boot) {
  static const std::vector<std::string> kDefault = {"user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"};
  std::vector<const Column*> wanted;
  for (const std::string& name : columns.empty() ? kDefault : columns) {
    TRY(const Column* const column, find_column(name));
    wanted.push_back(column);
  }
  std::map<pid_t, pid_t> inside;
  for (const ProcessFacts& process : processes) inside[process.pid] = process.inside;
  const TableFacts facts{inside, names, since_boot};
  std::vector<std::vector<std::string>> rows(1);
  for (const Column* column : wanted) rows.front().emplace_back(column->title);
  for (const ProcessFacts& process : processes) {
    auto& row = rows.emplace_back();
    for (const Column* column : wanted) row.push_back(column->cell(process, facts));
  }
  return rows;
}

std::string show_go_duration(std::chrono::nanoseconds duration) {
  const auto hundredths = std::max<std::int64_t>(duration / std::chrono::milliseconds(10), 0);
  const std::int64_t seconds = hundredths / 100;
  std::string fraction = hundredths % 100 == 0 ? "" : str(hundredths % 100 < 10 ? ".0" : ".", hundredths % 100);
  if (fraction.ends_with('0')) fraction.pop_back();
  return str(seconds >= 3600 ? str(seconds / 3600, "h") : "", seconds >= 60 ? str(seconds / 60 % 60, "m") : "",
             seconds % 60, fraction, "s");
}

namespace {

Result<const Column*> find_column(const std::string& name) {
  std::vector<std::string> known;
  for (const Column& column : kColumns) {
    if (column.name == name) return &column;
    known.emplace_back(column.name);
  }
  std::string all;
  for (const std::string& one : known) all += str(all.empty() ? "" : ", ", one);
  return Error::invalid_argument(str("there is no column \"", name, "\": use ", all));
}

std::string name_or_number(const std::map<std::uint32_t, std::string>& names, std::uint32_t number) {
  const auto it = names.find(number);
  return it == names.end() ? str(number) : it->second;
}

std::chrono::nanoseconds time_of_ticks(std::uint64_t ticks) {
  static const auto kPerSecond = static_cast<std::uint64_t>(std::max(::sysconf(_SC_CLK_TCK), 1L));
  return std::chrono::milliseconds(ticks * 1000 / kPerSecond);
}

std::chrono::nanoseconds age_of(const ProcessFacts& process, const TableFacts& facts) {
  return std::max(facts.since_boot - time_of_ticks(process.start_ticks), std::chrono::nanoseconds(0));
}

std::string cpu_percent(const ProcessFacts& process, const TableFacts& facts) {
  const double age = std::chrono::duration<double>(age_of(process, facts)).count();
  const double busy = std::chrono::duration<double>(time_of_ticks(process.cpu_ticks)).count();
  std::ostringstream out;
  out << std::fixed << std::setprecision(3) << (age > 0 ? busy / age * 100 : 0.0);
  return out.str();
}

// spec: Linux Documentation/admin-guide/devices.txt
std::string terminal_name(std::int64_t device) {
  constexpr std::int64_t kTtyMajor = 4;
  constexpr std::int64_t kConsoleMajor = 5;
  constexpr std::int64_t kPtsMajor = 136;
  constexpr std::int64_t kPtsMajors = 8;
  const std::int64_t major = (device >> 8) & 0xfff;
  const std::int64_t minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  if (device == 0) return "?";
  if (major >= kPtsMajor && major < kPtsMajor + kPtsMajors) return str("pts/", (major - kPtsMajor) * 256 + minor);
  if (major == kConsoleMajor && minor == 1) return "console";
  if (major == kTtyMajor) return str("tty", minor);
  return str(major, ":", minor);
}

std::string command_line(const ProcessFacts& process) {
  if (process.words.empty()) return str("[", process.name, "]");
  std::string text;
  for (const std::string& word : process.words) text += str(text.empty() ? "" : " ", word);
  return text;
}

// The rest of the line "Key:\tvalue".
std::string_view status_value(std::string_view status, std::string_view key) {
  for (const std::string_view line : base::split(status, '\n')) {
    if (line.starts_with(key)) return line.substr(key.size());
  }
  return {};
}

std::vector<std::string_view> blank_words(std::string_view text) {
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t begin = text.find_first_not_of(" \t\n");
    if (begin == std::string_view::npos) return words;
    text.remove_prefix(begin);
    const std::size_t end = std::min(text.find_first_of(" \t\n"), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

template <typename Number>
Number number_from(std::string_view text) {
  Number number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace
}  // namespace cli
