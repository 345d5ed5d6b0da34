#include "driver/life/exec_process.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "base/dir.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sync.h"
#include "driver/host/cpuset.h"
#include "shim/bundle.h"

namespace driver {

namespace {
using base::Context;
using base::Fd;
using base::Result;
using base::Status;
using base::str;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kPidBytesMax = 32;
constexpr char kIdPrefix[] = "exec";
constexpr char kStdoutSuffix[] = ".out";
/// Answered from the shim's memory. A shim that hangs must not hold a thread for longer.
constexpr seconds kRegisterTimeout{10};
/// The shim opens its end of stdin in the background; it is there before Start has answered, all but always.
constexpr seconds kStdinTimeout{5};
constexpr milliseconds kStdinLookAgain{1};

Result<StartedExec> start_registered(const Context& ctx, shim::Shim& shim, const Record& record, const ExecSpec& spec,
                                     const ExecNames& names);
ExecNames names_of(const std::string& bundle_dir, std::string id);
std::string random_id();
shim::Stdio stdio_of(const ExecSpec& spec, const ExecNames& names);
Status make_pipes(const ExecSpec& spec, const ExecNames& names, ExecPipes& pipes);
Result<Fd> make_output(const std::string& path);
Result<Fd> open_stdin(const Context& ctx, const std::string& path);
Status kill_exec(const Context& ctx, shim::Shim& shim, const Record& record, const ExecNames& names);
void unlink_fifos(const ExecNames& names);
bool owned(const ExecNames& names);
}  // namespace

ExecNames new_exec_names(const std::string& bundle_dir) {
  return names_of(bundle_dir, random_id());
}

Result<std::string> exec_process_json(const std::string& config_json, const ExecSpec& spec,
                                      const std::optional<ResolvedUser>& user) {
  TRY(const base::Json config, base::parse_json(config_json, "config.json"));
  TRY(const base::Json* own, base::get_object(config, "process"));
  if (own == nullptr) return base::Error::invalid_argument("config.json has no process");
  base::Json process = *own;
  process["args"] = spec.command;
  process["terminal"] = spec.tty;
  process.erase("consoleSize");
  if (!spec.cwd.empty()) process["cwd"] = spec.cwd;
  if (user) {
    process["user"] = {{"uid", user->uid}, {"gid", user->gid}, {"additionalGids", user->additional_gids}};
  }
  TRY(auto env, base::get_string_list(process, "env"));
  std::vector<std::string> words = std::move(env).value_or(std::vector<std::string>());
  std::erase_if(words, [&](const std::string& word) { return spec.env.contains(word.substr(0, word.find('='))); });
  for (const auto& [name, value] : spec.env) words.push_back(str(name, "=", value));
  const auto is_term = [](const std::string& word) { return word.starts_with("TERM="); };
  if (spec.tty && std::none_of(words.begin(), words.end(), is_term)) words.emplace_back("TERM=xterm");
  process["env"] = std::move(words);
  if (spec.tty && spec.size.height > 0 && spec.size.width > 0) {
    process["consoleSize"] = {{"height", spec.size.height}, {"width", spec.size.width}};
  }
  return base::dump_json(process);
}

Result<StartedExec> start_exec(const Context& ctx, shim::Shim& shim, const Record& record, const ExecSpec& spec,
                               const ExecNames& names) {
  TRY(const std::string config, base::read_file(record.names.bundle_dir + "/config.json", shim::kConfigBytesMax));
  std::optional<ResolvedUser> user;
  if (!spec.user.empty()) {
    TRY(const base::Fd rootfs, base::open_dir(record.names.rootfs_dir));
    TRY(user, resolve_user(rootfs.get(), spec.user));
  }
  TRY(const std::string process, exec_process_json(config, spec, user));
  ExecPipes pipes;
  auto made = make_pipes(spec, names, pipes);
  if (made) made = shim.exec(ctx.with_timeout(kRegisterTimeout), names.id, process, stdio_of(spec, names));
  if (!made) {
    unlink_fifos(names);
    return std::move(made).error();
  }
  auto started = start_registered(ctx, shim, record, spec, names);
  if (!started) {
    // The exec stays at the shim, and a start of unknown outcome may have left a process.
    const auto cleared = clear_exec(Context::cleanup(), shim, record, names);
    if (!cleared) LOG_WARN("a command that failed to start stays", {{"error", cleared.error().message}});
    return started;
  }
  started->pipes.out = std::move(pipes.out);
  started->pipes.err = std::move(pipes.err);
  return started;
}

Status clear_exec(const Context& ctx, shim::Shim& shim, const Record& record, const ExecNames& names) {
  auto removed = shim.remove(ctx, names.id);
  if (!removed && removed.error().code == base::Code::kUnknown) {  // "cannot delete a running process"
    auto killed = kill_exec(ctx, shim, record, names);
    if (!killed) return std::move(killed).error().wrap(str("killing a command in task ", record.id.text));
    removed = shim.remove(ctx, names.id);
  }
  if (!removed) return std::move(removed).error();
  unlink_fifos(names);
  return {};
}

void clear_orphaned_execs(const Context& ctx, shim::Shim& shim, const Record& record) {
  const auto files = base::list_dir(record.names.bundle_dir);
  if (!files) return;
  for (const std::filesystem::path file : *files) {
    if (!file.native().starts_with(kIdPrefix) || file.extension() != kStdoutSuffix) continue;
    const ExecNames names = names_of(record.names.bundle_dir, file.stem());
    if (owned(names)) continue;
    LOG_INFO("clearing away a command whose caller is gone", {{"task", record.id.text}, {"exec", names.id}});
    // Deleting lets what the command left behind live on; whoever asked for this one is gone, so its family goes.
    [[maybe_unused]] const auto killed = kill_exec(ctx, shim, record, names);
    const auto cleared = clear_exec(ctx, shim, record, names);
    if (!cleared) {
      LOG_WARN("cannot clear away a command", {{"task", record.id.text}, {"error", cleared.error().message}});
    }
  }
}

namespace {

Result<StartedExec> start_registered(const Context& ctx, shim::Shim& shim, const Record& record, const ExecSpec& spec,
                                     const ExecNames& names) {
  TRY_VOID(ctx.check());
  StartedExec started;
  // From here on only the shim knows what happens: to give up waiting would be to lose a process.
  TRY(started.process.pid, shim.start_exec(Context::background(), names.id));
  if (const auto known = base::identify(started.process.pid)) {
    started.process = *known;
    started.its_pipes = pipes_of(*known);
  }
  const CgroupLocation container{.mode = detect_cgroup_mode(), .path = record.names.cgroup_path};
  if (const auto moved = follow_into_cpuset(container, record.init.pid); !moved) {
    LOG_WARN("a command in a task may use other cores than the task", {{"error", moved.error().message}});
  }
  if (spec.has_stdin) {
    TRY(started.pipes.in, open_stdin(Context::background().with_timeout(kStdinTimeout), names.stdin_fifo));
  }
  return started;
}

ExecNames names_of(const std::string& bundle_dir, std::string id) {
  const std::string stem = str(bundle_dir, "/", id);
  return {std::move(id), stem + ".in", stem + kStdoutSuffix, stem + ".err"};
}

std::string random_id() {
  std::array<unsigned char, 8> random{};
  [[maybe_unused]] const auto n = ::getrandom(random.data(), random.size(), 0);
  std::string id = kIdPrefix;
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const unsigned char byte : random) {
    id += kHex[byte >> 4];
    id += kHex[byte & 15];
  }
  return id;
}

shim::Stdio stdio_of(const ExecSpec& spec, const ExecNames& names) {
  return {.stdin_path = spec.has_stdin ? names.stdin_fifo : "",
          .stdout_path = names.stdout_fifo,
          .stderr_path = spec.tty ? "" : names.stderr_fifo,
          .terminal = spec.tty};
}

Status make_pipes(const ExecSpec& spec, const ExecNames& names, ExecPipes& pipes) {
  TRY(pipes.out, make_output(names.stdout_fifo));
  if (::flock(pipes.out.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::Error::from_errno(errno, str("locking ", names.stdout_fifo));
  }
  if (!spec.tty) {
    TRY(pipes.err, make_output(names.stderr_fifo));
  }
  if (spec.has_stdin && ::mkfifo(names.stdin_fifo.c_str(), 0600) != 0) {
    return base::Error::from_errno(errno, str("creating ", names.stdin_fifo));
  }
  return {};
}

Result<Fd> make_output(const std::string& path) {
  if (::mkfifo(path.c_str(), 0600) != 0) return base::Error::from_errno(errno, str("creating ", path));
  // The reader must be there before the shim opens the other end, or that open blocks.
  return base::open_file(path, O_RDONLY | O_NONBLOCK);
}

// Succeeds once there is a reader. Were ours the only descriptor, closing it would lose what was written.
Result<Fd> open_stdin(const Context& ctx, const std::string& path) {
  while (true) {
    auto fd = base::open_file(path, O_WRONLY | O_NONBLOCK);
    if (fd || fd.error().sys_errno != ENXIO) return fd;
    auto waited = ctx.sleep(kStdinLookAgain);
    if (!waited) return std::move(waited).error().wrap("waiting for the shim to open a command's stdin");
  }
}

// The pid file is the runtime's, written once the command runs; the shim removes it when the command is deleted.
Status kill_exec(const Context& ctx, shim::Shim& shim, const Record& record, const ExecNames& names) {
  const std::string path = str(record.names.bundle_dir, "/", names.id, ".pid");
  const auto text = base::read_file(path, kPidBytesMax);
  if (!text && text.error().code == base::Code::kNotFound) return {};  // it never ran
  if (!text) return text.error();
  base::ProcessId process;
  std::from_chars(text->data(), text->data() + text->size(), process.pid);
  TRY_VOID(kill_family(ctx.with_timeout(kExecKillTimeout), {process, record.names.cgroup_path, {}, record.init}));
  const base::OneShot<bool> ended;
  shim.wait(names.id, [ended](const Result<shim::ContainerExit>&) { ended.set(true); });
  TRY([[maybe_unused]] const bool known, ended.wait(ctx.with_timeout(kExecKillTimeout)));
  return {};
}

void unlink_fifos(const ExecNames& names) {
  for (const std::string& path : {names.stdin_fifo, names.stdout_fifo, names.stderr_fifo}) ::unlink(path.c_str());
}

bool owned(const ExecNames& names) {
  const auto fd = base::open_file(names.stdout_fifo, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  return !fd || ::flock(fd->get(), LOCK_EX | LOCK_NB) != 0;
}

}  // namespace

}  // namespace driver
