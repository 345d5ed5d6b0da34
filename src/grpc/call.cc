#include "grpc/call.h"

#include "grpc/connection.h"
#include "grpc/wire.h"

namespace grpc {

Call::Call(base::Loop& loop, std::weak_ptr<Connection> connection, std::int32_t stream, base::Deadline deadline)
    : loop_(loop),
      connection_(std::move(connection)),
      stream_(stream),
      context_(base::Context::background().with_deadline(deadline).with_stop(stop_.get_token())) {}

bool Call::send(std::string_view message) {
  std::string frame = frame_message(message);
  const std::size_t bytes = frame.size();
  {
    auto state = state_.lock();
    if (state->finished || state->cancelled) return true;
    if (buffered_bytes_.load() <= kSendBufferBytesMax) {
      // Under the lock, so that messages of several threads, and the end, reach the loop in one order.
      buffered_bytes_ += bytes;
      post([id = stream_, frame = std::move(frame)](Connection& c) mutable { c.send(id, std::move(frame)); });
      if (writable()) return true;
      state->paused_sender = true;
      return false;
    }
  }
  finish({base::Code::kResourceExhausted,
          base::str("the receiver does not read: ", kSendBufferBytesMax, " bytes are waiting for it")});
  return false;
}

void Call::finish(Status status) {
  end_with({}, std::move(status));
}

void Call::reply(std::string_view message) {
  end_with(frame_message(message), {});
}

void Call::end_with(std::string frame, Status status) {
  auto state = state_.lock();
  if (state->finished || state->cancelled) return;
  state->finished = true;
  buffered_bytes_ += frame.size();
  post([id = stream_, frame = std::move(frame), status = std::move(status)](Connection& c) mutable {
    c.finish(id, std::move(frame), status);
  });
}

void Call::on_cancel(std::function<void()> fn) {
  {
    auto state = state_.lock();
    if (state->finished) return;
    if (!state->cancelled) return state->on_cancel.push_back(std::move(fn));
  }
  loop_.post(std::move(fn));
}

void Call::on_writable(std::function<void()> fn) {
  auto state = state_.lock();
  if (!state->ended) state->on_writable = std::move(fn);  // else it could hold us, and we it, for ever
}

void Call::keep(base::Subscription subscription) {
  auto state = state_.lock();
  if (!state->ended) return state->kept.push_back(std::move(subscription));
  // Ended: `subscription` is dropped after the lock, in reverse order of declaration.
}

void Call::pause_reading() {
  // At once when on_message itself asks for it: not one message more.
  if (!loop_.on_loop_thread()) return post([id = stream_](Connection& c) { c.pause(id); });
  if (const auto connection = connection_.lock()) connection->pause(stream_);
}

void Call::resume_reading() {
  post([id = stream_](Connection& c) { c.resume(id); });
}

bool Call::over() {
  auto state = state_.lock();
  return state->finished || state->ended;
}

void Call::ended(End how) {
  State gone;
  {
    auto state = state_.lock();
    if (state->ended) return;
    state->ended = true;
    // A call that was finished in time stays so, even if its stream dies before the trailers are out.
    state->cancelled = how == End::kCancelled && !state->finished;
    gone.cancelled = state->cancelled;
    gone.on_cancel.swap(state->on_cancel);
    gone.on_writable.swap(state->on_writable);
    gone.kept.swap(state->kept);
  }
  if (!gone.cancelled) return;
  stop_.request_stop();
  for (auto& fn : gone.on_cancel) fn();
}

void Call::sent(std::size_t bytes) {
  const std::size_t left = buffered_bytes_ -= bytes;
  if (left >= kSendHighWaterBytes / 2) return;
  std::function<void()> fn;
  {
    auto state = state_.lock();
    if (!std::exchange(state->paused_sender, false)) return;
    fn = state->on_writable;
  }
  if (fn) fn();
}

void Call::post(std::function<void(Connection&)> fn) {
  loop_.post([self = shared_from_this(), fn = std::move(fn)] {
    if (const auto connection = self->connection_.lock()) fn(*connection);
  });
}

}  // namespace grpc
