// containerd-driver: started by a Nomad agent it is a task driver plugin, started by a person it is a command-line tool
// over the same library. This file wires the objects together and holds no logic.
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

// Three descriptors a task, and eight more while its resource use is asked for: a soft limit of 1024, which is what a
// login shell or systemd gives, is 90 tasks.
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
  raise_open_files_limit();
  base::Loop loop;
  base::Crew crew({.name = "calls", .threads_max = kCallsAtOnceMax});
  driver::Driver driver(loop, crew);
  const int status = plugin::run_plugin(driver, loop, crew, base::kVersion);
  // Crash-only: whatever matters is on disk already, and a call that still blocks must not hold up the exit.
  ::_exit(status);
}

}  // namespace

int main(int argc, char** argv) {
  // Short-lived threads would each leave a heap of their own behind.
  ::mallopt(M_ARENA_MAX, 2);
  ::umask(0077);
  ::prctl(PR_SET_DUMPABLE, 0);  // registry credentials pass through this memory
  if (plugin::started_by_agent()) return serve_agent();
  return cli::main(std::vector<std::string>(argv + 1, argv + argc));
}
