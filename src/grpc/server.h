// A gRPC server, as much of one as a Nomad agent needs, without grpc++: plaintext HTTP/2 on unix sockets, methods
// routed by their full path, uncompressed messages.
//
// threads   Registration before the first listen() or serve(), on one thread. Handlers run as each method says.
// waiting   A call that waits costs no thread: async and bidi handlers return at once and answer through their Call.
// spec      PROTOCOL-HTTP2.md of grpc; the limits are in status.h
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/context.h"
#include "base/crew.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/result.h"
#include "grpc/call.h"
#include "grpc/status.h"

namespace grpc {

/// Blocks as long as it wants, on a crew thread named after the method. ctx carries the client's deadline and is
/// stopped when the client cancels or is lost.
using UnaryHandler = std::function<base::Result<std::string>(const base::Context& ctx, std::string_view request)>;
/// How a method tells its errors.
using StatusOf = std::function<Status(const base::Error&)>;
/// The code and message as they are.
Status plain_status(const base::Error& error);

/// Runs on a crew thread; leaves the call with whoever will have news for it (keep() what subscribes it) and returns.
using AsyncHandler = std::function<void(const std::shared_ptr<Call>& call, const std::string& request)>;

/// What a bidirectional call hears from its client. On the loop's thread; may be empty. Dropped when the call ends.
struct BidiHandlers {
  std::function<void(std::string message)> on_message;
  std::function<void()> on_half_close;  ///< the client will send no more (grpc-go's exec stream never says so)
};
/// Called on the loop's thread when the head of the call is here.
using BidiHandler = std::function<BidiHandlers(const std::shared_ptr<Call>& call)>;

class Server {
 public:
  /// The loop and crew outlive the server, and every Call that it hands out. A connection whose preface, or a header
  /// block, takes longer than `head_timeout` is closed.
  Server(base::Loop& loop, base::Crew& crew, std::chrono::milliseconds head_timeout = kRequestHeadTimeout);
  /// close() without grace.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Registration, by full path: "/package.Service/Method". Unknown paths answer UNIMPLEMENTED.

  void unary(std::string path, UnaryHandler handler, StatusOf status_of = plain_status);
  void async(std::string path, AsyncHandler handler, StatusOf status_of = plain_status);
  void bidi(std::string path, BidiHandler handler);
  /// Answers every request with the same message, without a thread: for what is asked all the time.
  void constant(std::string path, std::string reply);
  /// Answers every call with `status` at its head.
  void refuse(std::string path, Status status);

  /// Accepts connections from now on. `admit` looks at a socket (its peer's credentials) before a byte is read from it;
  /// false closes it. Any thread but the loop's.
  void listen(base::Fd listening_socket, std::function<bool(int socket)> admit = {});
  /// Serves a socket that is connected already.
  void serve(base::Fd socket);

  /// Stops accepting, cancels what is open, sends what is queued (100 ms at most) and closes all connections; then
  /// waits for blocking handlers to return, `grace` at most. Any thread but the loop's and the handlers'.
  void close(std::chrono::milliseconds grace);

  /// Open connections and unfinished calls, for tests and diagnostics.
  struct Load {
    std::size_t connections = 0;
    std::size_t calls = 0;
    std::size_t request_bytes = 0;
  };
  Load load() const;

  struct Core;

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace grpc
