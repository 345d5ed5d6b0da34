#include "grpc/connection.h"

#include "base/base64.h"
#include "base/log.h"

namespace grpc {

namespace {

constexpr std::size_t kWriteBytes = 64u << 10;
/// How long a lost or closing connection may take to read our last words.
constexpr std::chrono::milliseconds kLastWordsTimeout{100};

Headers response_head();
Headers trailers_of(const Status& status);
Headers trailers_only(const Status& status);
Headers http_error(std::string_view http_status, const Status& status);
Status no_request(std::size_t messages, bool truncated);
void run_unary(const std::shared_ptr<Server::Core>& core, const Method& method, const Method::Unary& unary,
               const std::shared_ptr<Call>& call, std::string request);
void run_async(const std::shared_ptr<Server::Core>& core, const Method& method, const Method::Async& async,
               const std::shared_ptr<Call>& call, std::string request);

}  // namespace

void Connection::open(const std::shared_ptr<Server::Core>& core, base::Fd socket) {
  CHECK(core->loop.on_loop_thread());
  if (core->closing || core->connections.size() >= kConnectionsMax) return;
  auto connection = std::make_shared<Connection>(core);
  core->connections.insert(connection);
  connection->start(std::move(socket));
}

Connection::Connection(std::shared_ptr<Server::Core> core) : core_(std::move(core)), session_(*this) {}

Connection::~Connection() = default;

void Connection::start(base::Fd socket) {
  base::Stream::Callbacks callbacks;
  // The socket is ours and its callbacks end with it; each keeps us alive while it runs.
  callbacks.on_data = [this](std::string_view bytes) {
    const auto keep = shared_from_this();
    on_bytes(bytes);
  };
  callbacks.on_close = [this](const base::Error&) {
    const auto keep = shared_from_this();
    on_socket_closed();
  };
  callbacks.on_drained = [this] {
    const auto keep = shared_from_this();
    flush();
  };
  socket_ = std::make_unique<base::Stream>(core_->loop, std::move(socket), std::move(callbacks));
  watch_head();
  flush();  // our SETTINGS need not wait for theirs
}

void Connection::on_bytes(std::string_view bytes) {
  if (closing_) return;
  receiving_ = true;
  const auto received = session_.receive(bytes);
  receiving_ = false;
  if (!received) {
    LOG_DEBUG("an HTTP/2 connection ends", {{"error", received.error().message}});
    return close_soon();
  }
  watch_head();
  flush();
}

void Connection::on_socket_closed() {
  closed_ = closing_ = true;
  head_timer_.reset();
  close_timer_.reset();
  auto open = std::move(open_);
  open_.clear();
  for (auto& [id, entry] : open) {
    release(entry);
    end_call(std::move(entry));
  }
  core_->connections.erase(shared_from_this());
  if (core_->closing && core_->connections.empty()) core_->all_closed.set(true);
}

/// Moves frames to the socket as far as it takes them. A peer that does not read gets no more read from.
void Connection::flush() {
  if (receiving_) return;  // on_bytes flushes when it is through
  while (!closed_ && socket_->pending_write_bytes() < kSocketPendingBytesMax) {
    std::string bytes = session_.output(kWriteBytes);
    if (bytes.empty()) break;
    socket_->write(std::move(bytes));
  }
  if (closed_) return;
  const bool room = session_.outbound_frames() < kOutboundFramesMax;
  if (room != reading_ && !closing_) {
    reading_ = room;
    room ? socket_->resume_reading() : socket_->pause_reading();
  }
  if (!closing_ && session_.finished()) close_soon();
}

void Connection::shut() {
  const auto keep = shared_from_this();
  if (closing_) return;
  for (auto& [id, entry] : open_) {
    release(entry);
    entry.call->ended(Call::End::kCancelled);
  }
  session_.go_away();
  close_soon();
}

void Connection::close_soon() {
  if (closing_) return;
  closing_ = true;
  socket_->pause_reading();
  flush();
  if (closed_) return;
  close_timer_ = std::make_unique<base::Timer>(core_->loop, kLastWordsTimeout, std::chrono::milliseconds(0), [this] {
    const auto keep = shared_from_this();
    socket_->close();
  });
  socket_->close_after_write();
}

/// Gives the preface, and each header block that is not complete when we have read all there is, its time.
void Connection::watch_head() {
  const bool waiting = head_open_ || !session_.established();
  if (!waiting) return head_timer_.reset();
  if (head_timer_ && head_watched_ == heads_begun_) return;
  head_watched_ = heads_begun_;
  head_timer_ = std::make_unique<base::Timer>(core_->loop, core_->head_timeout, std::chrono::milliseconds(0), [this] {
    const auto keep = shared_from_this();
    LOG_DEBUG("an HTTP/2 connection ends", {{"error", "a request's head took too long"}});
    session_.go_away();
    close_soon();
  });
}

void Connection::on_head_begin() {
  head_open_ = true;
  ++heads_begun_;
}

void Connection::on_head_end() {
  head_open_ = false;
}

void Connection::on_request(StreamId id, const RequestHead& head) {
  using base::Code;
  if (head.method != "POST") {
    return session_.respond(id, http_error("405", {Code::kInternal, "gRPC uses the method POST only"}));
  }
  if (!is_grpc_content_type(head.content_type)) {
    return session_.respond(id, http_error("415", {Code::kInternal, "the content type is not application/grpc"}));
  }
  const auto method = core_->methods.find(head.path);
  if (method == core_->methods.end()) {
    return refuse(id, {Code::kUnimplemented, base::str("unknown method ", head.path.substr(0, 256))});
  }
  if (!head.encoding.empty() && head.encoding != "identity") {
    return refuse(id, {Code::kUnimplemented, "compressed messages are not supported: use grpc-encoding identity"});
  }
  base::Deadline deadline = base::Deadline::max();
  if (!head.timeout.empty()) {
    const auto timeout = parse_timeout(head.timeout);
    if (!timeout)
      return refuse(id, {Code::kInternal, base::str("malformed grpc-timeout ", head.timeout.substr(0, 32))});
    deadline = base::Clock::now() + *timeout;
  }
  begin_call(id, method->second, deadline);
}

void Connection::refuse(StreamId id, const Status& status) {
  session_.respond(id, trailers_only(status));
}

void Connection::begin_call(StreamId id, const Method& method, base::Deadline deadline) {
  if (closing_) return;
  if (const auto* refused = std::get_if<Method::Refused>(&method.kind)) return refuse(id, refused->status);
  auto& open = open_[id];
  open.method = &method;
  open.call = std::make_shared<Call>(core_->loop, weak_from_this(), id, deadline);
  if (open.call->context().has_deadline()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(open.call->context().remaining());
    open.deadline = std::make_unique<base::Timer>(core_->loop, left, std::chrono::milliseconds(0), [this, id] {
      const auto keep = shared_from_this();
      const auto* late = find(id);
      if (late == nullptr) return;
      late->call->ended(Call::End::kCancelled);
      finish(id, {}, {base::Code::kDeadlineExceeded, "deadline exceeded"});
    });
  }
  if (const auto* bidi = std::get_if<Method::Bidi>(&method.kind)) open.bidi = bidi->handler(open.call);
}

void Connection::on_data(StreamId id, std::string_view bytes) {
  auto* open = find(id);
  if (open == nullptr) return session_.consume(id, bytes.size());  // refused at its head, or answered: to be ignored
  const auto taken = take_in(*open, bytes);
  if (!taken) {
    session_.consume(id, bytes.size());
    return finish(id, {}, plain_status(taken.error()));
  }
  if (open->paused) {
    open->unconsumed_bytes += bytes.size();
  } else {
    session_.consume(id, bytes.size());
    deliver(id, *open);
  }
}

base::Status Connection::take_in(Open& open, std::string_view bytes) {
  TRY_VOID(open.reader.feed(bytes, [&open](std::string message) { open.messages.push_back(std::move(message)); }));
  hold(open);
  if (request_bytes_ > kRequestBytesHeldMax) {
    return base::Error::resource_exhausted(base::str("the connection's requests that are under way hold more than ",
                                                     kRequestBytesHeldMax, " bytes: try again"));
  }
  const bool bidi = std::holds_alternative<Method::Bidi>(open.method->kind);
  if (!bidi && open.messages.size() > 1) return base::Error::internal("more than one request message");
  return {};
}

/// Bidirectional calls: hands over what has come, until the handler asks to pause.
void Connection::deliver(StreamId id, Open& open) {
  if (!std::holds_alternative<Method::Bidi>(open.method->kind)) return;
  while (!open.paused && !open.messages.empty()) {
    std::string message = std::move(open.messages.front());
    open.messages.pop_front();
    if (open.bidi.on_message && !open.call->over()) open.bidi.on_message(std::move(message));
  }
  hold(open);
  if (open.paused || !open.half_closed) return;
  if (open.reader.pending_bytes() > 0) return finish(id, {}, no_request(0, true));
  if (const auto fn = std::exchange(open.bidi.on_half_close, nullptr)) fn();
}

void Connection::on_end(StreamId id) {
  auto* open = find(id);
  if (open == nullptr) return;
  open->half_closed = true;
  if (std::holds_alternative<Method::Bidi>(open->method->kind)) return deliver(id, *open);
  const bool truncated = open->reader.pending_bytes() > 0;
  if (truncated || open->messages.size() != 1) return finish(id, {}, no_request(open->messages.size(), truncated));
  dispatch(id, *open);
}

void Connection::dispatch(StreamId id, Open& open) {
  std::string request = std::move(open.messages.front());
  if (const auto* constant = std::get_if<Method::Constant>(&open.method->kind)) {
    finish(id, frame_message(constant->reply), {});
  } else if (const auto* unary = std::get_if<Method::Unary>(&open.method->kind)) {
    run_unary(core_, *open.method, *unary, open.call, std::move(request));
  } else if (const auto* async = std::get_if<Method::Async>(&open.method->kind)) {
    run_async(core_, *open.method, *async, open.call, std::move(request));
  }
}

void Connection::on_sent(StreamId id, std::size_t bytes) {
  const auto it = open_.find(id);
  if (it != open_.end()) it->second.call->sent(bytes);
}

void Connection::on_closed(StreamId id) {
  const auto it = open_.find(id);
  if (it == open_.end()) return;
  Open open = std::move(it->second);
  open_.erase(it);
  release(open);
  end_call(std::move(open));
}

void Connection::send(StreamId id, std::string frame) {
  auto* open = find(id);
  if (open == nullptr) return;
  if (!std::exchange(open->started, true)) session_.start_response(id, response_head());
  session_.write(id, std::move(frame));
  flush();
}

void Connection::finish(StreamId id, std::string frame, const Status& status) {
  auto* open = find(id);
  if (open == nullptr) return;
  if (!frame.empty() && !std::exchange(open->started, true)) session_.start_response(id, response_head());
  session_.write(id, std::move(frame));
  if (open->started) {
    session_.finish(id, trailers_of(status));
  } else {
    session_.respond(id, trailers_only(status));
  }
  open->done = true;
  open->deadline.reset();
  open->messages.clear();
  open->bidi = {};
  session_.consume(id, std::exchange(open->unconsumed_bytes, 0));
  release(*open);
  open->call->ended(Call::End::kFinished);
  flush();
}

void Connection::pause(StreamId id) {
  if (auto* open = find(id)) open->paused = true;
}

void Connection::resume(StreamId id) {
  auto* open = find(id);
  if (open == nullptr || !open->paused) return;
  open->paused = false;
  session_.consume(id, std::exchange(open->unconsumed_bytes, 0));
  deliver(id, *open);
  flush();
}

/// A call that has not been answered completely.
Connection::Open* Connection::find(StreamId id) {
  const auto it = open_.find(id);
  return it == open_.end() || it->second.done || closed_ ? nullptr : &it->second;
}

/// Brings the count of what `open` holds up to date.
void Connection::hold(Open& open) {
  std::size_t bytes = open.reader.pending_bytes();
  for (const auto& message : open.messages) bytes += message.size();
  request_bytes_ += bytes - open.held_bytes;
  open.held_bytes = bytes;
}

void Connection::release(Open& open) {
  request_bytes_ -= std::exchange(open.held_bytes, 0);
}

void Connection::end_call(Open open) {
  open.call->ended(Call::End::kCancelled);
}

namespace {

Headers response_head() {
  return {{":status", "200"}, {"content-type", "application/grpc"}};
}

Headers trailers_of(const Status& status) {
  Headers out{{"grpc-status", std::to_string(static_cast<int>(status.code))}};
  if (!status.message.empty()) {
    out.emplace_back("grpc-message", percent_encode(status.message.substr(0, kStatusMessageBytesMax)));
  }
  if (!status.details_bin.empty()) {
    out.emplace_back("grpc-status-details-bin", base::base64_encode(status.details_bin, base::Base64Padding::kNone));
  }
  return out;
}

Headers trailers_only(const Status& status) {
  Headers out = response_head();
  for (auto& field : trailers_of(status)) out.push_back(std::move(field));
  return out;
}

Headers http_error(std::string_view http_status, const Status& status) {
  Headers out = trailers_only(status);
  out.front().second = http_status;
  return out;
}

Status no_request(std::size_t messages, bool truncated) {
  if (truncated) return {base::Code::kInternal, "the stream ended in the middle of a message"};
  return {base::Code::kInternal, base::str("this method takes one request message, not ", messages)};
}

void run_unary(const std::shared_ptr<Server::Core>& core, const Method& method, const Method::Unary& unary,
               const std::shared_ptr<Call>& call, std::string request) {
  // `core` owns the method and is kept by the job.
  auto job = [core, running = Running::enter(core->running), &unary, call, request = std::move(request)] {
    auto reply = unary.handler(call->context(), request);
    if (reply) {
      call->reply(*reply);
    } else {
      call->finish(unary.status_of(reply.error()));
    }
  };
  const auto submitted = core->crew.submit(method.name, std::move(job));
  if (!submitted) call->finish(unary.status_of(submitted.error()));
}

void run_async(const std::shared_ptr<Server::Core>& core, const Method& method, const Method::Async& async,
               const std::shared_ptr<Call>& call, std::string request) {
  auto job = [core, running = Running::enter(core->running), &async, call, request = std::move(request)] {
    async.handler(call, request);
  };
  const auto submitted = core->crew.submit(method.name, std::move(job));
  if (!submitted) call->finish(async.status_of(submitted.error()));
}

}  // namespace

}  // namespace grpc
