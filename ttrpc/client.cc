#include "ttrpc/client.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/sync.h"
#include "ttrpc/connection.h"
#include "ttrpc/proto/ttrpc.pb.h"

namespace ttrpc {

namespace {

using Callback = std::function<void(base::Result<std::string>)>;

/// Stream ids are 31 bits by convention and never reused: a client that has used them up must reconnect.
constexpr std::uint32_t kStreamIdMax = 0x7fffffff;

base::Result<std::string> encode_request(const std::string& service, const std::string& method,
                                         const std::string& payload, const Metadata& metadata,
                                         std::chrono::nanoseconds timeout);
base::Result<std::string> decode_response(const Frame& frame);

}  // namespace

// Everything below is touched on the loop thread only.
struct Client::State {
  explicit State(base::Loop& l) : loop(l) {}

  base::Loop& loop;
  std::unique_ptr<Connection> connection;
  std::map<std::uint32_t, Callback> pending;
  std::uint32_t next_stream_id = 1;
  std::optional<base::Error> closed;
  bool abandoned = false;
  std::vector<std::function<void(const base::Error&)>> on_close;

  void open(const std::shared_ptr<State>& self, base::Fd socket);
  std::uint32_t send(const std::string& request, Callback callback);
  void answer(const Frame& frame);
  void lost(const base::Error& error);
};

base::Result<std::shared_ptr<Client>> Client::connect(base::Loop& loop, const std::string& path) {
  TRY(base::Fd socket, base::connect_unix(path));
  return over(loop, std::move(socket));
}

std::shared_ptr<Client> Client::over(base::Loop& loop, base::Fd socket) {
  auto state = std::make_shared<State>(loop);
  auto shared_socket = std::make_shared<base::Fd>(std::move(socket));  // std::function wants copyable captures
  loop.post([state, shared_socket] { state->open(state, std::move(*shared_socket)); });
  return std::shared_ptr<Client>(new Client(std::move(state)));
}

Client::Client(std::shared_ptr<State> state) : state_(std::move(state)) {}

Client::~Client() {
  state_->loop.post([state = state_] {
    state->abandoned = true;
    if (state->connection) state->connection->close(base::Error::unavailable("the connection was closed by us"));
    state->connection.reset();
  });
}

base::Result<std::string> Client::call(const base::Context& ctx, const std::string& service, const std::string& method,
                                       const std::string& payload, const Metadata& metadata) {
  CHECK(!state_->loop.on_loop_thread());
  TRY_VOID(ctx.check());
  const auto timeout = ctx.has_deadline() ? ctx.remaining() : std::chrono::nanoseconds(0);
  TRY(std::string request, encode_request(service, method, payload, metadata, timeout));
  const base::OneShot<base::Result<std::string>> done;
  const auto stream_id = std::make_shared<std::uint32_t>(0);
  state_->loop.post([state = state_, request = std::move(request), done, stream_id] {
    *stream_id = state->send(request, [done](base::Result<std::string> answer) { done.set(std::move(answer)); });
  });
  auto answer = done.wait(ctx);
  if (answer) return *std::move(answer);
  state_->loop.post([state = state_, stream_id] { state->pending.erase(*stream_id); });
  return std::move(answer).error().wrap(base::str("no answer to ", method));
}

void Client::call_async(const std::string& service, const std::string& method, const std::string& payload,
                        std::function<void(base::Result<std::string>)> callback) {
  auto request = encode_request(service, method, payload, {}, std::chrono::nanoseconds(0));
  state_->loop.post([state = state_, request = std::move(request), callback = std::move(callback)] {
    if (!request) return callback(request.error());
    state->send(*request, callback);
  });
}

void Client::on_close(std::function<void(const base::Error&)> callback) {
  state_->loop.post([state = state_, callback = std::move(callback)] {
    if (state->abandoned) return;
    if (state->closed) return callback(*state->closed);
    state->on_close.push_back(callback);
  });
}

void Client::State::open(const std::shared_ptr<State>& self, base::Fd socket) {
  // The state owns the connection, so its callbacks must not own the state.
  const std::weak_ptr<State> weak = self;
  Connection::Callbacks callbacks;
  callbacks.on_frame = [weak](const Frame& frame) {
    if (const auto state = weak.lock()) state->answer(frame);
  };
  callbacks.on_close = [weak](const base::Error& error) {
    if (const auto state = weak.lock()) state->lost(error);
  };
  connection = std::make_unique<Connection>(loop, std::move(socket), std::move(callbacks));
}

// Returns the stream id, 0 if nothing was sent (and the callback has run).
std::uint32_t Client::State::send(const std::string& request, Callback callback) {
  if (abandoned || closed) {
    callback(closed ? *closed : base::Error::unavailable("the connection was closed by us"));
    return 0;
  }
  if (pending.size() >= kCallsInFlightMax) {
    callback(base::Error::resource_exhausted(base::str(kCallsInFlightMax, " calls are waiting for an answer already")));
    return 0;
  }
  if (next_stream_id > kStreamIdMax) {
    callback(base::Error::unavailable("all stream ids of the connection are used up: connect again"));
    return 0;
  }
  // Ids must increase on the wire: allocated and written in one go, on one thread.
  const std::uint32_t stream_id = next_stream_id;
  next_stream_id += 2;
  pending.emplace(stream_id, std::move(callback));
  connection->send(FrameType::kRequest, stream_id, request);
  return stream_id;
}

void Client::State::answer(const Frame& frame) {
  if (frame.type != static_cast<std::uint8_t>(FrameType::kResponse)) return;
  const auto found = pending.find(frame.stream_id);
  if (found == pending.end()) return;  // late: its caller has given up
  const Callback callback = std::move(found->second);
  pending.erase(found);
  callback(decode_response(frame));
}

void Client::State::lost(const base::Error& error) {
  // Whatever ended the connection, for a caller it is "gone, outcome unknown".
  closed = base::Error::unavailable(error.message);
  const auto calls = std::exchange(pending, {});
  for (const auto& [stream_id, callback] : calls) callback(*closed);
  const auto listeners = std::exchange(on_close, {});
  if (abandoned) return;
  for (const auto& listener : listeners) listener(*closed);
}

namespace {

base::Result<std::string> encode_request(const std::string& service, const std::string& method,
                                         const std::string& payload, const Metadata& metadata,
                                         std::chrono::nanoseconds timeout) {
  proto::Request request;
  request.set_service(service);
  request.set_method(method);
  request.set_payload(payload);
  request.set_timeout_nano(timeout.count());
  for (const auto& [key, value] : metadata) {
    auto* entry = request.add_metadata();
    entry->set_key(key);
    entry->set_value(value);
  }
  // Checked here because old peers answer a larger frame by dropping it: nothing must be sent.
  if (request.ByteSizeLong() > kFrameDataBytesMax) {
    return base::Error::resource_exhausted(base::str("the request for ", method, " has ", request.ByteSizeLong(),
                                                     " bytes, the limit is ", kFrameDataBytesMax));
  }
  return request.SerializeAsString();
}

base::Result<std::string> decode_response(const Frame& frame) {
  if (frame.oversized_bytes > 0) {
    return base::Error::resource_exhausted(
        base::str("the answer has ", frame.oversized_bytes, " bytes, the limit is ", kFrameDataBytesMax));
  }
  proto::Response response;
  if (!response.ParseFromString(frame.data)) return base::Error::data_loss("the answer is not a ttrpc response");
  if (response.status().code() != 0) {
    return base::Error{base::code_from_int(response.status().code()), response.status().message()};
  }
  return std::move(*response.mutable_payload());
}

}  // namespace

}  // namespace ttrpc
