#include "driver/host/stats.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/dir.h"
#include "base/file.h"
#include "tests/temp_dir.h"

using driver::CgroupMode;
using namespace std::chrono_literals;

namespace {

const std::string kRoots = TEST_DATA_DIR "/cgroup";

driver::CgroupSample at(std::chrono::milliseconds time, std::uint64_t cpu_ns, std::uint64_t user_ns,
                        std::uint64_t system_ns) {
  driver::CgroupSample sample;
  sample.at = base::Clock::time_point(time);
  sample.cpu_ns = cpu_ns;
  sample.user_ns = user_ns;
  sample.system_ns = system_ns;
  return sample;
}

}  // namespace

TEST_CASE("the mode is what the agent takes it for") {
  CHECK(driver::parse_cgroup_mode("31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
                                  "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n") == CgroupMode::kV1);
  CHECK(driver::parse_cgroup_mode("23 1 0:5 / / rw - ext4 /dev/vda rw\n"
                                  "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n") ==
        CgroupMode::kV2);
  CHECK(driver::parse_cgroup_mode("31 23 0:28 / /sys/fs/cgroup rw - ext4 /dev/sda rw") == CgroupMode::kOff);
  CHECK(driver::parse_cgroup_mode("31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw\n") == CgroupMode::kOff);
  CHECK(driver::parse_cgroup_mode("") == CgroupMode::kOff);
}

TEST_CASE("500 tasks are measured with few descriptors") {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const auto descriptors = [] { return base::list_dir("/proc/self/fd")->size(); };
  const std::size_t open = descriptors();
  const rlimit few{open + 100, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  std::vector<driver::CgroupReader> readers;
  for (int i = 0; i < 500; ++i) {
    readers.emplace_back(
        driver::CgroupLocation{.mode = CgroupMode::kV1, .path = "/nomad/a.web", .root = kRoots + "/v1"});
  }
  for (int round = 0; round < 2; ++round) {
    for (driver::CgroupReader& reader : readers) {
      const auto sample = reader.read();
      REQUIRE_MESSAGE(sample.has_value(), sample.error().message);
      CHECK(sample->cpu_ns == 561046408);
    }
    CHECK(descriptors() <= open + few.rlim_cur / 4);
    CHECK(descriptors() > open);  // some are kept
  }
  readers.clear();
  CHECK(descriptors() == open);
  readers.emplace_back(driver::CgroupLocation{.mode = CgroupMode::kV1, .path = "/nomad/a.web", .root = kRoots + "/v1"});
  CHECK(readers.front().read());
  CHECK(descriptors() > open);  // what was kept was given back
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("a cgroup v1 tree, recorded") {
  driver::CgroupReader reader({.mode = CgroupMode::kV1, .path = "/nomad/a.web", .root = kRoots + "/v1"});
  const auto sample = reader.read();
  REQUIRE_MESSAGE(sample.has_value(), sample.error().message);
  CHECK(sample->cpu_ns == 561046408);
  const auto tick_ns = static_cast<std::uint64_t>(1'000'000'000 / ::sysconf(_SC_CLK_TCK));
  CHECK(sample->user_ns == 41 * tick_ns);
  CHECK(sample->system_ns == 14 * tick_ns);
  CHECK(sample->throttled_periods == 7);
  CHECK(sample->throttled_ns == 123456789);
  CHECK(sample->memory.rss == 38514688);
  CHECK(sample->memory.cache == 31485952);
  CHECK(sample->memory.swap == 4096);
  CHECK(sample->memory.usage == 71217152);
  CHECK(sample->memory.max_usage == 71217152);
  CHECK(sample->memory.kernel_usage == 1085440);
  CHECK(sample->memory.kernel_max_usage == 1376256);
  CHECK(sample->memory.has_max_usage);
  CHECK(sample->memory.has_kernel_usage);
  CHECK(
      driver::read_oom_kills({.mode = CgroupMode::kV1, .path = "/nomad/a.web", .root = kRoots + "/v1"}).value_or(0u) ==
      2);
}

TEST_CASE("a cgroup v2 tree: microseconds become nanoseconds") {
  const driver::CgroupLocation location{
      .mode = CgroupMode::kV2, .path = "/nomad.slice/share.slice/a.web.scope", .root = kRoots + "/v2"};
  const auto sample = driver::CgroupReader(location).read();
  REQUIRE_MESSAGE(sample.has_value(), sample.error().message);
  CHECK(sample->cpu_ns == 2'500'000'000);
  CHECK(sample->user_ns == 2'000'000'000);
  CHECK(sample->system_ns == 500'000'000);
  CHECK(sample->throttled_periods == 12);
  CHECK(sample->throttled_ns == 345'678'000);
  CHECK(sample->memory.rss == 20971520);
  CHECK(sample->memory.cache == 10485760);
  CHECK(sample->memory.swap == 8192);
  CHECK(sample->memory.usage == 32768000);
  CHECK(sample->memory.max_usage == 40960000);
  CHECK(sample->memory.has_max_usage);
  CHECK_FALSE(sample->memory.has_kernel_usage);
  CHECK(driver::read_oom_kills(location).value_or(0u) == 1);
}

TEST_CASE("what an older kernel lacks counts as zero") {
  driver::CgroupReader reader({.mode = CgroupMode::kV2, .path = "/a.web.scope", .root = kRoots + "/v2-old"});
  const auto sample = reader.read();
  REQUIRE(sample);
  CHECK(sample->cpu_ns == 2'500'000'000);
  CHECK(sample->throttled_periods == 0);
  CHECK(sample->memory.swap == 0);
  CHECK_FALSE(sample->memory.has_max_usage);
}

TEST_CASE("no cgroup, no sample") {
  for (const CgroupMode mode : {CgroupMode::kV1, CgroupMode::kV2}) {
    driver::CgroupReader reader({.mode = mode, .path = "/nobody", .root = kRoots + "/v1"});
    const auto sample = reader.read();
    REQUIRE_FALSE(sample);
    CHECK(sample.error().code == base::Code::kNotFound);
  }
  CHECK_FALSE(driver::CgroupReader({.mode = CgroupMode::kOff, .path = "/x"}).read());
  CHECK(driver::read_oom_kills({.mode = CgroupMode::kV1, .path = "/nobody", .root = kRoots + "/v1"}).error().code ==
        base::Code::kNotFound);
}

TEST_CASE("percentages of one core, and ticks") {
  const auto usage = driver::cpu_usage_between(at(1000ms, 500'000'000, 300'000'000, 100'000'000),
                                               at(3000ms, 4'500'000'000, 3'300'000'000, 1'100'000'000), 2600);
  CHECK(std::fabs(usage.percent - 200) < 0.001);
  CHECK(std::fabs(usage.user_percent - 150) < 0.001);
  CHECK(std::fabs(usage.system_percent - 50) < 0.001);
  CHECK(std::fabs(usage.total_ticks - 5200) < 0.01);
  CHECK(driver::cpu_usage_between(at(0ms, 5, 5, 5), at(0ms, 9, 9, 9), 1).percent == 0);    // no time passed
  CHECK(driver::cpu_usage_between(at(0ms, 9, 9, 9), at(100ms, 5, 5, 5), 1).percent == 0);  // a new cgroup of that name
}

TEST_CASE("the sampler: nothing first, then what changed; throttling is a counter") {
  const tests::TempDir dir;
  const std::string tree = dir / "a";
  std::filesystem::create_directory(tree);
  const auto write = [&](std::uint64_t usec) {
    std::ofstream(tree + "/cpu.stat") << "usage_usec " << usec << "\nuser_usec 0\nsystem_usec 0\nnr_throttled 3\n";
  };
  write(1'000'000);
  driver::StatsSampler sampler({.mode = CgroupMode::kV2, .path = "/a", .root = dir.path().string()}, 1000);
  const auto first = sampler.sample();
  REQUIRE(first);
  CHECK(first->cpu.percent == 0);
  CHECK(first->cpu.throttled_periods == 3);
  write(3'600'000'000);
  const auto second = sampler.sample();
  REQUIRE(second);
  CHECK(second->cpu.percent > 100);
  CHECK(std::fabs(second->cpu.total_ticks - second->cpu.percent * 10) < 0.001 * second->cpu.percent);
}

TEST_CASE("MHz of a core") {
  CHECK(driver::parse_core_mhz("processor : 0\ncpu MHz\t\t: 2000.5\nflags : x\ncpu MHz\t\t: 3000.5\n") == 2500.5);
  CHECK(driver::parse_core_mhz("BogoMIPS : 100\n") == 0);
  CHECK(driver::parse_core_mhz("cpu MHz : \ncpu MHz : 100\n") == 100);
  CHECK(driver::parse_core_mhz("cpu MHz") == 0);
}

TEST_CASE("what a person sees beside a sample") {
  const auto v1 = driver::read_figures({.mode = CgroupMode::kV1, .path = "/nomad/a.web", .root = kRoots + "/v1"});
  REQUIRE(v1.has_value());
  CHECK(v1->memory_limit_bytes == 67108864);
  CHECK(v1->processes == 5);
  CHECK(v1->block_read_bytes == 4097);
  CHECK(v1->block_written_bytes == 8194);
  const auto v2 = driver::read_figures(
      {.mode = CgroupMode::kV2, .path = "/nomad.slice/share.slice/a.web.scope", .root = kRoots + "/v2"});
  REQUIRE(v2.has_value());
  CHECK(v2->memory_limit_bytes == 0);
  CHECK(v2->processes == 3);
  CHECK(v2->block_read_bytes == 4097);
  CHECK(v2->block_written_bytes == 8194);
  const auto none = driver::read_figures({.mode = CgroupMode::kV2, .path = "/none", .root = kRoots + "/v2"});
  REQUIRE(none.has_value());
  CHECK(none->memory_limit_bytes == 0);
}

TEST_CASE("what has passed through interfaces") {
  const auto sum = driver::parse_interfaces(
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n"
      "    lo:     900       1    0    0    0     0          0         0      900       1    0    0    0     0\n"
      "  eth0:    1000       7    0    0    0     0          0         0       70       1    0    0    0     0\n"
      "eth1lo:20          1    0    0    0     0          0         0        5       1    0    0    0     0\n");
  CHECK(sum.received == 1020);
  CHECK(sum.sent == 75);
  CHECK(driver::parse_interfaces("").received == 0);
}
