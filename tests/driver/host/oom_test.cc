#include "driver/host/oom.h"

#include <doctest/doctest.h>

using driver::CgroupMode;

namespace {
const std::string kTrees = TEST_DATA_DIR "/cgroup";
const char kLine[] =
    "6,4242,15009151678,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a.web,mems_allowed=0,"
    "oom_memcg=/nomad/a.web,task_memcg=/nomad/a.web,task=java,pid=14699,uid=0\n";
}  // namespace

TEST_CASE("the victim's line in the kernel's log") {
  const auto victim = driver::parse_oom_line(kLine, "/nomad/a.web");
  REQUIRE(victim);
  CHECK(victim->pid == 14699);
  CHECK(victim->name == "java");
  CHECK_FALSE(driver::parse_oom_line(kLine, "/nomad/a.we"));  // another task's name may begin alike
  CHECK_FALSE(driver::parse_oom_line(kLine, "/nomad/a.web2"));
  CHECK_FALSE(driver::parse_oom_line("6,1,2,-;tail invoked oom-killer: gfp_mask=0xcc0", "/nomad/a.web"));
  CHECK_FALSE(driver::parse_oom_line("oom-kill:task_memcg=/nomad/a.web", "/nomad/a.web"));
  CHECK_FALSE(driver::parse_oom_line("oom-kill:c=1,task_memcg=/nomad/a.web,task=x,pid=,uid=0", "/nomad/a.web"));
  CHECK_FALSE(driver::parse_oom_line("", ""));

  const auto below =
      driver::parse_oom_line("oom-kill:x=1,task_memcg=/nomad/a.web/inner,task=b,pid=1,uid=0", "/nomad/a.web");
  REQUIRE(below);
  CHECK(below->name == "b");
  // A process may call itself anything.
  const auto liar = driver::parse_oom_line("oom-kill:x=1,task_memcg=/n/a,task=x,pid=1,\x1b[m,pid=77,uid=0", "/n/a");
  REQUIRE(liar);
  CHECK(liar->pid == 77);
  CHECK(liar->name == "x,pid=1,?[m");
}

TEST_CASE("what an operator reads") {
  driver::OomReport report{.kills = 1, .limit_bytes = 256u << 20, .peak_bytes = 256u << 20, .victim = {}};
  CHECK(driver::oom_message(report) == "OOM killed: memory limit 256 MiB, peak 256 MiB, kills 1");
  report.victim = driver::OomVictim{17, "java"};
  report.kills = 3;
  CHECK(driver::oom_message(report) == "OOM killed: memory limit 256 MiB, peak 256 MiB, victim pid 17 (java), kills 3");
  CHECK(driver::oom_message({.kills = 2, .limit_bytes = 512u << 10, .peak_bytes = 0, .victim = {}}) ==
        "OOM killed: memory limit 512 KiB, kills 2");
  CHECK(driver::oom_message({.kills = 1, .limit_bytes = 0, .peak_bytes = 1u << 20, .victim = {}}) ==
        "OOM killed: no memory limit, the host ran out of memory, peak 1 MiB, kills 1");
}

TEST_CASE("the counters of recorded trees") {
  const auto v1 = driver::read_oom_report({.mode = CgroupMode::kV1, .path = "/nomad/a.web", .root = kTrees + "/v1"});
  REQUIRE(v1);
  CHECK(v1->kills == 2);
  CHECK(v1->limit_bytes == 64u << 20);
  CHECK(v1->peak_bytes == 71217152);
  const auto v2 = driver::read_oom_report(
      {.mode = CgroupMode::kV2, .path = "/nomad.slice/share.slice/a.web.scope", .root = kTrees + "/v2"});
  REQUIRE(v2);
  CHECK(v2->kills == 1);
  CHECK(v2->limit_bytes == 0);  // "max"
  CHECK(v2->peak_bytes == 40960000);
  CHECK(driver::read_oom_report({.mode = CgroupMode::kV2, .path = "/gone", .root = kTrees + "/v2"}).error().code ==
        base::Code::kNotFound);
}
