// The rows of the option table that limit a task beyond Nomad's resources block.
#include <algorithm>

#include "base/json.h"
#include "driver/options/rows.h"
#include "driver/spec/limits.h"

namespace driver {

using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

Option<TaskOptions> ulimit_row();
Status check_cpu_list(const std::string& where, const std::string& value);
Status check_memory_swap(const std::string& where, const std::string& value);

}  // namespace

OptionTable<TaskOptions> limit_rows() {
  constexpr std::int64_t kMiBMax = std::int64_t{1} << 40;
  return {
      ulimit_row(),
      number("file_limit", &TaskOptions::file_limit, 0, 1 << 30,
             {.example = "65536", .text = "Short for `ulimit = { nofile = \"…\" }`, soft and hard limit alike."}),
      boolean(
          "cpu_hard_limit", &TaskOptions::cpu_hard_limit,
          {.example = "true", .text = "Never give the task more CPU than `resources` says, even if the node is idle."}),
      number("cpu_cfs_period", &TaskOptions::cpu_cfs_period, 0, 1'000'000,
             {.example = "50000", .text = "The period of `cpu_hard_limit`, in microseconds: 1000 or more. 0: 100000."}),
      text("cpuset_cpus", &TaskOptions::cpuset_cpus,
           {.example = "\"0-3,7\"",
            .text = "The cores that the task may run on. Prefer `cores` of the resources block, which reserves them; "
                    "both together are refused.",
            .check = check_cpu_list}),
      text("cpuset_mems", &TaskOptions::cpuset_mems,
           {.example = "\"0\"", .text = "The NUMA nodes whose memory the task may use.", .check = check_cpu_list}),
      number(
          "memory_hard_limit", &TaskOptions::memory_hard_limit, 0, kMiBMax,
          {.example = "2048",
           .text = "Memory limit in MiB, above Nomad's `memory`, which is then only reserved. Prefer `memory_max` of "
                   "the resources block: the scheduler knows about it. The larger of the two counts."}),
      size("memory_reservation", &TaskOptions::memory_reservation,
           {.example = "\"128m\"",
            .text = "What the task keeps when the node's memory is short. Unset: Nomad's `memory`, if the task may use "
                    "more."}),
      text("memory_swap", &TaskOptions::memory_swap,
           {.example = "\"512m\"",
            .text = "Memory and swap together; `-1` allows all the swap there is. Unset: no swap.",
            .check = check_memory_swap}),
      number("memory_swappiness", &TaskOptions::memory_swappiness, 0, 100,
             {.example = "0",
              .text = "How eagerly the task's memory is swapped out. Only on nodes with cgroup v1: v2 has no such "
                      "setting."}),
      number("oom_score_adj", &TaskOptions::oom_score_adj, 0, 1000,
             {.example = "500",
              .text = "Makes the task more likely than others to be killed when the node runs out of memory. It cannot "
                      "be negative: no task comes before the node itself."}),
      refused<TaskOptions>("storage_opt", "list(map(string))",
                           {.example = "{\n  size = \"10G\"\n}",
                            .text = "the size of a task's writable layer cannot be limited; use ephemeral_disk and "
                                    "write to alloc/, or a volume"}),
  };
}

Status merge_limits(TaskOptions& options) {
  constexpr std::int64_t kPeriodMin = 1000;  // the kernel's
  if (options.cpu_cfs_period == 0) options.cpu_cfs_period = TaskOptions().cpu_cfs_period;
  if (options.cpu_cfs_period < kPeriodMin) {
    return base::Error::invalid_argument(
        str("cpu_cfs_period = ", options.cpu_cfs_period, " is too small: it must be ", kPeriodMin, " or more"));
  }
  if (options.file_limit.value_or(0) == 0) return {};
  const auto value = static_cast<std::uint64_t>(*options.file_limit);
  const auto [it, added] = options.ulimit.emplace("nofile", Ulimit{value, value});
  if (added || it->second == Ulimit{value, value}) return {};
  return base::Error::invalid_argument(
      str("file_limit = ", value, " and ulimit.nofile name the same limit with different values: keep one"));
}

namespace {

Option<TaskOptions> ulimit_row() {
  const RowText row = {.example = "{\n  nofile  = \"4096:65536\"\n  memlock = \"-1\"\n}",
                       .text =
                           "Limits of setrlimit(2) as `soft:hard`, or one number for both; `-1` or `unlimited` is "
                           "no limit. Open files are 1024:1048576 unless said otherwise, or what the node can give.",
                       .check = check_name};
  return {make_doc("ulimit", "list(map(string))", "map(string)", "", row),
          [=](TaskOptions& out, const Json& value, const std::string& where) -> Status {
            TRY(const auto texts, decode_map(value, where, row));
            for (const auto& [name, text] : texts) {
              if (!rlimit_names().contains(name)) {
                std::string known;
                for (const auto& [each, number] : rlimit_names()) known += str(known.empty() ? "" : ", ", each);
                return refuse(where, name, str("is not a valid limit: use one of ", known));
              }
              TRY(out.ulimit[name], parse_ulimit(text, str(where, ".", name)));
            }
            return {};
          }};
}

// cpuset(7) "List format": "0-3,7".
Status check_cpu_list(const std::string& where, const std::string& value) {
  constexpr std::size_t kListBytesMax = 1024;
  const auto bad = [&] { return refuse(where, value, "is not a valid list of numbers: write it like \"0-3,7\""); };
  if (value.size() > kListBytesMax) return bad();
  for (std::size_t from = 0; !value.empty() && from <= value.size();) {
    const std::size_t end = std::min(value.find(',', from), value.size());
    const std::string item = value.substr(from, end - from);
    const std::size_t dash = item.find('-');
    const auto is_number = [](const std::string& text) {
      return !text.empty() && text.size() <= 4 && text.find_first_not_of("0123456789") == std::string::npos;
    };
    if (!is_number(item.substr(0, dash))) return bad();
    if (dash != std::string::npos) {
      if (!is_number(item.substr(dash + 1)) || std::stoi(item.substr(dash + 1)) < std::stoi(item.substr(0, dash))) {
        return bad();
      }
    }
    from = end + 1;
  }
  return {};
}

Status check_memory_swap(const std::string& where, const std::string& value) {
  if (value.empty() || value == "-1") return {};
  auto parsed = parse_size(value);
  if (!parsed) return std::move(parsed).error().wrap(where);
  return {};
}

}  // namespace
}  // namespace driver
