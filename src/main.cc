// containerd-driver: started by a Nomad agent it is a task driver plugin, started by a person it is a command-line tool
// over the same library. This file wires the objects together and holds no logic.
#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/crew.h"
#include "base/log.h"
#include "base/loop.h"
#include "cli/cli.h"
#include "driver/driver.h"
#include "plugin/go_plugin.h"
#include "version.h"

namespace {

// One call of the agent holds one thread for as long as it blocks. A node that starts hundreds of tasks at once queues.
constexpr std::size_t kCallsAtOnceMax = 128;

constexpr std::chrono::milliseconds kLastWordsTime{100};  // for the reader of stderr, of 500 ms for our whole exit

// A program that was started without one of the three would otherwise open its first file or socket there, and write
// its messages into it. Opened the wrong way round: reading and writing still fail, as they should.
void fill_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) [[maybe_unused]]
      const int filled = ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);  // the lowest that is free
  }
}

// Three descriptors a task (one if it was recovered), and eight for its resource use as long as all readers together
// keep no more than a quarter: a soft limit of 1,024, which is what a login shell or systemd gives, is 250 tasks.
void raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int serve_agent() {
  // The agent passes its environment on: an operator who wants to see each step sets this and restarts the agent.
  const char* wanted = std::getenv("CONTAINERD_DRIVER_LOG_LEVEL");
  base::set_log(base::log_level_from_name(wanted != nullptr ? wanted : "").value_or(base::LogLevel::kInfo),
                base::LogFormat::kHclog);
  base::Loop loop;
  if (const auto& started = loop.status(); !started) {
    std::fprintf(stderr, "%s\n", started.error().message.c_str());
    return 1;
  }
  base::Crew crew({.name = "calls", .threads_max = kCallsAtOnceMax});
  driver::Driver driver(loop, crew);
  const int status = plugin::run_plugin(driver, loop, crew, base::kVersion);
  // Crash-only: whatever matters is on disk already, and a call that still blocks must not hold up the exit.
  base::flush_log(kLastWordsTime);
  ::_exit(status);
}

}  // namespace

int main(int argc, char** argv) {
  // Short-lived threads would each leave a heap of their own behind.
  ::mallopt(M_ARENA_MAX, 2);
  ::umask(0077);
  ::prctl(PR_SET_DUMPABLE, 0);  // registry credentials pass through this memory
  fill_standard_descriptors();
  raise_open_files_limit();
  if (plugin::started_by_agent()) return serve_agent();
  const int status = cli::main(std::vector<std::string>(argv + 1, argv + argc));
  base::flush_log(kLastWordsTime);
  return status;
}
