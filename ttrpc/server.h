// A ttrpc server on a unix socket: for the events that shims send, and for fakes in tests. Handlers run on the loop
// thread, one call after the other in the order of arrival, so they must not block. A peer that misbehaves costs its
// own connection (or only its own call), never the process and never other peers.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/loop.h"
#include "base/result.h"
#include "ttrpc/client.h"

namespace ttrpc {

struct Call {
  std::string service;
  std::string method;
  std::string payload;
  Metadata metadata;
  std::chrono::nanoseconds timeout{0};  ///< as the caller gave it, from when it sent; 0 = none
};

/// Answers one call: the response's payload, or an error whose code and message the peer gets. Any thread, later if
/// need be; the first answer counts. Never answering is possible and leaves the caller to its own deadline.
using Reply = std::function<void(base::Result<std::string>)>;

/// For an unknown service or method the answer is kUnimplemented (unimplemented() below).
using Handler = std::function<void(const Call&, const Reply&)>;

/// The answer that ttrpc clients expect for what a server does not have.
base::Error unimplemented(const Call& call);

struct ServerOptions {
  std::size_t connections_max = 4096;      ///< one per shim; further ones are closed at once
  std::size_t calls_in_flight_max = 1024;  ///< a connection; beyond: kResourceExhausted
};

/// threads  any for listen() and the destructor
class Server {
 public:
  /// Listens on `path` (mode 0600, a stale socket file is replaced). Peers of another uid or gid are closed unheard.
  static base::Result<std::unique_ptr<Server>> listen(base::Loop& loop, const std::string& path, Handler handler,
                                                      ServerOptions options = {});

  /// The same over a listening socket that somebody else made; `path` is the file to remove at the end, "" = none.
  static std::unique_ptr<Server> over(base::Loop& loop, base::Fd listening_socket, const std::string& path,
                                      Handler handler, ServerOptions options = {});

  /// Closes all connections and removes the socket file. No handler runs any more when this returns.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Open connections now. Any thread but the loop's.
  std::size_t connection_count() const;

 private:
  struct State;
  explicit Server(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace ttrpc
