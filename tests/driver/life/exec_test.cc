#include "driver/life/exec.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "driver/life/exec_process.h"
#include "tests/base/no_threads.h"
#include "tests/driver/life/running_task.h"

using driver::ExecSpec;

namespace {

constexpr char kConfig[] = R"({"ociVersion": "1.0.2", "process": {
  "args": ["redis-server"], "env": ["PATH=/bin", "A=1"], "cwd": "/data", "terminal": false,
  "user": {"uid": 999, "gid": 999, "additionalGids": [1000]},
  "capabilities": {"bounding": ["CAP_CHOWN"]}, "noNewPrivileges": true, "oomScoreAdj": 7,
  "apparmorProfile": "strict", "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]},
  "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}})";

base::Json process_of(const ExecSpec& spec, const std::string& config = kConfig) {
  const auto text = driver::exec_process_json(config, spec);
  REQUIRE_MESSAGE(text.has_value(), (text ? "" : text.error().message));
  return *base::parse_json(*text, "process");
}

}  // namespace

TEST_CASE("a command has all that the task's process has, and nothing else") {
  ExecSpec spec;
  spec.command = {"sh", "-c", "exit 3"};
  auto want = base::parse_json(kConfig, "config")->at("process");
  want["args"] = {"sh", "-c", "exit 3"};
  CHECK(process_of(spec) == want);
}

TEST_CASE("a terminal has a name and a size") {
  ExecSpec spec;
  spec.command = {"sh"};
  spec.tty = true;
  auto process = process_of(spec);
  CHECK(process["terminal"] == true);
  CHECK_FALSE(process.contains("consoleSize"));
  CHECK(process["env"] == base::Json({"PATH=/bin", "A=1", "TERM=xterm"}));
  spec.size = {24, 80};
  CHECK(process_of(spec)["consoleSize"] == base::Json({{"height", 24}, {"width", 80}}));
  // The job's own TERM stays; the size of the task's own terminal is none of the command's.
  const char* own =
      R"({"process": {"env": ["TERM=vt100"], "terminal": true, "consoleSize": {"height": 1, "width": 2}}})";
  CHECK(process_of(spec, own)["env"] == base::Json({"TERM=vt100"}));
  spec.size = {};
  CHECK_FALSE(process_of(spec, own).contains("consoleSize"));
  spec.tty = false;
  process = process_of(spec, own);
  CHECK(process["terminal"] == false);
  CHECK_FALSE(process.contains("consoleSize"));
}

TEST_CASE("a bundle that is none") {
  for (const char* config : {"", "{", "[]", "{}", R"({"process": 3})", R"({"process": {"env": 5}})"}) {
    CAPTURE(config);
    ExecSpec spec;
    spec.command = {"sh"};
    spec.tty = true;
    CHECK_FALSE(driver::exec_process_json(config, spec).has_value());
  }
}

TEST_CASE("no two commands have one name, and a name is the shim's kind") {
  const auto one = driver::new_exec_names("/b");
  const auto two = driver::new_exec_names("/b");
  CHECK(one.id != two.id);
  CHECK(one.id.size() == 20);
  CHECK(one.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") == std::string::npos);
  CHECK(one.stdout_fifo == "/b/" + one.id + ".out");
}

TEST_CASE("few commands of one task start at once, in order; other tasks do not wait") {
  driver::ExecGate gate;
  std::vector<int> begun;
  const auto start = [&](int n) { return [&begun, n] { begun.push_back(n); }; };
  for (int n = 0; n < 5; ++n) gate.enter("a", start(n));
  gate.enter("b", start(10));
  CHECK(begun == std::vector<int>{0, 1, 10});
  gate.leave("a");
  gate.leave("a");
  CHECK(begun == std::vector<int>{0, 1, 10, 2, 3});
  gate.leave("b");
  gate.leave("a");
  CHECK(begun.back() == 4);
  gate.leave("a");
  gate.leave("a");
  gate.enter("a", start(20));
  CHECK(begun.back() == 20);
  gate.leave("a");
}

TEST_CASE("a command for which no thread can be had is refused, and nothing of it stays") {
  CHECK(tests::without_threads([] {
    tests::allow_threads(true);
    tests::RunningTasks fixture("exec sleep 1000");
    driver::Turns turns;
    driver::ExecHost execs(fixture.loop, turns);
    const auto task = fixture.task();
    tests::allow_threads(false);
    const base::OneShot<base::Code> ended;
    ExecSpec spec;
    spec.command = {"/bin/true"};
    driver::ExecCallbacks callbacks;
    callbacks.on_end = [ended](const base::Result<driver::ExitResult>& exit) {
      ended.set(exit ? base::Code::kOk : exit.error().code);
    };
    {
      const auto session = driver::run_exec(execs, task, spec, callbacks);
      if (!session) return false;
    }
    const auto code = ended.wait(tests::RunningTasks::soon());
    while (execs.sessions > 0)
      tests::RunningTasks::must(tests::RunningTasks::soon().sleep(std::chrono::milliseconds(1)));
    return code && *code == base::Code::kResourceExhausted;
  }));
}
