#include "ttrpc/server.h"

#include <unistd.h>

#include <map>
#include <set>
#include <utility>

#include "base/log.h"
#include "ttrpc/connection.h"
#include "ttrpc/proto/ttrpc.pb.h"

namespace ttrpc {

namespace {

constexpr int kListenBacklog = 128;

bool same_user(int socket);
base::Result<Call> decode_request(const Frame& frame);
std::string encode_response(const base::Result<std::string>& answer);

}  // namespace

// Touched on the loop thread only, except for what is const.
struct Server::State : std::enable_shared_from_this<Server::State> {
  struct Peer {
    std::unique_ptr<Connection> connection;
    std::uint32_t last_stream_id = 0;
    std::set<std::uint32_t> in_flight;
  };

  State(base::Loop& l, std::string p, Handler h, ServerOptions o)
      : loop(l), path(std::move(p)), handler(std::move(h)), options(o) {}

  base::Loop& loop;
  const std::string path;
  const Handler handler;
  const ServerOptions options;
  std::unique_ptr<base::Listener> listener;
  std::uint64_t next_peer_id = 1;
  std::map<std::uint64_t, Peer> peers;

  void accept(base::Fd socket);
  void on_frame(std::uint64_t peer_id, const Frame& frame);
  base::Status admit(Peer& peer, const Frame& frame) const;
  void respond(std::uint64_t peer_id, std::uint32_t stream_id, const base::Result<std::string>& answer);
};

base::Result<std::unique_ptr<Server>> Server::listen(base::Loop& loop, const std::string& path, Handler handler,
                                                     ServerOptions options) {
  TRY(base::Fd socket, base::listen_unix(path, kListenBacklog));
  return over(loop, std::move(socket), path, std::move(handler), options);
}

std::unique_ptr<Server> Server::over(base::Loop& loop, base::Fd listening_socket, const std::string& path,
                                     Handler handler, ServerOptions options) {
  auto state = std::make_shared<State>(loop, path, std::move(handler), options);
  loop.run([&] {
    auto on_accept = [weak = state->weak_from_this()](base::Fd peer) {
      if (const auto self = weak.lock()) self->accept(std::move(peer));
    };
    state->listener = std::make_unique<base::Listener>(loop, std::move(listening_socket), std::move(on_accept));
  });
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

Server::Server(std::shared_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() {
  state_->loop.run([this] {
    state_->listener.reset();
    state_->peers.clear();
  });
  if (!state_->path.empty()) ::unlink(state_->path.c_str());
}

std::size_t Server::connection_count() const {
  std::size_t count = 0;
  state_->loop.run([&] { count = state_->peers.size(); });
  return count;
}

base::Error unimplemented(const Call& call) {
  return base::Error::unimplemented(base::str("service ", call.service, " has no method ", call.method));
}

void Server::State::accept(base::Fd socket) {
  if (!same_user(socket.get())) return;
  if (peers.size() >= options.connections_max) {
    LOG_WARN("refused a connection: too many are open", {{"socket", path}, {"limit", options.connections_max}});
    return;
  }
  const std::uint64_t peer_id = next_peer_id++;
  const auto weak = weak_from_this();
  Connection::Callbacks callbacks;
  callbacks.on_frame = [weak, peer_id](const Frame& frame) {
    if (const auto self = weak.lock()) self->on_frame(peer_id, frame);
  };
  callbacks.on_close = [weak, peer_id](const base::Error&) {
    if (const auto self = weak.lock()) self->peers.erase(peer_id);
  };
  peers[peer_id].connection = std::make_unique<Connection>(loop, std::move(socket), std::move(callbacks));
}

void Server::State::on_frame(std::uint64_t peer_id, const Frame& frame) {
  const auto found = peers.find(peer_id);
  if (found == peers.end() || frame.type == static_cast<std::uint8_t>(FrameType::kResponse)) return;
  if (base::Status admitted = admit(found->second, frame); !admitted) {
    found->second.connection->send(FrameType::kResponse, frame.stream_id, encode_response(admitted.error()));
    return;
  }
  const std::uint32_t stream_id = frame.stream_id;
  found->second.in_flight.insert(stream_id);
  auto call = decode_request(frame);
  if (!call) return respond(peer_id, stream_id, std::move(call).error());
  handler(*call, [weak = weak_from_this(), peer_id, stream_id](base::Result<std::string> answer) {
    const auto self = weak.lock();
    if (!self) return;
    if (self->loop.on_loop_thread()) return self->respond(peer_id, stream_id, answer);
    self->loop.post(
        [self, peer_id, stream_id, answer = std::move(answer)] { self->respond(peer_id, stream_id, answer); });
  });
}

// What a frame must be before its request is looked at.
base::Status Server::State::admit(Peer& peer, const Frame& frame) const {
  if (frame.type == static_cast<std::uint8_t>(FrameType::kData)) {
    return base::Error::invalid_argument(base::str("stream ", frame.stream_id, " is no longer active"));
  }
  if (frame.stream_id % 2 == 0) {
    return base::Error::invalid_argument(base::str("StreamID must be odd, got ", frame.stream_id));
  }
  if (frame.stream_id <= peer.last_stream_id) {
    return base::Error::invalid_argument(base::str("StreamID cannot be re-used, got ", frame.stream_id));
  }
  peer.last_stream_id = frame.stream_id;
  if (frame.oversized_bytes > 0) {
    return base::Error::resource_exhausted(
        base::str("message length ", frame.oversized_bytes, " exceeds the limit of ", kFrameDataBytesMax));
  }
  if (peer.in_flight.size() >= options.calls_in_flight_max) {
    return base::Error::resource_exhausted(
        base::str(options.calls_in_flight_max, " calls of this connection are waiting for an answer already"));
  }
  return {};
}

void Server::State::respond(std::uint64_t peer_id, std::uint32_t stream_id, const base::Result<std::string>& answer) {
  const auto found = peers.find(peer_id);
  if (found == peers.end() || found->second.in_flight.erase(stream_id) == 0) return;
  found->second.connection->send(FrameType::kResponse, stream_id, encode_response(answer));
}

namespace {

bool same_user(int socket) {
  const auto peer = base::peer_credentials(socket);
  return peer && peer->uid == ::geteuid() && peer->gid == ::getegid();
}

base::Result<Call> decode_request(const Frame& frame) {
  proto::Request request;
  if (!request.ParseFromString(frame.data)) return base::Error::invalid_argument("unmarshal request error");
  Call call;
  call.service = std::move(*request.mutable_service());
  call.method = std::move(*request.mutable_method());
  call.payload = std::move(*request.mutable_payload());
  call.timeout = std::chrono::nanoseconds(request.timeout_nano());
  for (auto& entry : *request.mutable_metadata()) {
    call.metadata.emplace_back(std::move(*entry.mutable_key()), std::move(*entry.mutable_value()));
  }
  return call;
}

std::string encode_response(const base::Result<std::string>& answer) {
  proto::Response response;
  if (answer) {
    response.set_payload(*answer);
    if (response.ByteSizeLong() <= kFrameDataBytesMax) return response.SerializeAsString();
    return encode_response(base::Error::resource_exhausted(
        base::str("the answer has ", response.ByteSizeLong(), " bytes, the limit is ", kFrameDataBytesMax)));
  }
  constexpr std::size_t kStatusMessageBytesMax = 64u << 10;  // an answer about an error must itself fit
  response.mutable_status()->set_code(static_cast<std::int32_t>(answer.error().code));
  response.mutable_status()->set_message(answer.error().message.substr(0, kStatusMessageBytesMax));
  return response.SerializeAsString();
}

}  // namespace

}  // namespace ttrpc
