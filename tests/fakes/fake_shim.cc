#include "tests/fakes/fake_shim.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "shim/proto/task.pb.h"

namespace fakes {

namespace {

using base::Error;
using base::Result;
namespace wire = shim::proto;

wire::Timestamp now() {
  wire::Timestamp time;
  time.set_seconds(
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  return time;
}

/// What a stdio path of the request opens to; -1 = /dev/null.
base::Fd open_output(const std::string& path) {
  if (path.empty()) return base::Fd();
  auto fd = base::open_file(path, O_WRONLY | O_APPEND | O_NONBLOCK);
  if (!fd) return base::Fd();
  ::fcntl(fd->get(), F_SETFL, 0);  // the child's writes may block
  return *std::move(fd);
}

}  // namespace

struct FakeShim::Impl : std::enable_shared_from_this<FakeShim::Impl> {
  /// The first process of a container, or an exec.
  struct Task {
    std::vector<std::string> args;
    std::string out_path, err_path;
    base::Fd go;  // a line written to it turns the waiting shell into the command
    wire::ProcessStatus status = wire::CREATED;
    pid_t pid = 0;
    std::unique_ptr<base::Watch> watch;
    std::uint32_t exit_status = 0;
    wire::Timestamp exited_at;
    std::vector<ttrpc::Reply> waiters;
  };
  using Key = std::pair<std::string, std::string>;  // container id, exec id

  explicit Impl(base::Loop& l) : loop(l) {}

  base::Loop& loop;
  FakeShimOptions options;
  std::map<Key, Task> tasks;
  std::map<std::string, int> calls;
  std::vector<std::unique_ptr<base::Timer>> timers;
  std::unique_ptr<ttrpc::Server> server;

  void handle(const ttrpc::Call& call, const ttrpc::Reply& reply);
  Result<std::string> answer(const ttrpc::Call& call, const ttrpc::Reply& reply, bool& later);
  Result<std::string> create(const std::string& payload);
  base::Status spawn(const Key& key, Task& task);
  Result<std::string> start(const Key& key, Task& task);
  Result<std::string> exec(const std::string& payload);
  Result<std::string> kill(const std::string& payload);
  Result<std::string> remove(const Key& key);
  void end_process(Task& task);
  void ended(const Key& key);
  static std::string wait_response(const Task& task);
};

FakeShim::FakeShim(base::Loop& loop, base::Fd listening_socket, const std::string& socket_path, FakeShimOptions options)
    : impl_(std::make_shared<Impl>(loop)) {
  impl_->options = std::move(options);
  impl_->server = ttrpc::Server::over(
      loop, std::move(listening_socket), socket_path,
      [impl = impl_.get()](const ttrpc::Call& call, const ttrpc::Reply& reply) { impl->handle(call, reply); });
}

FakeShim::~FakeShim() {
  impl_->server.reset();
  impl_->loop.run([this] {
    for (auto& [key, task] : impl_->tasks) {
      if (task.watch) impl_->end_process(task);
    }
    impl_->tasks.clear();
    impl_->timers.clear();
  });
}

int FakeShim::calls(const std::string& method) const {
  int count = 0;
  impl_->loop.run([&] { count = impl_->calls[method]; });
  return count;
}

void FakeShim::Impl::handle(const ttrpc::Call& call, const ttrpc::Reply& reply) {
  if (call.service != options.service) return reply(Error::unimplemented("service " + call.service));
  ++calls[call.method];
  const auto found = options.faults.find(call.method);
  const Fault fault = found == options.faults.end() ? Fault() : found->second;
  if (fault.silent) return;
  if (fault.dies) {
    if (options.die) return options.die();
    return loop.post([self = shared_from_this()] { self->server.reset(); });  // not under the server's own feet
  }
  if (fault.error) return reply(*fault.error);
  bool later = false;
  auto result = answer(call, reply, later);
  if (later) return;
  if (fault.late.count() == 0) return reply(std::move(result));
  timers.push_back(std::make_unique<base::Timer>(loop, fault.late, std::chrono::milliseconds(0),
                                                 [reply, result = std::move(result)] { reply(result); }));
}

Result<std::string> FakeShim::Impl::answer(const ttrpc::Call& call, const ttrpc::Reply& reply, bool& later) {
  if (call.method == "Connect") {
    wire::ConnectResponse response;
    response.set_shim_pid(static_cast<std::uint32_t>(options.shim_pid != 0 ? options.shim_pid : ::getpid()));
    return response.SerializeAsString();
  }
  if (call.method == "Create") return create(call.payload);
  if (call.method == "Exec") return exec(call.payload);
  if (call.method == "Kill") return kill(call.payload);
  if (call.method == "ResizePty" || call.method == "CloseIO") return std::string();
  if (call.method == "Shutdown") {
    if (options.on_shutdown) loop.post(options.on_shutdown);
    return std::string();
  }
  wire::ProcessRequest request;
  request.ParseFromString(call.payload);
  const Key key{request.id(), request.exec_id()};
  const auto found = tasks.find(key);
  if (found == tasks.end()) return Error::not_found("container not created");
  if (call.method == "Start") return start(key, found->second);
  if (call.method == "Delete") return remove(key);
  if (call.method == "State") {
    wire::StateResponse response;
    response.set_status(found->second.status);
    response.set_pid(static_cast<std::uint32_t>(found->second.pid));
    response.set_exit_status(found->second.exit_status);
    *response.mutable_exited_at() = found->second.exited_at;
    return response.SerializeAsString();
  }
  if (call.method == "Wait") {
    if (found->second.status != wire::STOPPED) {
      found->second.waiters.push_back(reply);
      later = true;
      return std::string();
    }
    return wait_response(found->second);
  }
  return ttrpc::unimplemented(call);
}

Result<std::string> FakeShim::Impl::create(const std::string& payload) {
  constexpr std::size_t kConfigBytesMax = 1u << 20;
  wire::CreateTaskRequest request;
  request.ParseFromString(payload);
  const Key key{request.id(), ""};
  if (tasks.contains(key)) return Error::unknown("container with given ID already exists");
  TRY(const std::string text, base::read_file(request.bundle() + "/config.json", kConfigBytesMax));
  TRY(const base::Json config, base::parse_json(text, "config.json"));
  TRY(const auto args, base::get_string_list(config.at("process"), "args"));
  Task& task = tasks[key];
  task.args = args.value_or(std::vector<std::string>{"/bin/true"});
  task.out_path = request.stdout();
  task.err_path = request.stderr();
  TRY_VOID(spawn(key, task));
  wire::CreateTaskResponse response;
  response.set_pid(static_cast<std::uint32_t>(task.pid));
  return response.SerializeAsString();
}

// The process exists before it runs the command, as runc's init does: it waits to be told.
base::Status FakeShim::Impl::spawn(const Key& key, Task& task) {
  TRY(base::Pipe go, base::make_pipe());
  const base::Fd out = open_output(task.out_path), err = open_output(task.err_path);
  base::SpawnOptions child;
  child.argv = {"/bin/sh", "-c", "read line <&3 || exit 255; exec 3<&-; exec \"$@\"", "sh"};
  child.argv.insert(child.argv.end(), task.args.begin(), task.args.end());
  child.env = {"PATH=/bin:/usr/bin"};
  child.stdout_fd = out.get();
  child.stderr_fd = err.get();
  child.extra_fds = {go.read_end.get()};
  TRY(base::Process process, base::Process::spawn(child));
  task.go = std::move(go.write_end);
  task.pid = process.pid();
  task.watch = std::make_unique<base::Watch>(loop, process.release_pidfd(), [this, key] { ended(key); });
  return {};
}

Result<std::string> FakeShim::Impl::start(const Key& key, Task& task) {
  if (task.status != wire::CREATED) return Error::unknown("cannot start a running process");
  if (!task.watch) TRY_VOID(spawn(key, task));  // an exec has no process before
  if (::write(task.go.get(), "\n", 1) != 1) return Error::from_errno(errno, "starting");
  task.go.reset();
  task.status = wire::RUNNING;
  wire::StartResponse response;
  response.set_pid(static_cast<std::uint32_t>(task.pid));
  return response.SerializeAsString();
}

Result<std::string> FakeShim::Impl::exec(const std::string& payload) {
  wire::ExecProcessRequest request;
  request.ParseFromString(payload);
  if (!tasks.contains({request.id(), ""})) return Error::not_found("container not created");
  const Key key{request.id(), request.exec_id()};
  if (tasks.contains(key)) return Error::already_exists("id already exists");
  TRY(const base::Json process, base::parse_json(request.spec().value(), "process"));
  TRY(const auto args, base::get_string_list(process, "args"));
  Task& task = tasks[key];
  task.args = args.value_or(std::vector<std::string>{"/bin/true"});
  task.out_path = request.stdout();
  task.err_path = request.stderr();
  return std::string();
}

Result<std::string> FakeShim::Impl::kill(const std::string& payload) {
  wire::KillRequest request;
  request.ParseFromString(payload);
  const auto found = tasks.find({request.id(), request.exec_id()});
  if (found == tasks.end()) return Error::not_found("container not created");
  if (found->second.status == wire::STOPPED || !found->second.watch)
    return Error::not_found("process already finished");
  TRY_VOID(base::send_signal(found->second.watch->fd(), static_cast<int>(request.signal())));
  return std::string();
}

Result<std::string> FakeShim::Impl::remove(const Key& key) {
  Task& task = tasks.at(key);
  if (task.status == wire::RUNNING) return Error::unknown("cannot delete a running process");
  wire::DeleteResponse response;
  response.set_pid(static_cast<std::uint32_t>(task.pid));
  response.set_exit_status(task.exit_status);
  *response.mutable_exited_at() = task.exited_at;
  if (task.watch) end_process(task);
  tasks.erase(key);
  return response.SerializeAsString();
}

void FakeShim::Impl::end_process(Task& task) {
  [[maybe_unused]] const auto killed = base::send_signal(task.watch->fd(), SIGKILL);
  [[maybe_unused]] const auto gone = base::wait_exited(base::Context::cleanup(), task.watch->fd());
  base::reap(task.watch->fd());
  task.watch.reset();
}

void FakeShim::Impl::ended(const Key& key) {
  Task& task = tasks.at(key);
  const auto exit = base::reap(task.watch->fd());
  task.watch.reset();
  task.status = wire::STOPPED;
  task.exit_status = exit ? static_cast<std::uint32_t>(exit->exit_code) : 255;
  task.exited_at = now();
  const auto waiters = std::exchange(task.waiters, {});
  for (const ttrpc::Reply& waiter : waiters) waiter(wait_response(task));
}

std::string FakeShim::Impl::wait_response(const Task& task) {
  wire::WaitResponse response;
  response.set_exit_status(task.exit_status);
  *response.mutable_exited_at() = task.exited_at;
  return response.SerializeAsString();
}

}  // namespace fakes
