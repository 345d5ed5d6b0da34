#include "shim/shim.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/thread.h"
#include "shim/cgroup.h"
#include "shim/program.h"
#include "shim/proto/task.pb.h"
#include "ttrpc/client.h"

namespace shim {

namespace {

constexpr int kSocketBacklog = 128;
/// The kernel must prefer any task, but not at the price of a machine that cannot free memory at all.
constexpr int kShimOomScoreAdj = -999;
/// Calls that the shim answers from memory; well over what a busy machine needs.
constexpr std::chrono::seconds kQuickCallTimeout{10};
/// From Shutdown to the end of the process; 1.6 and 1.7 linger when their event server is gone.
constexpr std::chrono::seconds kShutdownTimeout{3};
/// From the end of a process's connection to its own: the kernel closes what it had just before.
constexpr std::chrono::seconds kEndAfterClose{1};

/// Newest first: containerd 2.0 and later, then 1.6 and 1.7. Their messages are the same.
constexpr std::array<const char*, 2> kTaskServices = {"containerd.task.v3.Task", "containerd.task.v2.Task"};

/// What the first reply tells.
struct Greeting {
  std::string service;
  pid_t shim_pid = 0;
};
using GreetingShot = base::OneShot<base::Result<Greeting>>;

base::Result<base::Process> spawn_process(const ShimOptions& options, const ShimNames& names, int listening_socket);
void greet(const std::shared_ptr<ttrpc::Client>& client, const std::string& id, const GreetingShot& shot,
           std::size_t service_index = 0);
void move_to_own_cgroups(pid_t pid, const std::string& cgroup_name);
base::Status check_exec_id(const std::string& exec_id);
void fill_stdio(const Stdio& stdio, std::string* in, std::string* out, std::string* err);
ContainerStatus status_from(proto::ProcessStatus status);
template <typename Message>
ContainerExit exit_from(const Message& message);
template <typename Message>
base::Result<Message> decode(const base::Result<std::string>& payload, const char* method);
std::string process_request(const ShimNames& names, const std::string& exec_id);
std::string container_request(const ShimNames& names);
std::string subject(const ShimNames& names, const std::string& exec_id);

}  // namespace

struct Shim::Impl {
  Impl(base::Loop& l, ShimOptions o, ShimNames n) : loop(l), options(std::move(o)), names(std::move(n)) {}

  base::Loop& loop;
  const ShimOptions options;
  const ShimNames names;
  base::ProcessId process;
  bool spawned = false;  // by us, hence in our v1 cgroups at first
  std::shared_ptr<ttrpc::Client> client;
  GreetingShot greeting;
  // A child of ours is reaped. The process of an adopted shim is looked up when it is wanted: a node that recovers 500
  // tasks has other uses for 500 descriptors.
  base::OneShot<std::optional<base::ExitStatus>> ended;
  std::unique_ptr<base::Watch> watch;  // of the pidfd, until it has ended; loop thread

  static void watch_process(const std::shared_ptr<Impl>& self, base::Fd pidfd);
  base::Status kill_process();
  base::Status wait_ended(const base::Context& ctx) const;
  std::jthread leave_our_cgroups() const;
  base::Status end_process();
  base::Result<Greeting> greeted(const base::Context& ctx) const;
  int killed_by(const base::Context& ctx, const base::Error& error) const;
  base::Error not_usable(const base::Error& error, int killed_by) const;
  base::Result<std::string> call(const base::Context& ctx, std::chrono::nanoseconds timeout, const char* method,
                                 const std::string& request) const;
};

base::Result<std::shared_ptr<Shim>> Shim::spawn(base::Loop& loop, const ShimOptions& options, const ShimNames& names) {
  TRY_VOID(check_names(names));
  TRY(base::Fd listening, base::listen_unix(names.socket_path, kSocketBacklog));
  // Connected before there is a process: the backlog holds the connection and the first call until the shim accepts,
  // and a shim that ends before is seen as a closed connection, not as one refused.
  TRY(base::Fd connected, base::connect_unix(names.socket_path));
  TRY(base::Process process, spawn_process(options, names, listening.get()));
  listening.reset();
  auto impl = std::make_shared<Impl>(loop, options, names);
  impl->spawned = true;
  TRY(impl->process, base::identify(process.pid()));
  Impl::watch_process(impl, process.release_pidfd());
  impl->client = ttrpc::Client::over(loop, std::move(connected));
  greet(impl->client, names.container_id, impl->greeting);
  return std::shared_ptr<Shim>(new Shim(std::move(impl)));
}

base::Status Shim::ready(const base::Context& ctx) {
  auto greeting = impl_->greeted(ctx.with_timeout(impl_->options.launch_timeout));
  if (greeting) return {};
  const int killed_by = impl_->killed_by(ctx, greeting.error());
  [[maybe_unused]] const auto ended = impl_->end_process();
  return impl_->not_usable(greeting.error(), killed_by);
}

base::Result<std::shared_ptr<Shim>> Shim::launch(const base::Context& ctx, base::Loop& loop, const ShimOptions& options,
                                                 const ShimNames& names) {
  TRY(auto shim, spawn(loop, options, names));
  TRY_VOID(shim->ready(ctx));
  return shim;
}

base::Result<std::shared_ptr<Shim>> Shim::adopt(const base::Context& ctx, base::Loop& loop, const ShimOptions& options,
                                                const ShimNames& names) {
  TRY_VOID(check_names(names));
  auto client = ttrpc::Client::connect(loop, names.socket_path);
  if (!client) return base::Error::not_found(base::str("no shim listens on ", names.socket_path));
  auto impl = std::make_shared<Impl>(loop, options, names);
  impl->client = *std::move(client);
  greet(impl->client, names.container_id, impl->greeting);
  auto greeting = impl->greeted(ctx.with_timeout(kQuickCallTimeout));
  if (!greeting) return std::move(greeting).error().wrap(base::str("adopting the shim on ", names.socket_path));
  TRY(impl->process, base::identify(greeting->shim_pid));
  return std::shared_ptr<Shim>(new Shim(std::move(impl)));
}

Shim::Shim(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Shim::~Shim() {
  // A watch may only be destroyed on the loop.
  impl_->loop.post([impl = impl_] { impl->watch.reset(); });
}

// Beside Create, for the kernel takes its time; the thread is joined by its owner.
std::jthread Shim::Impl::leave_our_cgroups() const {
  if (!spawned) return {};
  auto mover = base::start_thread("shim cgroup", [this] { move_to_own_cgroups(process.pid, names.cgroup_name); });
  if (mover) return *std::move(mover);
  move_to_own_cgroups(process.pid, names.cgroup_name);
  return {};
}

base::ProcessId Shim::process() const {
  return impl_->process;
}

base::Result<pid_t> Shim::create(const base::Context& ctx, const Stdio& stdio) {
  proto::Options options;
  options.set_binary_name(impl_->options.runtime_binary);
  options.set_root(impl_->options.runtime_root);
  proto::CreateTaskRequest request;
  request.set_id(impl_->names.container_id);
  request.set_bundle(impl_->names.bundle_dir);
  request.set_terminal(stdio.terminal);
  fill_stdio(stdio, request.mutable_stdin(), request.mutable_stdout(), request.mutable_stderr());
  // The bare name: 1.6 knows no other, and another registered type kills the shim.
  request.mutable_options()->set_type_url("containerd.runc.v1.Options");
  request.mutable_options()->set_value(options.SerializeAsString());
  const std::jthread mover = impl_->leave_our_cgroups();
  auto payload = impl_->call(ctx, impl_->options.call_timeout, "Create", request.SerializeAsString());
  if (!payload) return std::move(payload).error().wrap(base::str("creating ", subject(impl_->names, "")));
  TRY(const auto response, decode<proto::CreateTaskResponse>(payload, "Create"));
  return static_cast<pid_t>(response.pid());
}

base::Status Shim::start(const base::Context& ctx) {
  const auto pid = start_exec(ctx, "");
  if (!pid) return pid.error();
  return {};
}

base::Result<ContainerState> Shim::state(const base::Context& ctx) {
  const auto payload = impl_->call(ctx, kQuickCallTimeout, "State", process_request(impl_->names, ""));
  TRY(const auto response, decode<proto::StateResponse>(payload, "State"));
  return ContainerState{status_from(response.status()), static_cast<pid_t>(response.pid()), exit_from(response)};
}

void Shim::wait(const std::string& exec_id, std::function<void(base::Result<ContainerExit>)> callback) {
  CHECK(impl_->greeting.ready());
  const auto greeting = impl_->greeted(base::Context::background());
  if (!greeting) return impl_->loop.post([callback, error = greeting.error()] { callback(error); });
  impl_->client->call_async(greeting->service, "Wait", process_request(impl_->names, exec_id),
                            [callback = std::move(callback)](const base::Result<std::string>& payload) {
                              const auto response = decode<proto::WaitResponse>(payload, "Wait");
                              if (!response) return callback(response.error());
                              callback(exit_from(*response));
                            });
}

base::Status Shim::kill(const base::Context& ctx, const std::string& exec_id, int signal, bool all) {
  proto::KillRequest request;
  request.set_id(impl_->names.container_id);
  request.set_exec_id(exec_id);
  request.set_signal(static_cast<std::uint32_t>(signal));
  request.set_all(all);
  auto sent = impl_->call(ctx, impl_->options.call_timeout, "Kill", request.SerializeAsString());
  if (sent) return {};
  return std::move(sent).error().wrap(
      base::str("sending ", base::signal_name(signal), " to ", subject(impl_->names, exec_id)));
}

base::Status Shim::exec(const base::Context& ctx, const std::string& exec_id, const std::string& process_json,
                        const Stdio& stdio) {
  TRY_VOID(check_exec_id(exec_id));
  CHECK(!process_json.empty());  // would kill the shim
  proto::ExecProcessRequest request;
  request.set_id(impl_->names.container_id);
  request.set_exec_id(exec_id);
  request.set_terminal(stdio.terminal);
  fill_stdio(stdio, request.mutable_stdin(), request.mutable_stdout(), request.mutable_stderr());
  request.mutable_spec()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/Process");
  request.mutable_spec()->set_value(process_json);
  auto done = impl_->call(ctx, impl_->options.call_timeout, "Exec", request.SerializeAsString());
  if (!done) return std::move(done).error().wrap(base::str("preparing ", subject(impl_->names, exec_id)));
  return {};
}

base::Result<pid_t> Shim::start_exec(const base::Context& ctx, const std::string& exec_id) {
  auto payload = impl_->call(ctx, impl_->options.call_timeout, "Start", process_request(impl_->names, exec_id));
  if (!payload) return std::move(payload).error().wrap(base::str("starting ", subject(impl_->names, exec_id)));
  TRY(const auto response, decode<proto::StartResponse>(payload, "Start"));
  return static_cast<pid_t>(response.pid());
}

base::Status Shim::resize(const base::Context& ctx, const std::string& exec_id, std::uint32_t width,
                          std::uint32_t height) {
  proto::ResizePtyRequest request;
  request.set_id(impl_->names.container_id);
  request.set_exec_id(exec_id);
  request.set_width(width);
  request.set_height(height);
  TRY_VOID(impl_->call(ctx, kQuickCallTimeout, "ResizePty", request.SerializeAsString()));
  return {};
}

base::Status Shim::close_stdin(const base::Context& ctx, const std::string& exec_id) {
  proto::CloseIORequest request;
  request.set_id(impl_->names.container_id);
  request.set_exec_id(exec_id);
  request.set_stdin(true);
  TRY_VOID(impl_->call(ctx, kQuickCallTimeout, "CloseIO", request.SerializeAsString()));
  return {};
}

base::Status Shim::pause(const base::Context& ctx) {
  auto done = impl_->call(ctx, impl_->options.call_timeout, "Pause", container_request(impl_->names));
  if (done) return {};
  return std::move(done).error().wrap(base::str("pausing ", subject(impl_->names, "")));
}

base::Status Shim::resume(const base::Context& ctx) {
  auto done = impl_->call(ctx, impl_->options.call_timeout, "Resume", container_request(impl_->names));
  if (done) return {};
  return std::move(done).error().wrap(base::str("resuming ", subject(impl_->names, "")));
}

base::Result<std::vector<pid_t>> Shim::processes(const base::Context& ctx) {
  auto payload = impl_->call(ctx, impl_->options.call_timeout, "Pids", container_request(impl_->names));
  if (!payload) return std::move(payload).error().wrap(base::str("listing ", subject(impl_->names, "")));
  TRY(const auto response, decode<proto::PidsResponse>(payload, "Pids"));
  std::vector<pid_t> pids;
  for (const proto::ProcessInfo& process : response.processes()) pids.push_back(static_cast<pid_t>(process.pid()));
  return pids;
}

base::Status Shim::update(const base::Context& ctx, const std::string& resources_json) {
  proto::UpdateTaskRequest request;
  request.set_id(impl_->names.container_id);
  request.mutable_resources()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/LinuxResources");
  request.mutable_resources()->set_value(resources_json);
  auto done = impl_->call(ctx, impl_->options.call_timeout, "Update", request.SerializeAsString());
  if (done) return {};
  return std::move(done).error().wrap(base::str("changing the limits of ", subject(impl_->names, "")));
}

base::Result<ContainerExit> Shim::remove(const base::Context& ctx, const std::string& exec_id) {
  auto payload = impl_->call(ctx, impl_->options.call_timeout, "Delete", process_request(impl_->names, exec_id));
  if (!payload && payload.error().code == base::Code::kNotFound) return ContainerExit();
  if (!payload) return std::move(payload).error().wrap(base::str("deleting ", subject(impl_->names, exec_id)));
  TRY(const auto response, decode<proto::DeleteResponse>(payload, "Delete"));
  return exit_from(response);
}

base::Status Shim::shutdown(const base::Context& ctx) {
  proto::ShutdownRequest request;
  request.set_id(impl_->names.container_id);
  const base::Context patience = ctx.with_timeout(kShutdownTimeout);
  // The reply may be lost to the connection's end; the process tells.
  [[maybe_unused]] const auto asked = impl_->call(patience, kShutdownTimeout, "Shutdown", request.SerializeAsString());
  if (!impl_->wait_ended(patience)) TRY_VOID(impl_->end_process());
  ::unlink(impl_->names.socket_path.c_str());
  TRY_VOID(remove_cgroup(ctx, impl_->names.cgroup_name));
  remove_cgroup_if_empty(cgroup_parent(impl_->names.cgroup_name));
  return {};
}

void Shim::on_closed(std::function<void()> callback) {
  impl_->client->on_close([callback = std::move(callback)](const base::Error&) { callback(); });
}

void Shim::Impl::watch_process(const std::shared_ptr<Impl>& self, base::Fd pidfd) {
  auto shared_fd = std::make_shared<base::Fd>(std::move(pidfd));  // std::function wants copyable captures
  self->loop.post([self, shared_fd] {
    self->watch = std::make_unique<base::Watch>(self->loop, std::move(*shared_fd), [weak = std::weak_ptr<Impl>(self)] {
      const auto impl = weak.lock();
      if (!impl || !impl->watch) return;
      impl->ended.set(base::reap(impl->watch->fd()));
      impl->watch.reset();
    });
  });
}

base::Status Shim::Impl::kill_process() {
  if (spawned) {
    loop.run([this] {
      if (!watch) return;  // it has ended
      [[maybe_unused]] const auto sent = base::send_signal(watch->fd(), SIGKILL);
    });
    return {};
  }
  const auto pidfd = base::open_pidfd(process);
  auto killed = pidfd ? base::send_signal(pidfd->get(), SIGKILL) : base::Status(pidfd.error());
  if (!killed && killed.error().code == base::Code::kNotFound) return {};
  return killed;
}

base::Status Shim::Impl::wait_ended(const base::Context& ctx) const {
  if (spawned) {
    TRY([[maybe_unused]] const auto exit, ended.wait(ctx));
    return {};
  }
  const auto pidfd = base::open_pidfd(process);
  if (!pidfd) return pidfd.error().code == base::Code::kNotFound ? base::Status() : base::Status(pidfd.error());
  return base::wait_exited(ctx, pidfd->get());
}

// SIGKILL, and waits until it has worked, on time of its own: a cancelled start must not leave a shim behind.
base::Status Shim::Impl::end_process() {
  auto gone = kill_process();
  if (gone) gone = wait_ended(base::Context::cleanup());
  if (!gone) return std::move(gone).error().wrap(base::str("killing shim process ", process.pid));
  return {};
}

base::Result<Greeting> Shim::Impl::greeted(const base::Context& ctx) const {
  TRY(auto first_reply, greeting.wait(ctx));
  return first_reply;
}

// The signal that ended a shim which has closed its connection; 0 = none, as far as can be seen soon.
int Shim::Impl::killed_by(const base::Context& ctx, const base::Error& error) const {
  if (error.code == base::Code::kCancelled || error.code == base::Code::kDeadlineExceeded) return 0;
  const auto exit = ended.wait(ctx.with_timeout(kEndAfterClose));
  return exit && exit->has_value() ? (*exit)->signal : 0;
}

// Why the shim could not be brought up; it has ended by now. One that was killed says nothing about the program.
base::Error Shim::Impl::not_usable(const base::Error& error, int killed_by) const {
  if (killed_by != 0) {
    return base::Error::unavailable(base::str("shim ", options.shim_binary, " was killed by ",
                                              base::signal_name(killed_by), " while it came up: try again"));
  }
  if (error.code == base::Code::kCancelled) return error;
  const std::string last_words = bundle_log_tail(names);
  const std::string quoted = last_words.empty() ? "" : base::str(": ", last_words);
  if (error.code == base::Code::kDeadlineExceeded) {
    return base::Error::deadline_exceeded(base::str("shim ", options.shim_binary, " did not answer within ",
                                                    options.launch_timeout.count(), " ms and was killed", quoted));
  }
  return base::Error::failed_precondition(
      base::str(options.shim_binary, " is not a usable containerd-shim-runc-v2: ", error.message, quoted));
}

base::Result<std::string> Shim::Impl::call(const base::Context& ctx, std::chrono::nanoseconds timeout,
                                           const char* method, const std::string& request) const {
  TRY(const Greeting known, greeted(ctx));
  auto payload = client->call(ctx.with_timeout(timeout), known.service, method, request);
  if (!payload && payload.error().code == base::Code::kUnavailable) {
    const std::string last_words = bundle_log_tail(names);
    return base::Error::unavailable(
        base::str("the shim has died: ", payload.error().message, last_words.empty() ? "" : ": ", last_words));
  }
  return payload;
}

namespace {

base::Result<base::Process> spawn_process(const ShimOptions& options, const ShimNames& names, int listening_socket) {
  TRY(const ShimCgroup cgroup, make_shim_cgroup(names.cgroup_name));
  base::SpawnOptions spawn = shim_program(options, names);
  spawn.extra_fds = {listening_socket};
  spawn.cgroup_fd = cgroup.dir.get();
  if (cgroup.procs) spawn.cgroup_procs_fds = {cgroup.procs.get()};
  spawn.oom_score_adj = kShimOomScoreAdj;
  spawn.new_session = true;
  return base::Process::spawn(spawn);
}

// The first call. A shim that has only an older service says so in a tenth of a millisecond.
void greet(const std::shared_ptr<ttrpc::Client>& client, const std::string& id, const GreetingShot& shot,
           std::size_t service_index) {
  proto::ConnectRequest request;
  request.set_id(id);
  const std::weak_ptr<ttrpc::Client> weak = client;  // the client holds the callback
  const std::string service = kTaskServices[service_index];
  client->call_async(service, "Connect", request.SerializeAsString(), [=](const base::Result<std::string>& payload) {
    const bool other_version = !payload && payload.error().code == base::Code::kUnimplemented;
    const auto again = weak.lock();
    if (other_version && again && service_index + 1 < kTaskServices.size()) {
      return greet(again, id, shot, service_index + 1);
    }
    const auto response = decode<proto::ConnectResponse>(payload, "Connect");
    if (!response) {
      shot.set(base::Result<Greeting>(response.error()));
    } else {
      shot.set(base::Result<Greeting>(Greeting{service, static_cast<pid_t>(response->shim_pid())}));
    }
  });
}

// The first move of a process between cgroups waits about 9 ms for an RCU grace period; one that follows soon after
// does not. runc moves the container after some 15 ms of its own start-up: our move, made beside it, costs nothing and
// takes the wait from it (Create is 10 ms shorter than without any move, 18 % of it). Where there is nothing to move
// the write alone has that effect.
void move_to_own_cgroups(pid_t pid, const std::string& cgroup_name) {
  ::pthread_setname_np(::pthread_self(), "shim-cgroups");
  // Not fatal: the task works, only stopping our own service would take its shim along.
  if (auto moved = leave_v1_cgroups(pid, cgroup_name); !moved) {
    LOG_WARN("a shim stays in our cgroup", {{"error", moved.error().message}});
  }
}

// It becomes a file name in the bundle.
base::Status check_exec_id(const std::string& exec_id) {
  const bool valid = !exec_id.empty() && exec_id.size() <= kExecIdBytesMax &&
                     std::all_of(exec_id.begin(), exec_id.end(),
                                 [](unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
  if (valid) return {};
  return base::Error::invalid_argument(
      base::str("exec id \"", exec_id, "\" must be 1 to ", kExecIdBytesMax, " of a-z and 0-9"));
}

// An empty stdout or stderr beside a set one makes the shim fail, and both empty gives an exec a read-only stdout.
// Two equal names that are no FIFO are one file to shim 1.6, which then never reads stderr: a task without logs would
// stand still after 64 KiB of it.
void fill_stdio(const Stdio& stdio, std::string* in, std::string* out, std::string* err) {
  constexpr char kNull[] = "/dev/null";
  constexpr char kNullToo[] = "/dev/./null";
  *in = stdio.stdin_path;
  *out = stdio.stdout_path.empty() && !stdio.terminal ? kNull : stdio.stdout_path;
  if (!stdio.terminal) *err = stdio.stderr_path.empty() || stdio.stderr_path == kNull ? kNullToo : stdio.stderr_path;
}

ContainerStatus status_from(proto::ProcessStatus status) {
  switch (status) {
    case proto::CREATED:
      return ContainerStatus::kCreated;
    case proto::RUNNING:
      return ContainerStatus::kRunning;
    case proto::STOPPED:
      return ContainerStatus::kStopped;
    case proto::PAUSED:
    case proto::PAUSING:
      return ContainerStatus::kPaused;
    default:
      return ContainerStatus::kUnknown;
  }
}

template <typename Message>
ContainerExit exit_from(const Message& message) {
  ContainerExit exit;
  exit.exit_status = message.exit_status();
  // "Not set" is Go's zero time, year 1, hence negative.
  if (message.exited_at().seconds() > 0) {
    exit.exited_at =
        std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
            std::chrono::seconds(message.exited_at().seconds()) +
            std::chrono::nanoseconds(message.exited_at().nanos())));
  }
  return exit;
}

template <typename Message>
base::Result<Message> decode(const base::Result<std::string>& payload, const char* method) {
  if (!payload) return payload.error();
  Message message;
  if (!message.ParseFromString(*payload)) {
    return base::Error::data_loss(base::str("the shim's answer to ", method, " cannot be decoded"));
  }
  return message;
}

std::string process_request(const ShimNames& names, const std::string& exec_id) {
  proto::ProcessRequest request;
  request.set_id(names.container_id);
  request.set_exec_id(exec_id);
  return request.SerializeAsString();
}

std::string container_request(const ShimNames& names) {
  proto::ContainerRequest request;
  request.set_id(names.container_id);
  return request.SerializeAsString();
}

std::string subject(const ShimNames& names, const std::string& exec_id) {
  return exec_id.empty() ? base::str("container ", names.container_id)
                         : base::str("exec ", exec_id, " in container ", names.container_id);
}

}  // namespace

}  // namespace shim
