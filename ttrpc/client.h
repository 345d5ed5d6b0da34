// A ttrpc client: calls over one unix socket, any number in flight, answered in any order.
//
// A call that waits for long (a shim's Wait) is call_async: it costs an entry in a map, no thread. ttrpc has no cancel:
// a caller whose context ends forgets the call, and the late answer is dropped in silence. Closing the connection is
// the peer's only sign, and it cancels everything that runs there, so a client is kept for as long as its peer lives.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/context.h"
#include "base/loop.h"
#include "base/result.h"

namespace ttrpc {

/// Calls of one client without an answer; beyond: kResourceExhausted, nothing is sent.
inline constexpr std::size_t kCallsInFlightMax = 1024;

using Metadata = std::vector<std::pair<std::string, std::string>>;  ///< keys in lower case; may repeat

/// threads  any, except the loop's for call(). The loop outlives the client.
class Client {
 public:
  /// Connects to a listening socket. Instant; that somebody answers is only known after the first call.
  ///   errors  kNotFound no such socket · kUnavailable nobody listens
  static base::Result<std::shared_ptr<Client>> connect(base::Loop& loop, const std::string& path);
  /// The same over a connected socket.
  static std::shared_ptr<Client> over(base::Loop& loop, base::Fd socket);

  /// Closes the connection; pending calls end with kUnavailable.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// One call to its end. The peer is told the time left (timeout_nano) and may stop its work when that is over.
  ///   out     the response's payload (empty is a valid message)
  ///   errors  the peer's own code and message · kUnavailable the connection is lost: the outcome is unknown ·
  ///           kDeadlineExceeded, kCancelled ctx ended: the outcome is unknown · kResourceExhausted request or response
  ///           over 4 MiB, or too many calls · kDataLoss an answer that is not a ttrpc response
  ///   blocks  until ctx ends
  base::Result<std::string> call(const base::Context& ctx, const std::string& service, const std::string& method,
                                 const std::string& payload, const Metadata& metadata = {});

  /// One call without a time limit. `callback` runs exactly once, on the loop thread, with what call() would return.
  void call_async(const std::string& service, const std::string& method, const std::string& payload,
                  std::function<void(base::Result<std::string>)> callback);

  /// `callback` runs once on the loop thread when the connection is lost (soon, if it already is); not when this object
  /// is destroyed.
  void on_close(std::function<void(const base::Error&)> callback);

 private:
  struct State;
  explicit Client(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace ttrpc
