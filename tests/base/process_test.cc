#include "base/process.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/temp_dir.h"

using base::Code;
using base::Context;
using base::SpawnOptions;
using namespace std::chrono_literals;

namespace {
const Context kPromptly = Context::background().with_timeout(10s);

base::Result<base::RunResult> shell(const std::string& script, std::string_view input = "") {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", script};
  options.env = {"PATH=/usr/bin:/bin", "A=1"};
  return base::run(kPromptly, options, input, 1 << 20);
}
}  // namespace

TEST_CASE("run feeds input and collects both outputs and the exit code") {
  const auto result = shell("cat; echo err >&2; exit 7", "input");
  REQUIRE(result.has_value());
  CHECK_EQ(result->stdout_text, "input");
  CHECK_EQ(result->stderr_text, "err\n");
  CHECK_EQ(result->exit.exit_code, 7);
  CHECK_EQ(result->exit.signal, 0);
}

TEST_CASE("run ends with the program: what it leaves behind is killed, and what holds its outputs is not waited for") {
  const auto begin = base::Clock::now();
  const auto left = shell("sleep 1000 & echo $!");
  REQUIRE(left.has_value());
  if (const auto id = base::identify(std::stoi(left->stdout_text))) {  // gone, or nobody has reaped it yet
    const auto pidfd = base::open_pidfd(*id);
    CHECK((!pidfd || base::wait_exited(kPromptly, pidfd->get())));
  }
  const auto escaped = shell("setsid -f sleep 5; echo done");
  REQUIRE(escaped.has_value());
  CHECK_EQ(escaped->stdout_text, "done\n");
  CHECK_LT(base::Clock::now() - begin, 5s);
}

TEST_CASE("run_into keeps what came before an error, and may drop what is too much") {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", "echo before; echo why >&2; sleep 1000"};
  options.env = {"PATH=/usr/bin:/bin"};
  base::RunResult result;
  const auto late =
      base::run_into(Context::background().with_timeout(300ms), options, "", 100, base::Excess::kError, result);
  REQUIRE_FALSE(late.has_value());
  CHECK_EQ(late.error().code, Code::kDeadlineExceeded);
  CHECK_EQ(result.stdout_text, "before\n");
  CHECK_EQ(result.stderr_text, "why\n");
  options.argv = {"/bin/sh", "-c", "head -c 1000000 /dev/zero; echo x >&2; exit 3"};
  base::RunResult dropped;
  REQUIRE(base::run_into(kPromptly, options, "", 4096, base::Excess::kDrop, dropped).has_value());
  CHECK_EQ(dropped.stdout_text.size(), 4096);
  CHECK_EQ(dropped.stderr_text, "x\n");
  CHECK_EQ(dropped.exit.exit_code, 3);
}

TEST_CASE("a signal is reported as such") {
  const auto result = shell("kill -SEGV $$");
  REQUIRE(result.has_value());
  CHECK_EQ(result->exit.signal, SIGSEGV);
  CHECK_EQ(result->exit.exit_code, 128 + SIGSEGV);
}

TEST_CASE("a child has the environment, descriptors and signals that were built for it, nothing of ours") {
  const base::Fd leak(::open("/dev/null", O_RDONLY));  // deliberately without O_CLOEXEC
  ::signal(SIGUSR1, SIG_IGN);
  const auto result = shell("env | sort; ls /proc/self/fd | tr '\\n' ' '; grep -E 'SigBlk|SigIgn' /proc/self/status");
  ::signal(SIGUSR1, SIG_DFL);
  REQUIRE(result.has_value());
  CHECK(result->stdout_text.find("A=1\n") != std::string::npos);
  CHECK(result->stdout_text.find("HOME=") == std::string::npos);
  CHECK(result->stdout_text.find("0 1 2 3 ") != std::string::npos);  // 3 is ls's own directory
  CHECK(result->stdout_text.find("4 ") == std::string::npos);
  CHECK(result->stdout_text.find("SigBlk:\t0000000000000000") != std::string::npos);
  CHECK(result->stdout_text.find("SigIgn:\t0000000000000000") != std::string::npos);
}

TEST_CASE("a child has the usual umask, whatever ours is") {
  const mode_t before = ::umask(0077);
  const auto result = shell("umask");
  ::umask(before);
  REQUIRE(result.has_value());
  CHECK_EQ(result->stdout_text, "0022\n");
}

TEST_CASE("extra descriptors become 3, 4, …, whatever their numbers were") {
  auto a = base::make_pipe();
  auto b = base::make_pipe();
  REQUIRE(base::write_all(kPromptly, a->write_end.get(), "first").has_value());
  REQUIRE(base::write_all(kPromptly, b->write_end.get(), "second").has_value());
  a->write_end.reset();
  b->write_end.reset();
  auto out = base::make_pipe();
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", "cat <&4; cat <&3"};
  options.env = {"PATH=/usr/bin:/bin"};
  options.stdout_fd = out->write_end.get();
  options.extra_fds = {a->read_end.get(), b->read_end.get()};
  auto process = base::Process::spawn(options);
  REQUIRE(process.has_value());
  out->write_end.reset();
  CHECK_EQ(base::read_to_end(kPromptly, out->read_end.get(), 100, "child").value(), "secondfirst");
  CHECK(process->wait(kPromptly)->success());
}

TEST_CASE("spawn errors name the program and the reason") {
  SpawnOptions options;
  options.argv = {"/no/such/program"};
  CHECK_EQ(base::Process::spawn(options).error().message, "running /no/such/program: No such file or directory");
  CHECK_EQ(base::Process::spawn(options).error().code, Code::kNotFound);
  options.argv = {"/etc/passwd"};
  CHECK_EQ(base::Process::spawn(options).error().code, Code::kPermissionDenied);
  options.argv = {"/bin/true"};
  options.cwd = "/no/such/dir";
  CHECK_EQ(base::Process::spawn(options).error().message,
           "entering the directory for /bin/true: No such file or directory");
}

TEST_CASE("run kills the whole group at the deadline, the stop and the output limit") {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", "sleep 1000 & sleep 1000"};
  options.env = {"PATH=/usr/bin:/bin"};
  CHECK_EQ(base::run(Context::background().with_timeout(50ms), options, "", 100).error().code, Code::kDeadlineExceeded);
  options.argv = {"/bin/sh", "-c", "yes"};
  const auto flooded = base::run(kPromptly, options, "", 4096);
  CHECK_EQ(flooded.error().code, Code::kResourceExhausted);
}

TEST_CASE("a process is identified by pid and start time; a recycled pid is not signalled") {
  SpawnOptions options;
  options.argv = {"/bin/sleep", "1000"};
  options.env = {"PATH=/usr/bin:/bin"};
  auto process = base::Process::spawn(options);
  REQUIRE(process.has_value());
  auto id = base::identify(process->pid());
  REQUIRE(id.has_value());
  CHECK(base::open_pidfd(*id).has_value());
  base::ProcessId recycled = *id;
  recycled.start_ticks += 1;
  CHECK_EQ(base::open_pidfd(recycled).error().code, Code::kNotFound);
  CHECK_FALSE(base::reap(process->pidfd()).has_value());
  REQUIRE(base::open_pidfd(*id).has_value());
  CHECK(process->kill(SIGTERM).has_value());
  CHECK_EQ(process->wait(kPromptly)->signal, SIGTERM);
  CHECK_FALSE(base::identify(process->pid()).has_value());
  CHECK_EQ(process->kill(SIGTERM).error().code, Code::kNotFound);
}

TEST_CASE("without a free descriptor a process is not taken for one that has ended") {
  SpawnOptions sleeper;
  sleeper.argv = {"/bin/sleep", "1000"};
  auto child = base::Process::spawn(sleeper);
  REQUIRE(child.has_value());
  const auto id = base::identify(child->pid());
  REQUIRE(id.has_value());
  CHECK_FALSE(base::has_ended(*id));
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  // None at all, then one for the pidfd and none for /proc/<pid>/stat.
  for (const rlim_t free : {0u, 1u}) {
    const int next = ::dup(0);
    ::close(next);
    const rlimit few{static_cast<rlim_t>(next) + free, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    const bool ended = base::has_ended(*id);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    CHECK_FALSE(ended);
  }
  REQUIRE(child->kill(SIGKILL).has_value());
  REQUIRE(child->wait(kPromptly).has_value());
  CHECK(base::has_ended(*id));
  CHECK(base::has_ended({}));
}

TEST_CASE("oom_score_adj and session are set before exec") {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", "cat /proc/self/oom_score_adj; ps -o sid= -p $$ | tr -d ' '; echo $$"};
  options.env = {"PATH=/usr/bin:/bin"};
  options.oom_score_adj = 500;
  options.new_session = true;
  const auto result = base::run(kPromptly, options, "", 4096);
  REQUIRE(result.has_value());
  const auto lines = result->stdout_text;
  CHECK(lines.starts_with("500\n"));
  const std::string rest = lines.substr(4);
  const auto newline = rest.find('\n');
  CHECK_EQ(rest.substr(0, newline), rest.substr(newline + 1, rest.size() - newline - 2));
}

TEST_CASE("signal names in the forms that images and jobs use") {
  CHECK_EQ(base::signal_from_name("SIGTERM"), SIGTERM);
  CHECK_EQ(base::signal_from_name("term"), SIGTERM);
  CHECK_EQ(base::signal_from_name("9"), 9);
  CHECK_EQ(base::signal_from_name("SIGRTMIN+3"), 37);
  CHECK_EQ(base::signal_from_name("RTMAX-1"), 63);
  CHECK_EQ(base::signal_from_name("SIGRTMIN"), 34);
  for (const char* bad : {"", "SIG", "INVALID", "0", "65", "-1", "SIGRTMIN+31", "RTMIN-1", "TERM ", "9x"}) {
    CHECK_MESSAGE(!base::signal_from_name(bad).has_value(), bad);
  }
  CHECK_EQ(base::signal_name(SIGHUP), "SIGHUP");
  CHECK_EQ(base::signal_name(40), "SIG40");
}
