// One call of a client, from its head to its trailers, as the code that answers it sees it.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/loop.h"
#include "base/subscription.h"
#include "base/sync.h"
#include "grpc/status.h"

namespace grpc {

class Connection;

/// Answers one call. Shared by whoever has news for it; after the end every method is a no-op, so nobody needs to ask
/// first.
/// threads  any. Callbacks run on the loop's thread and must not block.
/// end      finish(), reply(), or the call's cancellation: by the client (RST_STREAM), by the loss of its connection,
/// by
///          its deadline, by the server's close. What keep() holds is dropped then, on the loop's thread.
class Call : public std::enable_shared_from_this<Call> {
 public:
  /// Made by Connection. The loop outlives every call.
  Call(base::Loop& loop, std::weak_ptr<Connection> connection, std::int32_t stream, base::Deadline deadline);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// Carries the client's grpc-timeout; stopped when the call is cancelled.
  const base::Context& context() const { return context_; }

  /// Queues a message. False asks the caller to pause until on_writable: kSendHighWaterBytes wait for a slow reader. A
  /// sender that does not pause ends its call with RESOURCE_EXHAUSTED at kSendBufferBytesMax.
  bool send(std::string_view message);
  /// True while send() would not ask to pause: for samples that can as well be skipped.
  bool writable() const { return buffered_bytes_.load() < kSendHighWaterBytes; }
  /// Ends the call after what was sent.
  void finish(Status status);
  /// send() and finish(OK) in one.
  void reply(std::string_view message);

  /// Called once if the call is cancelled before it is finished; at once if it already was.
  void on_cancel(std::function<void()> fn);
  /// Called each time that the buffer has fallen below kSendHighWaterBytes / 2 after send() returned false. Replaces.
  void on_writable(std::function<void()> fn);
  /// Holds `subscription` until the call ends; drops it at once if it already has.
  void keep(base::Subscription subscription);

  /// Bidirectional calls: stops on_message (at most a window, 64 KiB, is taken in meanwhile), and starts it again.
  void pause_reading();
  void resume_reading();

 private:
  friend class Connection;

  struct State {
    bool finished = false;   // by us: nothing may be sent any more
    bool cancelled = false;  // by others, before we finished
    bool ended = false;      // what was kept is dropped
    bool paused_sender = false;
    std::vector<std::function<void()>> on_cancel;
    std::function<void()> on_writable;
    std::vector<base::Subscription> kept;
  };
  enum class End { kFinished, kCancelled };

  void end_with(std::string frame, Status status);
  // Called by Connection on the loop's thread.
  bool over();  // finished or cancelled
  void ended(End how);
  void sent(std::size_t bytes);
  // Runs `fn` on the loop's thread if the connection is still there.
  void post(std::function<void(Connection&)> fn);

  base::Loop& loop_;
  const std::weak_ptr<Connection> connection_;  // locked on the loop's thread only
  const std::int32_t stream_;
  std::stop_source stop_;
  const base::Context context_;
  std::atomic<std::size_t> buffered_bytes_{0};
  base::Guarded<State> state_;
};

}  // namespace grpc
