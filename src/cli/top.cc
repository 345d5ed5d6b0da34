#include <fcntl.h>
#include <time.h>

#include "base/file.h"
#include "cli/processes.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kStatusBytesMax = 64u << 10;
constexpr std::size_t kCommandBytesMax = 4u << 20;  ///< more than exec(2) takes at its default limit
constexpr std::size_t kCommandShownMax = 4096;

Result<std::vector<ProcessFacts>> look_at(const std::vector<pid_t>& pids, std::size_t depth);
std::chrono::nanoseconds time_since_boot();

}  // namespace

int top_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the container"));
  const std::vector<std::string> columns(args->begin() + 1, args->end());
  if (auto known = process_table({}, columns, {}, {}); !known) return misuse(self, call.io, known.error());
  const auto found = find_running(call.globals, args->front());
  if (!found) return fail(call.io, found.error(), kExitRunFailure);
  const auto list = [&]() -> Result<std::vector<std::vector<std::string>>> {
    driver::Driver& driver = found->session->driver;
    TRY_VOID(driver.attach(Context::cleanup(), found->task.id));
    TRY(const auto pids, driver.processes(Context::cleanup(), found->task.id));
    const std::string init = str("/proc/", attribute(found->task, "pid"));
    TRY(const std::string status, base::read_file(init + "/status", kStatusBytesMax));
    TRY(const base::Fd root, base::open_file(init + "/root", O_PATH | O_DIRECTORY));
    TRY(const auto processes, look_at(pids, pid_namespace_depth(status)));
    return process_table(processes, columns, driver::account_names(root.get()), time_since_boot());
  };
  const auto rows = list();
  if (!rows) return fail(call.io, Error(rows.error()).wrap(args->front()), kExitRunFailure);
  print_rows(call.io, *rows);
  return kExitOk;
}

namespace {

bool is_gone_since(const Result<std::string>& file) {
  return !file && (file.error().sys_errno == ENOENT || file.error().sys_errno == ESRCH);
}

// One that has ended since it was listed is left out.
Result<std::vector<ProcessFacts>> look_at(const std::vector<pid_t>& pids, std::size_t depth) {
  std::vector<ProcessFacts> all;
  for (const pid_t pid : pids) {
    const auto read = [&](const char* name, std::size_t bytes_max) {
      return base::read_file(str("/proc/", pid, "/", name), bytes_max);
    };
    const auto stat = read("stat", kStatusBytesMax);
    const auto status = read("status", kStatusBytesMax);
    const auto command = read("cmdline", kCommandBytesMax);
    if (is_gone_since(stat) || is_gone_since(status) || is_gone_since(command)) continue;
    for (const auto* text : {&stat, &status, &command}) {
      if (!*text) return text->error();
    }
    const std::string words = command->substr(0, kCommandShownMax);
    if (auto process = parse_process(*stat, *status, words, depth)) all.push_back(*std::move(process));
  }
  return all;
}

std::chrono::nanoseconds time_since_boot() {
  timespec now{};
  CHECK(::clock_gettime(CLOCK_BOOTTIME, &now) == 0);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace
}  // namespace cli
