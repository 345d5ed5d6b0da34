// One client's connection on the loop: joins a socket, an HTTP/2 session and the calls on it. Internal to src/grpc.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <variant>

#include "base/crew.h"
#include "base/loop.h"
#include "base/sync.h"
#include "grpc/call.h"
#include "grpc/http2.h"
#include "grpc/server.h"
#include "grpc/wire.h"

namespace grpc {

/// How a path is answered.
struct Method {
  struct Unary {
    UnaryHandler handler;
    StatusOf status_of;
  };
  struct Async {
    AsyncHandler handler;
    StatusOf status_of;
  };
  struct Bidi {
    BidiHandler handler;
  };
  struct Constant {
    std::string reply;
  };
  struct Refused {
    Status status;
  };
  std::string name;  ///< "StartTask": the thread's name
  std::variant<Unary, Async, Bidi, Constant, Refused> kind;
};

/// Counts blocking handlers, so that a closing server can wait for them.
class Running {
 public:
  /// Counted until the last copy is gone.
  static std::shared_ptr<void> enter(std::shared_ptr<Running> running);
  void wait_idle(std::chrono::milliseconds at_most);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

/// What all connections of a server share. `methods` is fixed once there are connections; the rest belongs to the loop.
struct Server::Core : std::enable_shared_from_this<Server::Core> {
  Core(base::Loop& l, base::Crew& c, std::chrono::milliseconds head) : loop(l), crew(c), head_timeout(head) {}
  base::Loop& loop;
  base::Crew& crew;
  const std::chrono::milliseconds head_timeout;
  std::map<std::string, Method, std::less<>> methods;
  std::shared_ptr<Running> running = std::make_shared<Running>();
  std::unique_ptr<base::Listener> listener;
  std::set<std::shared_ptr<Connection>> connections;
  bool closing = false;
  base::OneShot<bool> all_closed;  // set when closing and the last connection is gone
};

/// Loop thread only. Held by Core::connections from open() until the socket is closed.
class Connection final : public std::enable_shared_from_this<Connection>, private SessionEvents {
 public:
  static void open(const std::shared_ptr<Server::Core>& core, base::Fd socket);
  explicit Connection(std::shared_ptr<Server::Core> core);
  ~Connection() override;

  // For Call.
  void send(StreamId id, std::string frame);
  void finish(StreamId id, std::string frame, const Status& status);
  void pause(StreamId id);
  void resume(StreamId id);

  /// Cancels all calls, says GOAWAY, closes once what is queued is out (or after a moment).
  void shut();
  std::size_t calls() const { return open_.size(); }
  std::size_t request_bytes() const { return request_bytes_; }

 private:
  /// A call from its head to the end of its stream.
  struct Open {
    std::shared_ptr<Call> call;
    const Method* method = nullptr;
    std::unique_ptr<base::Timer> deadline;
    MessageReader reader;
    std::deque<std::string>
        messages;  // complete ones: a unary call's request, or what a paused bidi call has to wait for
    BidiHandlers bidi;
    std::size_t held_bytes = 0;        // our part of request_bytes_
    std::size_t unconsumed_bytes = 0;  // taken in while paused
    bool paused = false;
    bool half_closed = false;
    bool started = false;  // the response's head is out
    bool done = false;     // the response is complete, the stream not closed yet
  };

  void on_head_begin() override;
  void on_head_end() override;
  void on_request(StreamId id, const RequestHead& head) override;
  void on_data(StreamId id, std::string_view bytes) override;
  void on_end(StreamId id) override;
  void on_sent(StreamId id, std::size_t bytes) override;
  void on_closed(StreamId id) override;

  void start(base::Fd socket);
  void on_bytes(std::string_view bytes);
  void on_socket_closed();
  void flush();
  void close_soon();
  void watch_head();

  Open* find(StreamId id);
  void refuse(StreamId id, const Status& status);
  void begin_call(StreamId id, const Method& method, base::Deadline deadline);
  base::Status take_in(Open& open, std::string_view bytes);
  void deliver(StreamId id, Open& open);
  void dispatch(StreamId id, Open& open);
  void hold(Open& open);
  void release(Open& open);
  static void end_call(Open open);

  const std::shared_ptr<Server::Core> core_;
  Session session_;
  std::unique_ptr<base::Stream> socket_;
  std::map<StreamId, Open> open_;
  std::unique_ptr<base::Timer> head_timer_;
  std::unique_ptr<base::Timer> close_timer_;
  std::size_t request_bytes_ = 0;  // held for unfinished calls
  std::uint64_t heads_begun_ = 0;
  std::uint64_t head_watched_ = 0;  // the head that head_timer_ is for
  bool head_open_ = false;
  bool receiving_ = false;  // inside session_.receive(): output() has to wait
  bool reading_ = true;
  bool closing_ = false;  // nothing is taken in any more
  bool closed_ = false;   // the socket is gone
};

}  // namespace grpc
