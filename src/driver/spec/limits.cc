#include "driver/spec/limits.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>

#include "base/json.h"
#include "driver/values/words.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::uint64_t kNofileSoft = 1024;
constexpr std::uint64_t kNofileHard = 1048576;
constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();  // RLIM_INFINITY
constexpr std::int64_t kQuotaMin = 1000;                                         // microseconds; the kernel's own bound
constexpr std::int64_t kBytesPerMiB = 1 << 20;

Result<std::optional<std::uint64_t>> parse_limit(const std::string& text, const std::string& where);
Result<Json> rlimit_json(const std::string& name, const Ulimit& limit, const HostFacts& host);
Result<std::int64_t> cpu_quota(const TaskSpec& task, const HostFacts& host);
Status check_memory(const TaskOptions& options, std::int64_t limit, const HostFacts& host);
std::int64_t memory_limit(const TaskSpec& task);
Result<std::int64_t> swap_limit(const TaskOptions& options, std::int64_t limit);
std::string show_limit(std::int64_t bytes);
std::set<unsigned> numbers_of(std::string_view list);
std::optional<unsigned> number_of(std::string_view text);

}  // namespace

const std::map<std::string, int>& rlimit_names() {
  static const std::map<std::string, int> names = {
      {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
      {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
      {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
      {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
      {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
      {"stack", RLIMIT_STACK}};
  return names;
}

Result<Ulimit> parse_ulimit(const std::string& text, const std::string& where) {
  const std::size_t colon = text.find(':');
  Ulimit limit;
  TRY(limit.soft, parse_limit(text.substr(0, colon), where));
  limit.hard = limit.soft;
  if (colon != std::string::npos) {
    TRY(limit.hard, parse_limit(text.substr(colon + 1), where));
  }
  if (limit.soft.value_or(kUnlimited) > limit.hard.value_or(kUnlimited)) {
    return Error::invalid_argument(str(where, " = ", hcl_quote(text), " has a soft limit above its hard limit"));
  }
  return limit;
}

Result<Json> rlimits_json(const TaskOptions& options, const HostFacts& host) {
  Json out = Json::array();
  if (!options.ulimit.contains("nofile")) {
    const std::uint64_t hard = std::min(kNofileHard, host.nofile_hard_max);
    TRY(Json nofile, rlimit_json("nofile", {std::min(kNofileSoft, hard), hard}, host));
    out.push_back(std::move(nofile));
  }
  for (const auto& [name, limit] : options.ulimit) {
    TRY(Json one, rlimit_json(name, limit, host));
    out.push_back(std::move(one));
  }
  return out;
}

Result<Json> cpu_json(const TaskSpec& task, const HostFacts& host, std::int64_t shares) {
  Json cpu = Json::object();
  if (shares > 0) cpu["shares"] = shares;
  if (!task.options.cpuset_cpus.empty() && !task.resources.cpuset_cpus.empty()) {
    return Error::invalid_argument(str("cpuset_cpus = ", hcl_quote(task.options.cpuset_cpus),
                                       " and cores of the resources block cannot be combined: leave cpuset_cpus out"));
  }
  const std::string& cpus = task.resources.cpuset_cpus.empty() ? task.options.cpuset_cpus : task.resources.cpuset_cpus;
  if (!cpus.empty()) cpu["cpus"] = cpus;
  if (!task.options.cpuset_mems.empty()) cpu["mems"] = task.options.cpuset_mems;
  if (task.options.cpu_hard_limit) {
    TRY(cpu["quota"], cpu_quota(task, host));
    cpu["period"] = task.options.cpu_cfs_period;
  }
  return cpu;
}

// memory_max > 0: that is the limit and memory the reservation; -1: no limit, which is said, as the cgroup may have one
// from before; 0: memory is the limit. No swap beyond the limit, unless the job says otherwise, so that a task's memory
// is what the scheduler counted.
Result<Json> memory_json(const TaskSpec& task, const HostFacts& host) {
  const TaskOptions& options = task.options;
  const std::int64_t limit = memory_limit(task);
  TRY_VOID(check_memory(options, limit, host));
  Json memory = Json::object();
  if (limit != 0) {
    memory["limit"] = limit;
    TRY(const std::int64_t swap, swap_limit(options, limit));
    if (host.swap_accounting) memory["swap"] = swap;
  }
  const bool beyond = limit != task.resources.memory_bytes;
  const auto asked = static_cast<std::int64_t>(options.memory_reservation);
  const std::int64_t reservation = asked > 0 ? asked : beyond ? task.resources.memory_bytes : 0;
  if (reservation > 0) memory["reservation"] = reservation;
  if (options.memory_swappiness) memory["swappiness"] = *options.memory_swappiness;
  return memory;
}

Result<Json> changes_json(const LimitChanges& changes, const HostFacts& host) {
  constexpr std::int64_t kPeriod = 100'000;  // microseconds
  if (changes.memory_swap_bytes && !host.swap_accounting) {
    return Error::invalid_argument("this node's kernel does not count swap (swapaccount=1): it cannot be limited");
  }
  Json memory = Json::object();
  if (changes.memory_bytes) memory["limit"] = *changes.memory_bytes;
  const auto swap = changes.memory_swap_bytes ? changes.memory_swap_bytes : changes.memory_bytes;
  if (swap && host.swap_accounting) memory["swap"] = *swap;
  if (changes.memory_reservation_bytes) memory["reservation"] = *changes.memory_reservation_bytes;
  Json cpu = Json::object();
  if (changes.cpus) {
    const auto quota = static_cast<std::int64_t>(std::llround(*changes.cpus * kPeriod));
    cpu["quota"] = quota == 0 ? -1 : std::max(kQuotaMin, quota);
    cpu["period"] = kPeriod;
  }
  if (changes.cpu_shares) cpu["shares"] = *changes.cpu_shares;
  if (changes.cpuset_cpus) cpu["cpus"] = *changes.cpuset_cpus;
  Json resources = Json::object();
  if (!memory.empty()) resources["memory"] = std::move(memory);
  if (!cpu.empty()) resources["cpu"] = std::move(cpu);
  if (changes.pids_max) resources["pids"] = {{"limit", *changes.pids_max}};
  return resources;
}

Result<std::int64_t> effective_pids_limit(std::int64_t of_task, std::int64_t of_node) {
  if (of_node == 0) return std::max<std::int64_t>(of_task, 0);
  if (of_task == 0) return of_node;
  if (of_task > 0 && of_task <= of_node) return of_task;
  return Error::permission_denied(str("pids_limit = ", of_task,
                                      " is more than this node allows (the plugin's pids_limit = ", of_node,
                                      "): ask for less, or leave it out"));
}

std::optional<unsigned> first_not_in(const std::string& wanted, const std::string& all) {
  const auto there = numbers_of(all);
  if (there.empty()) return std::nullopt;
  const auto asked = numbers_of(wanted);
  const auto missing =
      std::find_if(asked.begin(), asked.end(), [&](unsigned number) { return !there.contains(number); });
  return missing == asked.end() ? std::nullopt : std::optional(*missing);
}

namespace {

// "0-3,7"; nothing if it is no list.
std::set<unsigned> numbers_of(std::string_view list) {
  constexpr unsigned kNumberMax = 65'535;  // beyond any kernel's
  std::set<unsigned> numbers;
  list = list.substr(0, list.find('\n'));
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), item.size() + 1));
    const std::size_t dash = item.find('-');
    const auto first = number_of(item.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number_of(item.substr(dash + 1));
    if (!first || !last || *last > kNumberMax) return {};
    for (unsigned number = *first; number <= *last; ++number) numbers.insert(number);
  }
  return numbers;
}

std::optional<unsigned> number_of(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Result<std::optional<std::uint64_t>> parse_limit(const std::string& text, const std::string& where) {
  if (text == "-1" || text == "unlimited") return std::optional<std::uint64_t>();
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end && value != kUnlimited) return std::optional(value);
  return Error::invalid_argument(
      str(where, ": ", hcl_quote(text),
          " is not a valid limit: write \"soft:hard\", one number for both, or -1 for no limit"));
}

Result<Json> rlimit_json(const std::string& name, const Ulimit& limit, const HostFacts& host) {
  const auto bound = host.rlimit_max.find(name);
  const std::uint64_t most = name == "nofile"                 ? host.nofile_hard_max
                             : bound == host.rlimit_max.end() ? kUnlimited
                                                              : bound->second;
  if (limit.hard.value_or(kUnlimited) > most) {
    const std::string wanted = limit.hard ? std::to_string(*limit.hard) : "unlimited";
    return Error::invalid_argument(str("ulimit ", name, ": a hard limit of ", wanted,
                                       " is more than this node can give: use ", most,
                                       " or less, or raise the limit of the agent"));
  }
  std::string type = "RLIMIT_";
  for (const char c : name) type += static_cast<char>(c - 'a' + 'A');
  return Json{{"type", type}, {"hard", limit.hard.value_or(kUnlimited)}, {"soft", limit.soft.value_or(kUnlimited)}};
}

// The share of the node that Nomad gave, in microseconds of every period.
Result<std::int64_t> cpu_quota(const TaskSpec& task, const HostFacts& host) {
  if (task.resources.node_cpu_share <= 0) {
    return Error::failed_precondition(
        "cpu_hard_limit needs the node's CPU frequency, which the agent did not report: leave it out");
  }
  const double period = static_cast<double>(task.options.cpu_cfs_period);
  const double quota = task.resources.node_cpu_share * host.cores * period;
  return std::max(kQuotaMin, static_cast<std::int64_t>(std::llround(quota)));
}

std::int64_t memory_limit(const TaskSpec& task) {
  const std::int64_t hard = task.options.memory_hard_limit * kBytesPerMiB;
  const std::int64_t most = task.resources.memory_max_bytes;
  if (most < 0) return -1;
  return std::max({task.resources.memory_bytes, most, hard});
}

Status check_memory(const TaskOptions& options, std::int64_t limit, const HostFacts& host) {
  if (options.memory_swappiness && host.cgroup_mode == CgroupMode::kV2) {
    return Error::invalid_argument(str("memory_swappiness = ", *options.memory_swappiness,
                                       " cannot be set: this node has cgroup v2, which has no such setting; leave it "
                                       "out"));
  }
  if (limit > 0 && options.memory_reservation > static_cast<std::uint64_t>(limit)) {
    return Error::invalid_argument(str("memory_reservation = ", hcl_quote(show_size(options.memory_reservation)),
                                       " is above the task's memory limit of ", show_limit(limit),
                                       ": lower it, or raise memory in resources"));
  }
  if (!options.memory_swap.empty() && !host.swap_accounting) {
    return Error::invalid_argument(str("memory_swap = ", hcl_quote(options.memory_swap),
                                       " cannot be set: this node's kernel does not count swap (swapaccount=1)"));
  }
  return {};
}

std::string show_limit(std::int64_t bytes) {
  return show_size(static_cast<std::uint64_t>(bytes));
}

Result<std::int64_t> swap_limit(const TaskOptions& options, std::int64_t limit) {
  if (options.memory_swap.empty()) return limit;
  if (options.memory_swap == "-1") return -1;
  TRY(const std::uint64_t swap, parse_size(options.memory_swap));
  if (limit < 0 || swap >= static_cast<std::uint64_t>(limit)) return static_cast<std::int64_t>(swap);
  return Error::invalid_argument(str("memory_swap = ", hcl_quote(options.memory_swap),
                                     " is memory and swap together and must not be below the memory limit of ",
                                     show_limit(limit)));
}

}  // namespace
}  // namespace driver
