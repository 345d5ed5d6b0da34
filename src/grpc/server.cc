#include "grpc/server.h"

#include "grpc/connection.h"

namespace grpc {

namespace {

std::string last_component(const std::string& path);
void add_method(Server::Core& core, std::string path, Method method);

}  // namespace

Status plain_status(const base::Error& error) {
  return {error.code, error.message};
}

Server::Server(base::Loop& loop, base::Crew& crew, std::chrono::milliseconds head_timeout)
    : core_(std::make_shared<Core>(loop, crew, head_timeout)) {}

Server::~Server() {
  close(std::chrono::milliseconds(0));
}

void Server::unary(std::string path, UnaryHandler handler, StatusOf status_of) {
  add_method(*core_, std::move(path), {{}, Method::Unary{std::move(handler), std::move(status_of)}});
}

void Server::async(std::string path, AsyncHandler handler, StatusOf status_of) {
  add_method(*core_, std::move(path), {{}, Method::Async{std::move(handler), std::move(status_of)}});
}

void Server::bidi(std::string path, BidiHandler handler) {
  add_method(*core_, std::move(path), {{}, Method::Bidi{std::move(handler)}});
}

void Server::constant(std::string path, std::string reply) {
  add_method(*core_, std::move(path), {{}, Method::Constant{std::move(reply)}});
}

void Server::refuse(std::string path, Status status) {
  CHECK(!status.ok());
  add_method(*core_, std::move(path), {{}, Method::Refused{std::move(status)}});
}

void Server::listen(base::Fd listening_socket, std::function<bool(int socket)> admit) {
  core_->loop.run([&] {
    auto* core = core_.get();  // owns the listener
    core_->listener = std::make_unique<base::Listener>(core_->loop, std::move(listening_socket),
                                                       [core, admit = std::move(admit)](base::Fd socket) {
                                                         if (admit && !admit(socket.get())) return;
                                                         const auto keep = core->shared_from_this();
                                                         Connection::open(keep, std::move(socket));
                                                       });
  });
}

void Server::serve(base::Fd socket) {
  core_->loop.run([&] { Connection::open(core_, std::move(socket)); });
}

void Server::close(std::chrono::milliseconds grace) {
  core_->loop.run([this] {
    core_->closing = true;
    core_->listener.reset();
    for (const auto& connection : std::set(core_->connections)) connection->shut();
    if (core_->connections.empty()) core_->all_closed.set(true);
  });
  // A connection closes itself when its last words are out, after 100 ms at the latest.
  [[maybe_unused]] const auto closed = core_->all_closed.wait(base::Context::cleanup());
  core_->running->wait_idle(grace);
}

Server::Load Server::load() const {
  Load load;
  core_->loop.run([&] {
    load.connections = core_->connections.size();
    for (const auto& connection : core_->connections) {
      load.calls += connection->calls();
      load.request_bytes += connection->request_bytes();
    }
  });
  return load;
}

std::shared_ptr<void> Running::enter(std::shared_ptr<Running> running) {
  {
    std::lock_guard lock(running->mutex_);
    ++running->count_;
  }
  auto* counter = running.get();
  return std::shared_ptr<void>(counter, [running = std::move(running)](void*) {
    std::lock_guard lock(running->mutex_);
    --running->count_;
    running->changed_.notify_all();
  });
}

void Running::wait_idle(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, at_most, [this] { return count_ == 0; });
}

namespace {

std::string last_component(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

void add_method(Server::Core& core, std::string path, Method method) {
  CHECK(core.connections.empty() && core.listener == nullptr);
  method.name = last_component(path);
  const bool added = core.methods.emplace(std::move(path), std::move(method)).second;
  CHECK(added);
}

}  // namespace

}  // namespace grpc
