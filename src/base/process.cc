#include "base/process.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "base/thread.h"

namespace base {

namespace {

#ifndef P_PIDFD
constexpr idtype_t kIdTypePidfd = static_cast<idtype_t>(3);
#else
constexpr idtype_t kIdTypePidfd = static_cast<idtype_t>(P_PIDFD);
#endif

constexpr int kExtraFdsMax = 16;

// Everything the child needs, made before the fork: between fork and exec only async-signal-safe calls are allowed,
// so nothing there may allocate.
struct ChildPlan {
  std::vector<char*> argv;
  std::vector<char*> env;
  const char* cwd;
  int null_fd;
  std::array<int, 3 + kExtraFdsMax> sources;  // descriptor that becomes 0, 1, 2, 3, …
  int fd_count;
  const int* cgroup_procs_fds;
  std::size_t cgroup_procs_count;
  char oom_score_adj[16];
  int oom_fd;
  const SpawnOptions* options;
};

struct ChildFailure {
  int step;  // index into kStepNames
  int err;
};
constexpr std::array<const char*, 6> kStepNames = {"joining a cgroup for",         "making a session for",
                                                   "preparing the descriptors of", "entering the directory for",
                                                   "setting the signals of",       "running"};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

[[noreturn]] void child_fail(int report_fd, int step) {
  const ChildFailure failure{step, errno};
  [[maybe_unused]] const auto n = ::write(report_fd, &failure, sizeof failure);
  ::_exit(127);
}

// Moves all sources out of the way first (above every target), then into place, so that no move destroys another.
void child_place_fds(const ChildPlan& plan, int& report_fd) {
  constexpr int kAbove = 3 + kExtraFdsMax + 1;
  report_fd = ::fcntl(report_fd, F_DUPFD_CLOEXEC, kAbove);
  if (report_fd < 0) ::_exit(127);
  int high[3 + kExtraFdsMax];
  for (int i = 0; i < plan.fd_count; ++i) {
    high[i] = ::fcntl(plan.sources[static_cast<std::size_t>(i)], F_DUPFD_CLOEXEC, kAbove);
    if (high[i] < 0) child_fail(report_fd, 2);
  }
  for (int i = 0; i < plan.fd_count; ++i) {
    if (::dup2(high[i], i) < 0) child_fail(report_fd, 2);
  }
  // All else gets close-on-exec at once, so that the report pipe still works until execve.
  if (::syscall(SYS_close_range, static_cast<unsigned>(plan.fd_count), ~0U, 4U /* CLOSE_RANGE_CLOEXEC */) != 0) {
    child_fail(report_fd, 2);
  }
}

void child_reset_signals(int report_fd) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &action, nullptr);  // KILL and STOP refuse: fine
  sigset_t none;
  ::sigemptyset(&none);
  if (::sigprocmask(SIG_SETMASK, &none, nullptr) != 0) child_fail(report_fd, 4);
}

[[noreturn]] void child_main(const ChildPlan& plan, int report_fd) {
  for (std::size_t i = 0; i < plan.cgroup_procs_count; ++i) {
    if (::write(plan.cgroup_procs_fds[i], "0", 1) != 1) child_fail(report_fd, 0);
  }
  if (plan.oom_score_adj[0] != '\0') {
    const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    [[maybe_unused]] const auto n = ::write(fd, plan.oom_score_adj, ::strlen(plan.oom_score_adj));
    ::close(fd);  // lowering needs a capability that a container may lack; the program runs all the same
  }
  if (plan.options->new_session && ::setsid() < 0) child_fail(report_fd, 1);
  if (plan.options->new_process_group && ::setpgid(0, 0) != 0) child_fail(report_fd, 1);
  if (plan.options->die_with_parent) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  child_place_fds(plan, report_fd);
  if (::chdir(plan.cwd) != 0) child_fail(report_fd, 3);
  ::umask(022);  // ours is 077: with it a runtime would make folders in containers that only root can enter
  child_reset_signals(report_fd);
  ::execve(plan.argv[0], plan.argv.data(), plan.env.data());
  child_fail(report_fd, 5);
}

Result<ExitStatus> reap_now(int pidfd, int flags) {
  siginfo_t info{};
  int rc;
  do {
    rc = ::waitid(kIdTypePidfd, static_cast<id_t>(pidfd), &info, WEXITED | flags);
  } while (rc != 0 && errno == EINTR);
  if (rc != 0) return Error::from_errno(errno, "waiting for a child");
  if (info.si_pid == 0) return Error::unavailable("still running");
  if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, 0};
  return ExitStatus{128 + info.si_status, info.si_status};
}

struct SignalName {
  const char* name;
  int number;
};
constexpr SignalName kSignals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},       {"QUIT", SIGQUIT},     {"ILL", SIGILL},   {"TRAP", SIGTRAP},
    {"ABRT", SIGABRT}, {"IOT", SIGABRT},      {"BUS", SIGBUS},       {"FPE", SIGFPE},   {"KILL", SIGKILL},
    {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},     {"USR2", SIGUSR2},     {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
    {"TERM", SIGTERM}, {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},     {"CLD", SIGCHLD},  {"CONT", SIGCONT},
    {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},     {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},
    {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},     {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH},
    {"IO", SIGIO},     {"POLL", SIGIO},       {"PWR", SIGPWR},       {"SYS", SIGSYS},
};
// What the kernel calls SIGRTMIN is 32, but libc keeps two for itself: users and Docker count from 34 to 64.
constexpr int kRtMin = 34;
constexpr int kRtMax = 64;

}  // namespace

Result<Process> Process::spawn(const SpawnOptions& options) {
  CHECK(!options.argv.empty() && options.extra_fds.size() <= kExtraFdsMax);
  TRY(const Fd null_fd, open_file("/dev/null", O_RDWR));
  TRY(Pipe report, make_pipe());

  ChildPlan plan{};
  plan.argv = pointers(options.argv);
  plan.env = pointers(options.env);
  plan.cwd = options.cwd.c_str();
  const auto source = [&](int fd) { return fd >= 0 ? fd : null_fd.get(); };
  plan.sources = {source(options.stdin_fd), source(options.stdout_fd), source(options.stderr_fd)};
  plan.fd_count = 3;
  for (const int fd : options.extra_fds) plan.sources[static_cast<std::size_t>(plan.fd_count++)] = fd;
  plan.cgroup_procs_fds = options.cgroup_procs_fds.data();
  plan.cgroup_procs_count = options.cgroup_procs_fds.size();
  if (options.oom_score_adj) std::snprintf(plan.oom_score_adj, sizeof plan.oom_score_adj, "%d", *options.oom_score_adj);
  plan.options = &options;

  // A plain clone3 (no CLONE_VM): the child has its own copy of memory, the parent sleeps until exec (CLONE_VFORK)
  // and gets the pidfd in the same call, so the pid can never be recycled under us.
  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD | CLONE_VFORK;
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  if (options.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(options.cgroup_fd);
  }
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return start_failed(errno, str("starting ", options.argv[0]));
  if (pid == 0) child_main(plan, report.write_end.get());

  Process process(static_cast<pid_t>(pid), Fd(pidfd));
  report.write_end.reset();
  ChildFailure failure{};
  ssize_t n;
  do {
    n = ::read(report.read_end.get(), &failure, sizeof failure);
  } while (n < 0 && errno == EINTR);
  if (n == 0) return process;
  [[maybe_unused]] const auto reaped = reap_now(process.pidfd(), 0);
  return Error::from_errno(n == sizeof failure ? failure.err : EIO,
                           str(kStepNames[static_cast<std::size_t>(failure.step)], " ", options.argv[0]));
}

Result<ExitStatus> Process::wait(const Context& ctx) {
  TRY_VOID(wait_fd(ctx, pidfd(), Wait::kReadable));
  return reap_now(pidfd(), 0);
}

Status Process::kill(int signal) const {
  return send_signal(pidfd(), signal);
}

std::optional<ExitStatus> reap(int pidfd) {
  auto status = reap_now(pidfd, WNOHANG);
  if (!status) return std::nullopt;
  return *status;
}

namespace {

// Input and both outputs of a program until it has ended, or both outputs are at their end.
class Pump {
 public:
  Pump(Fd in, std::string_view input, const Fd& out, const Fd& err, std::size_t bytes_max, Excess excess,
       RunResult& result)
      : in_(std::move(in)),
        input_(input),
        sinks_{{{out.get(), &result.stdout_text, true}, {err.get(), &result.stderr_text, true}}},
        bytes_max_(bytes_max),
        excess_(excess) {
    if (input_.empty()) in_.reset();
  }
  Status run(const Context& ctx, const Process& process);

 private:
  struct Sink {
    int fd;
    std::string* text;
    bool open;
  };
  Status read(Sink& sink);
  void write();

  Fd in_;
  std::string_view input_;
  std::array<Sink, 2> sinks_;
  const std::size_t bytes_max_;
  const Excess excess_;
};

Status Pump::run(const Context& ctx, const Process& process) {
  bool exited = false;
  while (sinks_[0].open || sinks_[1].open) {
    TRY_VOID(ctx.check());
    std::array<pollfd, 4> fds{{{sinks_[0].open ? sinks_[0].fd : -1, POLLIN, 0},
                               {sinks_[1].open ? sinks_[1].fd : -1, POLLIN, 0},
                               {in_.get(), POLLOUT, 0},
                               {exited ? -1 : process.pidfd(), POLLIN, 0}}};
    // Short slices rather than an eventfd: run() is for programs that live for milliseconds.
    const int slice = ctx.stop().stop_possible() ? 50 : 1000;
    const int left = ctx.remaining_poll_ms();
    const int ready = ::poll(fds.data(), fds.size(), exited ? 0 : left < 0 ? slice : std::min(left, slice));
    if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "polling a child's output");
    if (exited && ready == 0) return {};  // all that it wrote is read
    for (std::size_t i = 0; i < sinks_.size(); ++i) {
      if (fds[i].revents != 0) TRY_VOID(read(sinks_[i]));
    }
    if (fds[2].revents != 0) write();
    if (fds[3].revents != 0) {
      exited = true;
      ::kill(-process.pid(), SIGKILL);  // the group is ours until the leader is reaped
    }
  }
  return {};
}

Status Pump::read(Sink& sink) {
  std::array<char, 16 * 1024> buffer;
  const ssize_t n = ::read(sink.fd, buffer.data(), buffer.size());
  if (n <= 0) {
    sink.open = n < 0 && (errno == EINTR || errno == EAGAIN);
    return {};
  }
  const auto size = static_cast<std::size_t>(n);
  if (excess_ == Excess::kError && sink.text->size() + size > bytes_max_) {
    return Error::resource_exhausted(str("output is larger than the limit of ", bytes_max_, " bytes"));
  }
  sink.text->append(buffer.data(), std::min(size, bytes_max_ - sink.text->size()));
  return {};
}

void Pump::write() {
  const ssize_t n = ::write(in_.get(), input_.data(), std::min<std::size_t>(input_.size(), PIPE_BUF));
  if (n > 0) input_.remove_prefix(static_cast<std::size_t>(n));
  if (input_.empty() || (n < 0 && errno == EPIPE)) in_.reset();
}

}  // namespace

Result<RunResult> run(const Context& ctx, SpawnOptions options, std::string_view input, std::size_t output_bytes_max) {
  RunResult result;
  TRY_VOID(run_into(ctx, std::move(options), input, output_bytes_max, Excess::kError, result));
  return result;
}

Status run_into(const Context& ctx, SpawnOptions options, std::string_view input, std::size_t output_bytes_max,
                Excess excess, RunResult& result) {
  TRY(Pipe in, make_pipe());
  TRY(Pipe out, make_pipe());
  TRY(Pipe err, make_pipe());
  options.stdin_fd = in.read_end.get();
  options.stdout_fd = out.write_end.get();
  options.stderr_fd = err.write_end.get();
  if (!options.new_session) options.new_process_group = true;
  const std::string program = options.argv.empty() ? "" : options.argv[0];
  TRY(Process process, Process::spawn(options));
  in.read_end.reset();
  out.write_end.reset();
  err.write_end.reset();

  Pump pump(std::move(in.write_end), input, out.read_end, err.read_end, output_bytes_max, excess, result);
  Status ended = pump.run(ctx, process);
  if (ended) ended = wait_exited(ctx, process.pidfd());
  ::kill(-process.pid(), SIGKILL);  // what is left of the group, which is ours until the leader is reaped
  auto exit = process.wait(Context::cleanup());
  if (ended && !exit) ended = exit.error();
  if (!ended) return std::move(ended).error().wrap(str("running ", program));
  result.exit = *exit;
  return {};
}

Result<ProcessId> identify(pid_t pid) {
  constexpr std::size_t kStatBytesMax = 4096;
  auto stat = read_file(str("/proc/", pid, "/stat"), kStatBytesMax);
  if (!stat && stat.error().code == Code::kNotFound) return Error::not_found(str("no process ", pid));
  if (!stat) return std::move(stat).error();
  // pid (comm) state ppid …: comm may contain anything, so count fields from the last ')'.
  const std::size_t close = stat->rfind(')');
  if (close == std::string::npos) return Error::internal(str("cannot read /proc/", pid, "/stat"));
  std::string_view rest = std::string_view(*stat).substr(close + 1);
  for (int field = 3; field < 22; ++field) {
    const std::size_t space = rest.find(' ', 1);
    if (space == std::string_view::npos) return Error::internal(str("cannot read /proc/", pid, "/stat"));
    rest.remove_prefix(space);
  }
  rest.remove_prefix(1);
  ProcessId id{pid, 0};
  std::from_chars(rest.data(), rest.data() + rest.size(), id.start_ticks);
  return id;
}

Result<Fd> open_pidfd(const ProcessId& id) {
  if (id.pid <= 0) return Error::not_found("no process recorded");
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, id.pid, 0)));
  if (!fd) return Error::from_errno(errno, str("opening process ", id.pid));
  TRY(const ProcessId now, identify(id.pid));
  if (now != id) return Error::not_found(str("process ", id.pid, " has ended and its number was reused"));
  return fd;
}

bool has_ended(const ProcessId& id) {
  const auto found = open_pidfd(id);
  return !found && found.error().code == Code::kNotFound;
}

Status send_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0) return {};
  return Error::from_errno(errno, str("sending ", signal_name(signal)));
}

Status wait_exited(const Context& ctx, int pidfd) {
  return wait_fd(ctx, pidfd, Wait::kReadable);
}

const std::string& boot_id() {
  static const std::string id = [] {
    auto text = read_file("/proc/sys/kernel/random/boot_id", 128);
    if (!text) return std::string("unknown");
    while (!text->empty() && std::isspace(static_cast<unsigned char>(text->back()))) text->pop_back();
    return *text;
  }();
  return id;
}

namespace {
std::optional<int> parse_small_int(std::string_view text) {
  int value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<int> realtime_signal(std::string_view name) {
  std::optional<int> offset = 0;
  int number = 0;
  if (name.starts_with("RTMIN")) {
    if (name.size() > 5) offset = name[5] == '+' ? parse_small_int(name.substr(6)) : std::nullopt;
    if (offset) number = kRtMin + *offset;
  } else if (name.starts_with("RTMAX")) {
    if (name.size() > 5) offset = name[5] == '-' ? parse_small_int(name.substr(6)) : std::nullopt;
    if (offset) number = kRtMax - *offset;
  } else {
    return std::nullopt;
  }
  if (!offset || *offset < 0 || number < kRtMin || number > kRtMax) return std::nullopt;
  return number;
}
}  // namespace

std::optional<int> signal_from_name(std::string_view name) {
  if (const auto number = parse_small_int(name)) {
    return *number >= 1 && *number <= kRtMax ? number : std::nullopt;
  }
  const std::string upper = ascii_upper(name);
  std::string_view bare = upper;
  if (bare.starts_with("SIG")) bare.remove_prefix(3);
  for (const SignalName& entry : kSignals) {
    if (bare == entry.name) return entry.number;
  }
  return realtime_signal(bare);
}

std::string signal_name(int signal) {
  for (const SignalName& entry : kSignals) {
    if (signal == entry.number) return str("SIG", entry.name);
  }
  return str("SIG", signal);
}

}  // namespace base
