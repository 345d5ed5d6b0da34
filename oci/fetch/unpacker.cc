#include "oci/fetch/unpacker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "base/process.h"
#include "base/thread.h"
#include "oci/fetch/unpack_stage.h"

namespace oci::fetch {

base::Result<std::unique_ptr<UnpackStarter>> UnpackStarter::start() {
  TRY(auto sockets, make_packet_sockets());
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return base::start_failed(errno, "starting the unpack stage");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    sockets.first.reset();
    run_unpack_starter(sockets.second.get());
  }
  return std::unique_ptr<UnpackStarter>(new UnpackStarter(std::move(sockets.first), pid));
}

// It ends with its socket, at once when no stage runs. Its CPU time, and that of its stages, counts as ours then.
UnpackStarter::~UnpackStarter() {
  socket_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

base::Status UnpackStarter::set_store(const base::Context& ctx, const std::string& data_dir) {
  return send_packet(ctx, socket_.get(), StoreIs{data_dir});
}

base::Result<std::unique_ptr<Unpacker>> UnpackStarter::start_unpack(const base::Context& ctx,
                                                                    const StartUnpack& request) {
  TRY(auto session, make_packet_sockets());
  TRY_VOID(send_packet(ctx, socket_.get(), request, {session.second.get()}));
  session.second.reset();
  TRY(auto started, receive_packet(ctx, socket_.get()));
  if (!started || !std::holds_alternative<UnpackStarted>(started->message) || started->fds.size() != 1) {
    return base::Error::internal("the unpack stage did not start");
  }
  std::unique_ptr<Unpacker> unpacker(new Unpacker(socket_.get(), std::move(session.first), std::move(started->fds[0])));
  TRY(auto first, unpacker->next(ctx));
  if (auto* failed = std::get_if<UnpackFailed>(&first)) return std::move(failed->error);
  if (!std::holds_alternative<UnpackReady>(first))
    return base::Error::internal("the unpack stage sent an unexpected message");
  return unpacker;
}

Unpacker::~Unpacker() {
  stop();
}

base::Status Unpacker::unpack(const base::Context& ctx, const UnpackLayer& layer, const BlobFds& fds) {
  return send_packet(ctx, session_.get(), layer, {fds.file.get(), fds.growth.get()});
}

base::Status Unpacker::settle(const base::Context& ctx, const SettleLayers& layers) {
  return send_packet(ctx, session_.get(), layers);
}

base::Result<UnpackMessage> Unpacker::next(const base::Context& ctx) {
  TRY(auto packet, receive_packet(ctx, session_.get()));
  if (packet) return std::move(packet->message);
  return end();
}

void Unpacker::stop() {
  if (pidfd_) [[maybe_unused]]
    const auto ended = end();
}

/// Kills it, and says what it died of if that was before.
base::Error Unpacker::end() {
  [[maybe_unused]] const auto sent = base::send_signal(pidfd_.get(), SIGKILL);
  pidfd_.reset();
  // The starter waits for it, and for nothing else.
  auto packet = receive_packet(base::Context::cleanup(), starter_);
  if (!packet) return std::move(packet).error();
  const auto* ended = *packet ? std::get_if<UnpackEnded>(&(*packet)->message) : nullptr;
  if (ended == nullptr) return base::Error::internal("the starter of the unpack stage is gone");
  if (ended->signal == SIGKILL) {
    return base::Error::unavailable("the unpack stage was killed; if by the kernel, this machine lacks memory");
  }
  if (ended->signal == 0) return base::Error::internal("the unpack stage ended unexpectedly");
  return base::Error::internal(base::str("the unpack stage was killed by ", base::signal_name(ended->signal)));
}

}  // namespace oci::fetch
