#include "driver/spec/limits.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "driver/values/words.h"

using base::Json;
using driver::HostFacts;
using driver::TaskSpec;

namespace {

constexpr std::int64_t kMebibyte = 1 << 20;
constexpr std::uint64_t kUnlimited = ~0ull;

Json limit(const char* type, std::uint64_t soft, std::uint64_t hard) {
  return {{"type", type}, {"soft", soft}, {"hard", hard}};
}

Json value_of(const base::Result<Json>& result) {
  REQUIRE_MESSAGE(result.has_value(), result.error().message);
  return *result;
}

std::string limits_error(const base::Result<Json>& result) {
  REQUIRE_FALSE(result);
  return result.error().message;
}

}  // namespace

TEST_CASE("soft:hard, one number, no limit") {
  using driver::Ulimit;
  const auto parse = [](const char* text) { return driver::parse_ulimit(text, "ulimit.nofile"); };
  CHECK(parse("1024").value() == Ulimit{1024, 1024});
  CHECK(parse("1024:4096").value() == Ulimit{1024, 4096});
  CHECK(parse("0:0").value() == Ulimit{0, 0});
  CHECK(parse("1024:-1").value() == Ulimit{1024, std::nullopt});
  CHECK(parse("unlimited").value() == Ulimit{std::nullopt, std::nullopt});
  for (const char* bad : {"", ":", "1:", ":1", "1:2:3", "4096:1024", "-1:5", "-2", "1k", " 1", "0x10",
                          "18446744073709551615", "99999999999999999999"}) {
    const auto parsed = parse(bad);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == base::Code::kInvalidArgument);
    CHECK(parsed.error().message.find("ulimit.nofile") != std::string::npos);
  }
}

TEST_CASE("open files are 1024:1048576 unless said otherwise, and never more than the node can give") {
  driver::TaskOptions options;
  HostFacts host;
  CHECK(value_of(driver::rlimits_json(options, host)) == Json::array({limit("RLIMIT_NOFILE", 1024, 1048576)}));
  host.nofile_hard_max = 20000;
  CHECK(value_of(driver::rlimits_json(options, host)) == Json::array({limit("RLIMIT_NOFILE", 1024, 20000)}));
  options.ulimit["nofile"] = {4096, 8192};
  options.ulimit["memlock"] = {};
  CHECK(value_of(driver::rlimits_json(options, host)) ==
        Json::array({limit("RLIMIT_MEMLOCK", kUnlimited, kUnlimited), limit("RLIMIT_NOFILE", 4096, 8192)}));
  options.ulimit["nofile"] = {4096, 20001};
  CHECK(limits_error(driver::rlimits_json(options, host)).find("20000") != std::string::npos);
  options.ulimit.erase("nofile");
  host.rlimit_max["memlock"] = 65536;
  CHECK(limits_error(driver::rlimits_json(options, host)).find("memlock") != std::string::npos);
}

TEST_CASE("cpu: shares, cores, and a hard limit as a share of the node") {
  TaskSpec task;
  HostFacts host;
  host.cores = 8;
  CHECK(value_of(driver::cpu_json(task, host, 0)).empty());
  CHECK(value_of(driver::cpu_json(task, host, 500)) == Json{{"shares", 500}});
  task.options.cpuset_cpus = "0-1";
  task.options.cpuset_mems = "0";
  CHECK(value_of(driver::cpu_json(task, host, 0)) == Json{{"cpus", "0-1"}, {"mems", "0"}});
  task.resources.cpuset_cpus = "3";
  CHECK(limits_error(driver::cpu_json(task, host, 0)).find("cores") != std::string::npos);
  task.options.cpuset_cpus = "";
  CHECK(value_of(driver::cpu_json(task, host, 0)) == Json{{"cpus", "3"}, {"mems", "0"}});

  task = {};
  task.options.cpu_hard_limit = true;
  CHECK(limits_error(driver::cpu_json(task, host, 0)).find("cpu_hard_limit") != std::string::npos);
  task.resources.node_cpu_share = 0.0625;  // half a core of eight
  CHECK(value_of(driver::cpu_json(task, host, 0)) == Json{{"quota", 50'000}, {"period", 100'000}});
  task.options.cpu_cfs_period = 1000;
  CHECK(value_of(driver::cpu_json(task, host, 0)) == Json{{"quota", 1000}, {"period", 1000}});  // the kernel's least
}

TEST_CASE("memory: limit, reservation, swap") {
  TaskSpec task;
  HostFacts host;
  const auto memory = [&] { return value_of(driver::memory_json(task, host)); };
  CHECK(memory().empty());
  task.resources.memory_bytes = 256 * kMebibyte;
  CHECK(memory() == Json{{"limit", 256 * kMebibyte}, {"swap", 256 * kMebibyte}});
  task.resources.memory_max_bytes = 512 * kMebibyte;
  CHECK(memory() == Json{{"limit", 512 * kMebibyte}, {"swap", 512 * kMebibyte}, {"reservation", 256 * kMebibyte}});
  task.options.memory_hard_limit = 300;
  CHECK(memory()["limit"] == 512 * kMebibyte);
  task.options.memory_hard_limit = 1024;
  CHECK(memory() == Json{{"limit", 1024 * kMebibyte}, {"swap", 1024 * kMebibyte}, {"reservation", 256 * kMebibyte}});
  task.options.memory_reservation = 128 * kMebibyte;
  CHECK(memory()["reservation"] == 128 * kMebibyte);
  task.options.memory_swap = "2g";
  CHECK(memory()["swap"] == 2048 * kMebibyte);
  task.options.memory_swap = "-1";
  CHECK(memory()["swap"] == -1);
  task.options.memory_swappiness = 0;
  CHECK(memory()["swappiness"] == 0);
  task.options = {};
  task.resources.memory_max_bytes = -1;
  CHECK(memory() == Json{{"limit", -1}, {"swap", -1}, {"reservation", 256 * kMebibyte}});
  host.swap_accounting = false;
  CHECK(memory() == Json{{"limit", -1}, {"reservation", 256 * kMebibyte}});
}

TEST_CASE("memory: what contradicts itself or the node") {
  TaskSpec task;
  HostFacts host;
  task.resources.memory_bytes = 256 * kMebibyte;
  task.options.memory_swap = "128m";
  CHECK(limits_error(driver::memory_json(task, host)).find("memory_swap") != std::string::npos);
  task.options.memory_swap = "512m";
  host.swap_accounting = false;
  CHECK(limits_error(driver::memory_json(task, host)).find("swapaccount") != std::string::npos);
  host.swap_accounting = true;
  task.options = {};
  task.options.memory_reservation = 300 * kMebibyte;
  CHECK(limits_error(driver::memory_json(task, host)).find("memory_reservation") != std::string::npos);
  task.options = {};
  task.options.memory_swappiness = 10;
  host.cgroup_mode = driver::CgroupMode::kV2;
  CHECK(limits_error(driver::memory_json(task, host)).find("memory_swappiness") != std::string::npos);
}

TEST_CASE("numbers of a list that another list has not") {
  CHECK_EQ(driver::first_not_in("0-1", "0-3\n"), std::nullopt);
  CHECK_EQ(driver::first_not_in("99", "0-1\n"), 99);
  CHECK_EQ(driver::first_not_in("0,2-3", "0-1,3\n"), 2);
  CHECK_EQ(driver::first_not_in("5", ""), std::nullopt);       // not known
  CHECK_EQ(driver::first_not_in("5", "all\n"), std::nullopt);  // not understood
}

TEST_CASE("sizes are shown as people write them") {
  CHECK_EQ(driver::show_size(0), "0 bytes");
  CHECK_EQ(driver::show_size(100), "100 bytes");
  CHECK_EQ(driver::show_size(134217728), "128 MiB");
  CHECK_EQ(driver::show_size(20971520), "20 MiB");
  CHECK_EQ(driver::show_size((3u << 30) / 2), "1.5 GiB");
  CHECK_EQ(driver::show_size(std::uint64_t{1} << 42), "4 TiB");
  CHECK_EQ(driver::show_size(1025), "1025 bytes");
}

TEST_CASE("limits that change") {
  HostFacts host;
  host.swap_accounting = true;
  const auto json = [&](const driver::LimitChanges& changes) { return value_of(driver::changes_json(changes, host)); };
  CHECK(json({}) == Json::object());
  CHECK(json({.memory_bytes = kMebibyte}) == Json{{"memory", {{"limit", kMebibyte}, {"swap", kMebibyte}}}});
  CHECK(json({.memory_bytes = -1}) == Json{{"memory", {{"limit", -1}, {"swap", -1}}}});
  CHECK(json({.memory_bytes = kMebibyte, .memory_swap_bytes = -1}) ==
        Json{{"memory", {{"limit", kMebibyte}, {"swap", -1}}}});
  CHECK(json({.cpus = 0.5}) == Json{{"cpu", {{"quota", 50'000}, {"period", 100'000}}}});
  CHECK(json({.cpus = 0.001}) == Json{{"cpu", {{"quota", 1000}, {"period", 100'000}}}});
  CHECK(json({.cpus = 0}) == Json{{"cpu", {{"quota", -1}, {"period", 100'000}}}});
  CHECK(json({.cpu_shares = 512, .cpuset_cpus = "0", .pids_max = -1}) ==
        Json{{"cpu", {{"shares", 512}, {"cpus", "0"}}}, {"pids", {{"limit", -1}}}});
  host.swap_accounting = false;
  CHECK(json({.memory_bytes = kMebibyte}) == Json{{"memory", {{"limit", kMebibyte}}}});
  CHECK(limits_error(driver::changes_json({.memory_swap_bytes = 1}, host)).find("swapaccount") != std::string::npos);
}
