// clang-format off
#include "cli/processes.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

constexpr const char* kStatus =
    "Name:\tsh\nUmask:\t0022\nUid:\t1000\t100\t1000\t1000\nGid:\t0\t5\t0\t0\nNSpid:\t4711\t7\t1\nNSpgid:\t4700\t6\t1\n";

std::string stat_line(const std::string& name, const std::string& terminal = "34817") {
  const long ticks = ::sysconf(_SC_CLK_TCK);
  return base::str("4711 (", name, ") S 4700 4700 4700 ", terminal, " -1 4194560 1 2 3 4 ", ticks, " ", ticks / 2,
                   " 0 0 20 5 1 0 ", 100 * ticks, " 2048 3 18446744073709551615 0");
}

}  // namespace

TEST_CASE("a process, by the numbers of its namespace") {
  for (const std::string name : {"sh", "a b", ") S 1 (", "()"}) {
    const auto found = cli::parse_process(stat_line(name), kStatus, std::string_view("sh\0-c\0a b\0", 10), 1);
    REQUIRE(found);
    CHECK(found->name == name);
    CHECK(found->pid == 4711);
    CHECK(found->parent == 4700);
    CHECK(found->inside == 7);
    CHECK(found->group_inside == 6);
    CHECK(found->uid == 100);
    CHECK(found->gid == 5);
    CHECK(found->state == 'S');
    CHECK(found->nice == 5);
    CHECK(found->virtual_bytes == 2048);
    CHECK(found->words == std::vector<std::string>{"sh", "-c", "a b"});
  }
  CHECK(cli::pid_namespace_depth(kStatus) == 2);
  CHECK(cli::pid_namespace_depth("") == 0);
  CHECK_FALSE(cli::parse_process(stat_line("sh"), kStatus, "", 3));  // it is in no namespace so deep
  CHECK_FALSE(cli::parse_process("4711 (sh) S 1 2", kStatus, "", 0));
  CHECK_FALSE(cli::parse_process("", "", "", 0));
}

TEST_CASE("a table of processes") {
  auto shell = *cli::parse_process(stat_line("sh"), kStatus, std::string_view("sh\0-i\0", 6), 2);
  auto kernel = *cli::parse_process(stat_line("child", "0"), kStatus, "", 2);
  kernel.pid = 5000;
  kernel.inside = 9;
  kernel.parent = 4711;
  const driver::AccountNames names{{{100, "web"}}, {{6, "no"}}};
  auto rows = cli::process_table({shell, kernel}, {}, names, 103s);
  REQUIRE(rows.has_value());
  using Row = std::vector<std::string>;
  CHECK((*rows)[0] == Row{"USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"});
  CHECK((*rows)[1] == Row{"web", "1", "0", "50.000", "3s", "pts/1", "1s", "sh -i"});
  CHECK((*rows)[2] == Row{"web", "9", "1", "50.000", "3s", "?", "1s", "[child]"});
  rows = cli::process_table({shell}, {"hpid", "group", "comm", "vsz"}, names, 103s);
  REQUIRE(rows.has_value());
  CHECK((*rows)[1] == Row{"4711", "5", "sh", "2"});
  const auto wrong = cli::process_table({}, {"pod"}, names, 0s);
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().message.find("there is no column \"pod\": use user, ") != std::string::npos);
}

TEST_CASE("durations as Go writes them") {
  CHECK(cli::show_go_duration(0s) == "0s");
  CHECK(cli::show_go_duration(-5s) == "0s");
  CHECK(cli::show_go_duration(1500ms) == "1.5s");
  CHECK(cli::show_go_duration(50ms) == "0.05s");
  CHECK(cli::show_go_duration(60s) == "1m0s");
  CHECK(cli::show_go_duration(3600s + 120s + 3250ms) == "1h2m3.25s");
}
