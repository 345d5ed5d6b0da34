// One HTTP/2 connection in the server's role, without the socket: bytes in, events and bytes out. A thin wrapper of an
// nghttp2 session plus the limits that nghttp2 1.52 does not set (floods of control frames, resets, continuations).
// The only file that includes <nghttp2/...>.
//
// threads   one: the loop's. Everything below is called, and calls back, on it.
// spec      RFC 9113; prior knowledge (no upgrade, no TLS)
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grpc/status.h"

namespace grpc {

using StreamId = std::int32_t;
/// Names in lower case; pseudo header fields first.
using Headers = std::vector<std::pair<std::string, std::string>>;

/// The fields of a request that a gRPC server looks at; absent ones are empty.
struct RequestHead {
  std::string method;
  std::string path;
  std::string content_type;
  std::string timeout;   ///< grpc-timeout
  std::string encoding;  ///< grpc-encoding
};

/// What a session tells its owner. Every method may call the session's sending methods, none may call receive() or
/// output().
class SessionEvents {
 public:
  virtual ~SessionEvents() = default;
  virtual void on_head_begin() {}  ///< a header block began that is not complete yet
  virtual void on_head_end() {}    ///< it is
  virtual void on_request(StreamId stream, const RequestHead& head) = 0;
  virtual void on_data(StreamId stream, std::string_view bytes) = 0;  ///< valid during the call
  virtual void on_end(StreamId stream) = 0;                           ///< the client will send no more
  virtual void on_sent(StreamId stream, std::size_t bytes) = 0;       ///< so much of the body went to output()
  virtual void on_closed(StreamId stream) = 0;  ///< both sides are done, or one reset it: forget it. Exactly once.
};

class Session {
 public:
  /// `events` outlives the session.
  explicit Session(SessionEvents& events);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Takes bytes from the peer. An error means that the connection is lost: send what output() still gives (a GOAWAY
  /// with the reason), then close. Later calls do nothing.
  ///   errors  kInvalidArgument not HTTP/2, or a violation of it · kResourceExhausted over one of our limits
  base::Status receive(std::string_view bytes);
  /// The peer's preface and first SETTINGS are here.
  bool established() const;

  /// Bytes for the peer, about `bytes_max` of them; empty when there is nothing to say now.
  std::string output(std::size_t bytes_max);
  /// Frames that wait for output(), without DATA.
  std::size_t outbound_frames() const;
  /// Nothing more will be read or written: a GOAWAY was exchanged and all streams have ended.
  bool finished() const;

  // Sending. A stream that is closed already is left alone without an error: the caller may not know yet.

  /// The head of a response whose body and trailers follow.
  void start_response(StreamId stream, const Headers& head);
  /// Body bytes, in order, as the peer's flow control windows allow.
  void write(StreamId stream, std::string bytes);
  /// Trailers once the body is out. If the client has not ended its side, RST_STREAM(NO_ERROR) follows.
  void finish(StreamId stream, const Headers& trailers);
  /// A response that is nothing but a head (gRPC's "Trailers-Only").
  void respond(StreamId stream, const Headers& head);
  /// Opens the stream's receive window again by what has been dealt with; the connection's window opens by itself, so
  /// that one stream that is not read cannot stop the others.
  void consume(StreamId stream, std::size_t bytes);
  /// GOAWAY(NO_ERROR): no new streams from now on.
  void go_away();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace grpc
