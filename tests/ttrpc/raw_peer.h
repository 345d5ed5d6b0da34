// The other end of a ttrpc connection, byte by byte: says what no well-behaved peer would.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "base/context.h"
#include "base/fd.h"
#include "ttrpc/frame.h"  // before doctest, whose CHECK is the one that tests mean
#include "ttrpc/proto/ttrpc.pb.h"

namespace ttrpc_test {

inline base::Context soon() {
  return base::Context::background().with_timeout(std::chrono::seconds(20));
}

template <typename T>
T must(base::Result<T> result) {
  if (!result) FAIL(result.error().message);
  return *std::move(result);
}
inline void must(const base::Status& status) {
  if (!status) FAIL(status.error().message);
}

/// Repeats until `condition` holds; false when that takes longer than soon().
template <typename Condition>
bool eventually(const Condition& condition) {
  const base::Context ctx = soon();
  while (!condition()) {
    if (!ctx.sleep(std::chrono::milliseconds(1))) return false;
  }
  return true;
}

inline std::pair<base::Fd, base::Fd> socket_pair() {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {base::Fd(fds[0]), base::Fd(fds[1])};
}

/// Any header, also one that encode_frame refuses to make.
inline std::string header(std::uint32_t length, std::uint32_t stream_id, std::uint8_t type, std::uint8_t flags = 0) {
  std::string out;
  for (const std::uint32_t value : {length, stream_id}) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
  }
  out.push_back(static_cast<char>(type));
  out.push_back(static_cast<char>(flags));
  return out;
}

inline std::string request_bytes(const std::string& service, const std::string& method, const std::string& payload) {
  ttrpc::proto::Request request;
  request.set_service(service);
  request.set_method(method);
  request.set_payload(payload);
  return request.SerializeAsString();
}

inline std::string response_bytes(const std::string& payload, int code = 0, const std::string& message = "") {
  ttrpc::proto::Response response;
  response.set_payload(payload);
  if (code != 0) {
    response.mutable_status()->set_code(code);
    response.mutable_status()->set_message(message);
  }
  return response.SerializeAsString();
}

class RawPeer {
 public:
  explicit RawPeer(base::Fd socket) : socket_(std::move(socket)) {
    ::signal(SIGPIPE, SIG_IGN);  // as the programs do: a closed connection is an error, not the end
  }

  void send(const std::string& bytes) { must(base::write_all(soon(), socket_.get(), bytes)); }
  void send_slowly(const std::string& bytes) {
    for (const char byte : bytes) send(std::string(1, byte));
  }
  void respond(std::uint32_t stream_id, const std::string& payload, int code = 0, const std::string& message = "") {
    send(ttrpc::encode_frame(ttrpc::FrameType::kResponse, stream_id, response_bytes(payload, code, message)));
  }
  void request(std::uint32_t stream_id, const std::string& service, const std::string& method,
               const std::string& payload) {
    send(ttrpc::encode_frame(ttrpc::FrameType::kRequest, stream_id, request_bytes(service, method, payload)));
  }

  /// nullopt: the peer closed the connection.
  std::optional<ttrpc::Frame> read_frame() {
    while (true) {
      std::string_view rest(buffer_);
      auto frame = must(decoder_.next(rest));
      buffer_.erase(0, buffer_.size() - rest.size());
      if (frame) return frame;
      std::array<char, 4096> chunk;
      const auto n = base::read_some(soon(), socket_.get(), chunk);
      if (!n || *n == 0) return std::nullopt;
      buffer_.append(chunk.data(), *n);
    }
  }
  ttrpc::proto::Request read_request(std::uint32_t* stream_id = nullptr) {
    const auto frame = read_frame();
    REQUIRE(frame.has_value());
    CHECK(frame->type == 1);
    CHECK(frame->flags == 0);
    if (stream_id != nullptr) *stream_id = frame->stream_id;
    ttrpc::proto::Request request;
    REQUIRE(request.ParseFromString(frame->data));
    return request;
  }
  ttrpc::proto::Response read_response(std::uint32_t stream_id) {
    const auto frame = read_frame();
    REQUIRE(frame.has_value());
    CHECK(frame->type == 2);
    CHECK(frame->stream_id == stream_id);
    ttrpc::proto::Response response;
    REQUIRE(response.ParseFromString(frame->data));
    return response;
  }

  void close() { socket_.reset(); }
  int fd() const { return socket_.get(); }

 private:
  base::Fd socket_;
  ttrpc::FrameDecoder decoder_;
  std::string buffer_;
};

}  // namespace ttrpc_test
