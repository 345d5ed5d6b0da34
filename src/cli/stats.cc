// What running containers use, once or again and again. The numbers of CPU and memory are made as those that an agent
// gets of its tasks.
#include "driver/host/stats.h"

#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iomanip>
#include <map>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "cli/format.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Json;
using base::Result;
using base::str;

namespace {

constexpr std::chrono::milliseconds kFirstInterval{500};  ///< what the first percentages are over
constexpr std::size_t kStatsIdBytes = 12;
constexpr std::size_t kNetDevBytesMax = 1u << 20;
constexpr const char* kStatsFormat =
    "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}";

struct StatsFlags {
  bool all = false;
  bool no_stream = false;
  bool no_reset = false;
  bool no_trunc = false;
  std::string interval;
  std::string format;
  std::string output;

  void declare(Flags& flags);
};

/// One container at one moment.
struct Use {
  const Container& container;
  driver::TaskStats stats;
  driver::CgroupFigures figures;
  std::uint64_t memory_limit_bytes = 0;              ///< its own, or what the host has
  std::optional<driver::InterfaceBytes> interfaces;  ///< none of its own: it shares the host's
};

/// Samples of one call, by container id.
class Samplers {
 public:
  /// nullopt: it has ended just now.
  Result<std::optional<Use>> look(const Container& container);
  /// Forgets those that are not among `running`.
  void keep(const std::vector<Container>& running);

 private:
  std::map<std::string, driver::StatsSampler> samplers_;
};

Result<std::chrono::seconds> interval_of(const StatsFlags& given);
Result<std::vector<Container>> running_now(driver::Driver& driver, const std::vector<std::string>& ids);
Result<std::vector<std::string>> ids_of(driver::Driver& driver, const std::vector<std::string>& names);
int stream_stats(Call& call, const StatsFlags& given, std::chrono::seconds interval,
                 const std::vector<std::string>& names);
base::Status print_uses(Call& call, const StatsFlags& given, const std::vector<Use>& uses);
Json stats_row(const Use& use, bool no_trunc);
Json stats_heads();
Json stats_numbers(const Use& use);
Json podman_stats(const Use& use);
std::optional<driver::InterfaceBytes> interfaces_of(const std::string& pid);
std::uint64_t host_memory_bytes();
double memory_percent(const Use& use);
std::string show_percent(double percent);
std::string show_pair(std::uint64_t first, std::uint64_t second);

}  // namespace

int stats_command(const Verb& self, Call& call) {
  Flags flags;
  StatsFlags given;
  given.declare(flags);
  int exit_code = kExitOk;
  const auto names = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!names) return exit_code;
  if (auto valid = check_output_format(given.output); !valid) return misuse(self, call.io, valid.error());
  const auto interval = interval_of(given);
  if (!interval) return misuse(self, call.io, interval.error());
  if (given.all && !names->empty()) {
    return misuse(self, call.io, Error::invalid_argument("--all takes no names"));
  }
  return stream_stats(call, given, *interval, *names);
}

namespace {

void StatsFlags::declare(Flags& flags) {
  flags.toggle("all", 'a', "all that run, which is so without names, too", all);
  flags.toggle("no-stream", 0, "once only", no_stream);
  flags.toggle("no-reset", 0, "do not clear the screen in between", no_reset);
  flags.toggle("no-trunc", 0, "print whole IDs", no_trunc);
  flags.value("interval", 'i', "SECONDS", "how long to wait in between (default 1)", interval);
  flags.value("format", 0, "TEMPLATE", "json, or what a template makes of each: {{.Name}} {{.CPUPerc}}", format);
  flags.value("output", 'o', "json", "print numbers, as JSON: an array each time", output);
}

Result<std::chrono::seconds> interval_of(const StatsFlags& given) {
  constexpr int kSecondsMax = 86'400;
  if (given.interval.empty()) return std::chrono::seconds(1);
  int seconds = 0;
  const auto [end, error] =
      std::from_chars(given.interval.data(), given.interval.data() + given.interval.size(), seconds);
  if (error == std::errc() && end == given.interval.data() + given.interval.size() && seconds >= 1 &&
      seconds <= kSecondsMax) {
    return std::chrono::seconds(seconds);
  }
  return Error::invalid_argument(str("--interval ", given.interval, " must be from 1 to ", kSecondsMax));
}

int stream_stats(Call& call, const StatsFlags& given, std::chrono::seconds interval,
                 const std::vector<std::string>& names) {
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error(), kExitRunFailure);
  driver::Driver& driver = (*session)->driver;
  const auto ids = ids_of(driver, names);
  if (!ids) return fail(call.io, ids.error(), kExitRunFailure);
  Samplers samplers;
  const bool clears = !given.no_stream && !given.no_reset && given.output.empty() && ::isatty(STDOUT_FILENO) == 1;
  for (bool first = true;; first = false) {
    const auto running = running_now(driver, *ids);
    if (!running) return fail(call.io, running.error(), kExitRunFailure);
    if (!names.empty() && running->empty()) return kExitOk;  // those that were named have ended
    samplers.keep(*running);
    std::vector<Use> uses;
    for (const Container& container : *running) {
      auto use = samplers.look(container);
      if (!use) return fail(call.io, use.error(), kExitRunFailure);
      if (*use) uses.push_back(**std::move(use));
    }
    if (!first) {
      if (clears) print_own(call.io, "\x1b[H\x1b[2J");
      if (auto printed = print_uses(call, given, uses); !printed) return fail(call.io, printed.error(), kExitMisuse);
      call.io.out << std::flush;
      if (given.no_stream || !call.io.out) return kExitOk;
    }
    [[maybe_unused]] const auto slept = Context::background().sleep(first ? kFirstInterval : interval);
  }
}

// None: all.
Result<std::vector<std::string>> ids_of(driver::Driver& driver, const std::vector<std::string>& names) {
  std::vector<std::string> ids;
  if (names.empty()) return ids;
  TRY(const auto all, list_containers(driver));
  for (const std::string& name : names) {
    TRY(const Container container, find_container(all, name));
    if (container.task.state != driver::TaskState::kRunning) {
      return Error::failed_precondition(str(name, " is not running"));
    }
    ids.push_back(container_id_of(container.task));
  }
  return ids;
}

Result<std::vector<Container>> running_now(driver::Driver& driver, const std::vector<std::string>& ids) {
  TRY(auto all, list_containers(driver));
  std::erase_if(all, [&](const Container& container) {
    const bool wanted = ids.empty() || std::find(ids.begin(), ids.end(), container_id_of(container.task)) != ids.end();
    return !wanted || container.task.state != driver::TaskState::kRunning;
  });
  return all;
}

Result<std::optional<Use>> Samplers::look(const Container& container) {
  const std::string id = container_id_of(container.task);
  const driver::CgroupLocation location{.mode = driver::detect_cgroup_mode(),
                                        .path = attribute(container.task, "cgroup")};
  const auto sampler = samplers_.try_emplace(id, location, 0.0).first;
  const auto stats = sampler->second.sample();
  const auto figures = driver::read_figures(location);
  for (const Error* error : {stats ? nullptr : &stats.error(), figures ? nullptr : &figures.error()}) {
    if (error == nullptr) continue;
    if (error->code == base::Code::kNotFound || error->sys_errno == ENODEV) return std::optional<Use>();
    return Error(*error).wrap(name_of(container));
  }
  Use use{container, *stats, *figures, host_memory_bytes(), interfaces_of(attribute(container.task, "pid"))};
  if (figures->memory_limit_bytes > 0)
    use.memory_limit_bytes = std::min(use.memory_limit_bytes, figures->memory_limit_bytes);
  return std::optional<Use>(std::move(use));
}

void Samplers::keep(const std::vector<Container>& running) {
  std::erase_if(samplers_, [&](const auto& entry) {
    return std::none_of(running.begin(), running.end(),
                        [&](const Container& container) { return container_id_of(container.task) == entry.first; });
  });
}

base::Status print_uses(Call& call, const StatsFlags& given, const std::vector<Use>& uses) {
  if (given.output == "json") {
    Json all = Json::array();
    for (const Use& use : uses) all.push_back(stats_numbers(use));
    given.no_stream ? print_json(call.io, all) : print_json_line(call.io, all);
    return {};
  }
  std::vector<Json> rows;
  for (const Use& use : uses) {
    rows.push_back(given.format == "json" ? podman_stats(use) : stats_row(use, given.no_trunc));
  }
  return print_formatted(call.io, given.format.empty() ? kStatsFormat : given.format, rows, stats_heads());
}

Json stats_row(const Use& use, bool no_trunc) {
  const std::string id = long_id(container_id_of(use.container.task));
  const driver::CgroupFigures& figures = use.figures;
  const std::uint64_t memory = use.stats.memory.usage;
  const auto& net = use.interfaces;
  return {{"ID", no_trunc ? id : id.substr(0, kStatsIdBytes)},
          {"ContainerID", id},
          {"Container", id.substr(0, kStatsIdBytes)},
          {"Name", name_of(use.container)},
          {"CPUPerc", show_percent(use.stats.cpu.percent)},
          {"MemUsage", show_pair(memory, use.memory_limit_bytes)},
          {"MemUsageBytes", memory},
          {"MemLimit", use.memory_limit_bytes},
          {"MemPerc", show_percent(memory_percent(use))},
          {"NetIO", net ? show_pair(net->received, net->sent) : "-- / --"},
          {"NetInput", net ? net->received : 0},
          {"NetOutput", net ? net->sent : 0},
          {"BlockIO", show_pair(figures.block_read_bytes, figures.block_written_bytes)},
          {"BlockInput", figures.block_read_bytes},
          {"BlockOutput", figures.block_written_bytes},
          {"PIDS", figures.processes},
          {"PIDs", figures.processes}};
}

Json stats_heads() {
  return {{"ID", "ID"},
          {"ContainerID", "CONTAINER ID"},
          {"Container", "CONTAINER"},
          {"Name", "NAME"},
          {"CPUPerc", "CPU %"},
          {"MemUsage", "MEM USAGE / LIMIT"},
          {"MemUsageBytes", "MEM USAGE"},
          {"MemLimit", "MEM LIMIT"},
          {"MemPerc", "MEM %"},
          {"NetIO", "NET IO"},
          {"NetInput", "NET INPUT"},
          {"NetOutput", "NET OUTPUT"},
          {"BlockIO", "BLOCK IO"},
          {"BlockInput", "BLOCK INPUT"},
          {"BlockOutput", "BLOCK OUTPUT"},
          {"PIDS", "PIDS"},
          {"PIDs", "PIDS"}};
}

Json stats_numbers(const Use& use) {
  const auto& net = use.interfaces;
  return {{"id", long_id(container_id_of(use.container.task))},
          {"name", name_of(use.container)},
          {"cpu_percent", use.stats.cpu.percent},
          {"memory_bytes", use.stats.memory.usage},
          {"memory_limit_bytes", use.memory_limit_bytes},
          {"net_received_bytes", net ? Json(net->received) : Json()},
          {"net_sent_bytes", net ? Json(net->sent) : Json()},
          {"block_read_bytes", use.figures.block_read_bytes},
          {"block_written_bytes", use.figures.block_written_bytes},
          {"processes", use.figures.processes}};
}

// What podman prints as JSON: the texts of its table.
Json podman_stats(const Use& use) {
  const Json row = stats_row(use, false);
  return {{"id", row["ID"]},
          {"name", row["Name"]},
          {"cpu_percent", row["CPUPerc"]},
          {"mem_usage", row["MemUsage"]},
          {"mem_percent", row["MemPerc"]},
          {"net_io", row["NetIO"]},
          {"block_io", row["BlockIO"]},
          {"pids", str(use.figures.processes)}};
}

// Of the task's own namespace; nothing where that is the host's.
std::optional<driver::InterfaceBytes> interfaces_of(const std::string& pid) {
  struct stat its {};
  struct stat ours {};
  if (::stat(str("/proc/", pid, "/ns/net").c_str(), &its) != 0 || ::stat("/proc/self/ns/net", &ours) != 0 ||
      its.st_ino == ours.st_ino) {
    return std::nullopt;
  }
  const auto text = base::read_file(str("/proc/", pid, "/net/dev"), kNetDevBytesMax);
  if (!text) return std::nullopt;
  return driver::parse_interfaces(*text);
}

std::uint64_t host_memory_bytes() {
  struct sysinfo info {};
  return ::sysinfo(&info) == 0 ? static_cast<std::uint64_t>(info.totalram) * info.mem_unit : 0;
}

double memory_percent(const Use& use) {
  if (use.memory_limit_bytes == 0) return 0;
  return static_cast<double>(use.stats.memory.usage) / static_cast<double>(use.memory_limit_bytes) * 100;
}

std::string show_percent(double percent) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << percent << '%';
  return out.str();
}

std::string show_pair(std::uint64_t first, std::uint64_t second) {
  return str(show_size(first), " / ", show_size(second));
}

}  // namespace
}  // namespace cli
