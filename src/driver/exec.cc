#include "driver/exec.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "driver/cpuset.h"
#include "driver/runtime_error.h"

namespace driver {

namespace {
using base::Context;
using base::Fd;
using base::Result;
using base::Status;
using base::str;
using std::chrono::milliseconds;

constexpr std::size_t kOutputBytesMax = 4096;      // per stream: what Nomad's script checks keep
constexpr std::size_t kConfigBytesMax = 4u << 20;  // our own config.json
// A background child may keep the pipes open for ever; its parent's result must not wait for it.
constexpr milliseconds kDrainAfterExit{500};

struct ExecNames {
  std::string id;
  std::string stdout_fifo;
  std::string stderr_fifo;
};

/// What the command writes, read while it runs. The FIFOs vanish from the file system with this object.
struct ExecPipes {
  ExecNames names;
  Fd out;
  Fd err;
  ~ExecPipes() {
    ::unlink(names.stdout_fifo.c_str());
    ::unlink(names.stderr_fifo.c_str());
  }
};

Result<std::string> process_json(const Record& record, const std::vector<std::string>& command);
ExecNames make_names(const std::string& bundle_dir);
Status open_pipes(ExecPipes& pipes);
Result<shim::ContainerExit> collect(const Context& ctx, const ExecPipes& pipes, int exited_fd,
                                    const base::OneShot<Result<shim::ContainerExit>>& exited, ExecOutput& output);
}  // namespace

Result<ExecOutput> exec_in_task(const Context& ctx, Task& task, const std::vector<std::string>& command) {
  if (command.empty() || command[0].empty()) return base::Error::invalid_argument("no command to run was given");
  const Record record = task.record();
  const auto shim = task.shim();
  if (record.phase != Phase::kRunning || !shim) return base::Error::failed_precondition("the task is not running");

  TRY(const std::string process, process_json(record, command));
  ExecPipes pipes{make_names(record.names.bundle_dir), {}, {}};
  TRY_VOID(open_pipes(pipes));
  TRY_VOID(shim->exec(ctx, pipes.names.id, process, {"", pipes.names.stdout_fifo, pipes.names.stderr_fifo, false}));

  const auto exited_event = std::make_shared<Fd>(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const base::OneShot<Result<shim::ContainerExit>> exited;
  shim->wait(pipes.names.id, [exited, exited_event](Result<shim::ContainerExit> exit) {
    exited.set(std::move(exit));
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(exited_event->get(), &one, sizeof one);
  });

  ExecOutput output;
  const auto started = shim->start_exec(ctx, pipes.names.id);
  if (!started) {
    [[maybe_unused]] const auto removed = shim->remove(Context::cleanup(), pipes.names.id);
    const base::Error error = translate_runtime_error(started.error());
    output.exit.exit_code = exit_code_of_runtime_error(error);
    if (output.exit.exit_code == 0) return error;
    output.stderr_text = error.message;
    return output;
  }
  const CgroupLocation container{.mode = detect_cgroup_mode(), .path = record.names.cgroup_path};
  if (const auto moved = follow_into_cpuset(container, record.init.pid); !moved) {
    LOG_WARN("a command in a task may use other cores than the task", {{"error", moved.error().message}});
  }
  auto exit = collect(ctx, pipes, exited_event->get(), exited, output);
  if (!exit) [[maybe_unused]]
    const auto killed = shim->kill(Context::cleanup(), pipes.names.id, SIGKILL, false);
  if (!exit) [[maybe_unused]]
    const auto gone = exited.wait(Context::cleanup());
  [[maybe_unused]] const auto removed = shim->remove(Context::cleanup(), pipes.names.id);
  if (!exit) return std::move(exit).error().wrap(str("running ", command[0]));
  output.exit = exit_from_status(exit->exit_status);
  return output;
}

namespace {

// The container's own process with other arguments: same user, environment, directory, capabilities, limits, seccomp.
Result<std::string> process_json(const Record& record, const std::vector<std::string>& command) {
  TRY(const std::string text, base::read_file(record.names.bundle_dir + "/config.json", kConfigBytesMax));
  TRY(base::Json config, base::parse_json(text, "config.json"));
  base::Json process = config.value("process", base::Json::object());
  process["args"] = command;
  process["terminal"] = false;
  return base::dump_json(process);
}

ExecNames make_names(const std::string& bundle_dir) {
  std::array<unsigned char, 8> random{};
  [[maybe_unused]] const auto n = ::getrandom(random.data(), random.size(), 0);
  std::string id = "exec";
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const unsigned char byte : random) {
    id += kHex[byte >> 4];
    id += kHex[byte & 15];
  }
  return {id, str(bundle_dir, "/", id, ".out"), str(bundle_dir, "/", id, ".err")};
}

Status open_pipes(ExecPipes& pipes) {
  for (const auto& [path, fd] :
       {std::pair{&pipes.names.stdout_fifo, &pipes.out}, std::pair{&pipes.names.stderr_fifo, &pipes.err}}) {
    if (::mkfifo(path->c_str(), 0600) != 0) return base::Error::from_errno(errno, str("creating ", *path));
    // The reader must be there before the shim opens the other end, or that open blocks.
    TRY(*fd, base::open_file(*path, O_RDONLY | O_NONBLOCK));
  }
  return {};
}

// False at EOF. Keeps the first kOutputBytesMax bytes, reads on so that the command never blocks.
bool read_chunk(int fd, std::string& text) {
  std::array<char, 16 * 1024> buffer;
  const ssize_t n = ::read(fd, buffer.data(), buffer.size());
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  const std::size_t room = kOutputBytesMax - std::min(kOutputBytesMax, text.size());
  text.append(buffer.data(), std::min(room, static_cast<std::size_t>(n)));
  return n > 0;
}

Result<shim::ContainerExit> collect(const Context& ctx, const ExecPipes& pipes, int exited_fd,
                                    const base::OneShot<Result<shim::ContainerExit>>& exited, ExecOutput& output) {
  bool out_open = true;
  bool err_open = true;
  std::optional<base::Deadline> drain_until;
  while (out_open || err_open || !drain_until) {
    TRY_VOID(ctx.check());
    if (drain_until && base::Clock::now() >= *drain_until) break;
    std::array<pollfd, 3> fds{{{out_open ? pipes.out.get() : -1, POLLIN, 0},
                               {err_open ? pipes.err.get() : -1, POLLIN, 0},
                               {drain_until ? -1 : exited_fd, POLLIN, 0}}};
    constexpr int kSliceMs = 100;  // a cancelled call or a passed deadline is noticed within this
    if (::poll(fds.data(), fds.size(), kSliceMs) < 0 && errno != EINTR) {
      return base::Error::from_errno(errno, "polling a command's output");
    }
    if (fds[0].revents != 0) out_open = read_chunk(pipes.out.get(), output.stdout_text);
    if (fds[1].revents != 0) err_open = read_chunk(pipes.err.get(), output.stderr_text);
    if (fds[2].revents != 0) drain_until = base::Clock::now() + kDrainAfterExit;
  }
  TRY(auto exit, exited.wait(ctx));
  return exit;
}

}  // namespace
}  // namespace driver
