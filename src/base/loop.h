// One libuv thread owns every multiplexed socket, timer and watched descriptor. Code on it never blocks and never calls
// driver code; work leaves by posting to a Crew and comes back by Loop::post. Everything here is created, used and
// destroyed on the loop thread unless a method says "any thread".
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace base {

class Loop {
 public:
  /// Starts the thread ("loop"). Look at status() before anything is made on it.
  Loop();
  /// Stops it: closes what is still open, joins. Must not be called on the loop thread.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// kResourceExhausted if no thread or no descriptors were left for it: post() and run() drop what they get, then.
  const Status& status() const;

  /// Runs `fn` on the loop thread, in order of posting. Any thread. After shutdown began `fn` is dropped.
  void post(std::function<void()> fn);
  /// post() and wait for it to have run. Any thread but the loop's own (there it runs inline).
  void run(const std::function<void()>& fn);
  bool on_loop_thread() const;

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// A timer. Destroying it cancels it. Loop thread only.
class Timer {
 public:
  Timer(Loop& loop, std::chrono::milliseconds first, std::chrono::milliseconds repeat, std::function<void()> on_fire);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  struct Impl;
  Impl* impl_;
};

/// Calls `on_ready` when `fd` (a pidfd, eventfd, inotify, ...) becomes readable, level-triggered, until destroyed. Owns
/// the descriptor. Loop thread only; on_ready may destroy the Watch.
class Watch {
 public:
  Watch(Loop& loop, Fd fd, std::function<void()> on_ready);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  int fd() const;

 private:
  struct Impl;
  Impl* impl_;
};

/// A connected unix stream socket. Loop thread only. Callbacks run on the loop thread; on_close exactly once (peer EOF,
/// error, or close()), after which no other callback comes. Callbacks may call close() or destroy the Stream.
class Stream {
 public:
  struct Callbacks {
    std::function<void(std::string_view)> on_data;  ///< bytes as they came; valid during the call
    std::function<void(const Error&)> on_close;     ///< kUnavailable "connection closed" on a plain EOF
    std::function<void()> on_drained;               ///< may be empty; pending_write_bytes() fell to 0
  };
  /// Takes over a connected socket (made non-blocking). read starts at once.
  Stream(Loop& loop, Fd socket, Callbacks callbacks);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Queues `data`; order is kept. Silently dropped after close.
  void write(std::string data);
  std::size_t pending_write_bytes() const;
  void pause_reading();
  void resume_reading();
  /// Closes now; queued writes that the kernel has not taken are lost. on_close is called (kCancelled).
  void close();
  /// Closes once queued writes are out.
  void close_after_write();

 private:
  struct Impl;
  Impl* impl_;
};

/// Accepts on a listening unix socket. Loop thread only. Accept errors (EMFILE ...) back off 100 ms and go on.
class Listener {
 public:
  Listener(Loop& loop, Fd listening_socket, std::function<void(Fd)> on_accept);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

 private:
  struct Impl;
  Impl* impl_;
};

/// bind + listen on a unix stream socket, mode 0600; an existing stale socket file is replaced. Path < 108 bytes, else
/// kInvalidArgument. Any thread.
Result<Fd> listen_unix(const std::string& path, int backlog);
/// Connects (blocking, instant on unix sockets). kUnavailable when nobody listens. Any thread.
Result<Fd> connect_unix(const std::string& path);
/// Peer credentials of a connected unix socket.
struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
Result<PeerCredentials> peer_credentials(int socket);

}  // namespace base
