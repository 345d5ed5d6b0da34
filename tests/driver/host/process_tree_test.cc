#include "driver/host/process_tree.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

using driver::Kin;

namespace {

std::string stat(int pid, const std::string& name, char state, int parent, int session, std::uint64_t start) {
  return base::str(pid, " (", name, ") ", state, " ", parent, " ", session, " ", session,
                   " 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 ", start, " 1234 56 18446744073709551615\n");
}

Kin kin(int pid, int parent, int session, bool dead = false) {
  return {{pid, static_cast<std::uint64_t>(pid) * 10}, parent, session, dead};
}

std::vector<int> pids(const std::vector<base::ProcessId>& ids) {
  std::vector<int> out;
  for (const auto& id : ids) out.push_back(id.pid);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST_CASE("a stat line, whatever the command is called") {
  for (const char* name : {"sh", "a b", ") S 1 1 1 (", "((", "))", ""}) {
    CAPTURE(name);
    const auto found = driver::parse_kin(stat(42, name, 'S', 7, 40, 991));
    REQUIRE(found);
    CHECK(found->id.pid == 42);
    CHECK(found->id.start_ticks == 991);
    CHECK(found->parent == 7);
    CHECK(found->session == 40);
    CHECK_FALSE(found->dead);
  }
  CHECK(driver::parse_kin(stat(42, "x", 'Z', 7, 40, 991))->dead);
  for (const char* bad :
       {"", "42", "42 (sh", "42 (sh)", "42 (sh) ", "42 (sh) S", "42 (sh) S 1 2 3", "x (sh) S 1 1 1"}) {
    CAPTURE(bad);
    CHECK_FALSE(driver::parse_kin(bad));
  }
}

TEST_CASE("this process is in /proc as it knows itself") {
  const auto own = base::identify(::getpid());
  REQUIRE(own);
  const Kin me{*own, ::getppid(), ::getsid(0), false};
  CHECK(pids(driver::family_of(*own, {me})) == std::vector<int>{::getpid()});
}

TEST_CASE("a family: the session and all who descend from it, not the neighbours") {
  const std::vector<Kin> all = {
      kin(1, 0, 1),          kin(90, 80, 80),  // a grandchild's child, told before its parents
      kin(50, 1, 50),                          // the task's own process
      kin(51, 50, 50),                         // its child
      kin(60, 1, 60),                          // the command
      kin(61, 60, 60),                         // a child
      kin(70, 60, 70),                         // one with a session of its own
      kin(80, 70, 80),                         // its child
      kin(62, 1, 60),                          // of the session, its parent is gone
      kin(63, 60, 60, true),                   // dead
      kin(95, 1, 95),                          // a daemon that let go of everything
  };
  CHECK(pids(driver::family_of({60, 600}, all)) == std::vector<int>{60, 61, 62, 70, 80, 90});
  CHECK(pids(driver::family_of({60, 0}, all)) == std::vector<int>{60, 61, 62, 70, 80, 90});
  // The pid is another process's by now.
  CHECK(driver::family_of({60, 601}, all).empty());
  // The leader is gone, its session is not.
  CHECK(pids(driver::family_of({60, 600}, {kin(1, 0, 1), kin(62, 1, 60)})) == std::vector<int>{62});
  CHECK(driver::family_of({60, 600}, {kin(1, 0, 1)}).empty());
  CHECK(driver::family_of({60, 600}, {}).empty());
}

TEST_CASE("the pipes of a process are those that it has as stdin, stdout and stderr") {
  int ends[2];
  REQUIRE_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const base::Fd in(ends[0]);
  const base::Fd out(ends[1]);
  struct stat st {};
  REQUIRE_EQ(::fstat(in.get(), &st), 0);
  base::SpawnOptions spawn;
  spawn.argv = {"/bin/sleep", "1000"};
  spawn.stdin_fd = in.get();
  spawn.die_with_parent = true;
  auto child = base::Process::spawn(spawn);
  REQUIRE(child.has_value());
  const auto id = base::identify(child->pid());
  REQUIRE(id.has_value());
  CHECK(driver::pipes_of(*id) == std::vector<driver::StreamId>{{st.st_dev, st.st_ino}});
  CHECK(driver::pipes_of({id->pid, id->start_ticks + 1}).empty());  // another process of that number
  REQUIRE(child->kill(SIGKILL).has_value());
  REQUIRE(child->wait(base::Context::cleanup()).has_value());
  CHECK(driver::pipes_of(*id).empty());
}

TEST_CASE("who is in a cgroup") {
  const std::string v1 = "9:memory:/nomad/a.web\n4:cpuset:/nomad/share\n0::/\n";
  CHECK(driver::in_cgroup(v1, "/nomad/a.web"));
  CHECK(driver::in_cgroup("0::/nomad.slice/share.slice/a.web.scope/sub\n", "/nomad.slice/share.slice/a.web.scope"));
  CHECK(driver::in_cgroup("0::/a.scope", "/a.scope"));
  CHECK_FALSE(driver::in_cgroup("0::/a.scopes\n", "/a.scope"));
  CHECK_FALSE(driver::in_cgroup("0::/b/a.scope\n", "/a.scope"));
  CHECK_FALSE(driver::in_cgroup(v1, "/nomad/a"));
  CHECK_FALSE(driver::in_cgroup(v1, "/"));
  CHECK_FALSE(driver::in_cgroup(v1, ""));
}

TEST_CASE("init and nobody are no command") {
  for (const int pid : {0, 1, -1}) {
    CHECK(driver::kill_family(base::Context::background(), {{pid, 0}, "/x", {}, {}}).error().code ==
          base::Code::kInvalidArgument);
  }
}
