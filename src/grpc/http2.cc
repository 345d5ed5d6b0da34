#include "grpc/http2.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <optional>

#include "base/context.h"

namespace grpc {

namespace {

constexpr std::int32_t kConnectionWindowBytes = 4 << 20;  // 64 streams may have 64 KiB each on the way

/// Events per second, counted in fixed seconds: exact enough to tell a flood from a busy agent.
class Rate {
 public:
  explicit Rate(int per_second_max) : per_second_max_(per_second_max) {}
  bool exceeded(base::Deadline now) {
    if (now - second_ >= std::chrono::seconds(1)) {
      second_ = now;
      count_ = 0;
    }
    return ++count_ > per_second_max_;
  }

 private:
  int per_second_max_;
  base::Deadline second_{};
  int count_ = 0;
};

std::vector<nghttp2_nv> name_values(const Headers& headers);
std::string* field_of(RequestHead& head, std::string_view name);
nghttp2_session* new_session(Session::Impl* impl);
ssize_t on_read_body(nghttp2_session*, std::int32_t id, std::uint8_t* out, std::size_t size, std::uint32_t* flags,
                     nghttp2_data_source*, void* user);

}  // namespace

struct Session::Impl {
  struct Stream {
    RequestHead head;
    std::size_t head_bytes = 0;
    std::size_t head_fields = 0;
    base::Deadline opened{};
    bool announced = false;  // on_request was called
    bool finishing = false;  // no more body; trailers are next
    bool suspended = false;  // nghttp2 waits for write() or finish()
    Headers trailers;
    std::deque<std::string> body;
    std::size_t body_offset = 0;  // into body.front()
  };

  explicit Impl(SessionEvents& e) : events(e) {}

  Stream* find(StreamId id) {
    const auto it = streams.find(id);
    return it == streams.end() ? nullptr : &it->second;
  }
  int lose(std::uint32_t http2_error, base::Error error);
  int count_frame(const nghttp2_frame_hd& hd);
  int begin_headers(const nghttp2_frame& frame);
  int add_header(const nghttp2_frame& frame, std::string_view name, std::string_view value);
  void end_headers(StreamId id);
  void close_head();
  ssize_t read_body(StreamId id, std::uint8_t* out, std::size_t size, std::uint32_t* flags);
  void resume(StreamId id, Stream& stream);

  SessionEvents& events;
  nghttp2_session* session = nullptr;
  std::map<StreamId, Stream> streams;
  std::optional<base::Error> lost;  // why the connection must end
  bool established = false;
  bool head_open = false;  // a header block has begun and is not complete
  int continuations = 0;   // in it
  bool sent_data = false;  // since the last ping
  Rate control_frames{kControlFramesPerSecondMax};
  Rate early_resets{kEarlyResetsPerSecondMax};
};

Session::Session(SessionEvents& events) : impl_(std::make_unique<Impl>(events)) {
  impl_->session = new_session(impl_.get());
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(kHeaderListBytesMax)}};
  CHECK(nghttp2_submit_settings(impl_->session, NGHTTP2_FLAG_NONE, settings, std::size(settings)) == 0);
  CHECK(nghttp2_session_set_local_window_size(impl_->session, NGHTTP2_FLAG_NONE, 0, kConnectionWindowBytes) == 0);
}

Session::~Session() {
  nghttp2_session_del(impl_->session);
}

base::Status Session::receive(std::string_view bytes) {
  if (impl_->lost) return *impl_->lost;
  const ssize_t n =
      nghttp2_session_mem_recv(impl_->session, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (n == NGHTTP2_ERR_FLOODED) {
    impl_->lose(NGHTTP2_ENHANCE_YOUR_CALM, base::Error::resource_exhausted("the peer floods us with control frames"));
  } else if (n < 0) {
    impl_->lose(NGHTTP2_PROTOCOL_ERROR, base::Error::invalid_argument(nghttp2_strerror(static_cast<int>(n))));
  }
  if (impl_->lost) return *impl_->lost;
  return {};
}

bool Session::established() const {
  return impl_->established;
}

std::string Session::output(std::size_t bytes_max) {
  std::string out;
  while (out.size() < bytes_max) {
    const std::uint8_t* data = nullptr;
    const ssize_t n = nghttp2_session_mem_send(impl_->session, &data);
    if (n <= 0) break;  // negative: out of memory, or a session that is lost already
    out.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(n));
  }
  return out;
}

std::size_t Session::outbound_frames() const {
  return nghttp2_session_get_outbound_queue_size(impl_->session);
}

bool Session::finished() const {
  return nghttp2_session_want_read(impl_->session) == 0 && nghttp2_session_want_write(impl_->session) == 0;
}

void Session::start_response(StreamId stream, const Headers& head) {
  if (impl_->find(stream) == nullptr) return;
  const auto fields = name_values(head);
  nghttp2_data_provider body{};
  body.read_callback = on_read_body;
  CHECK(nghttp2_submit_response(impl_->session, stream, fields.data(), fields.size(), &body) == 0);
}

void Session::write(StreamId stream, std::string bytes) {
  auto* open = impl_->find(stream);
  if (open == nullptr || bytes.empty()) return;
  CHECK(!open->finishing);
  open->body.push_back(std::move(bytes));
  impl_->resume(stream, *open);
}

void Session::finish(StreamId stream, const Headers& trailers) {
  auto* open = impl_->find(stream);
  if (open == nullptr) return;
  CHECK(!open->finishing);
  open->finishing = true;
  open->trailers = trailers;
  impl_->resume(stream, *open);
}

void Session::respond(StreamId stream, const Headers& head) {
  auto* open = impl_->find(stream);
  if (open == nullptr) return;
  CHECK(!open->finishing);
  open->finishing = true;
  const auto fields = name_values(head);
  CHECK(nghttp2_submit_response(impl_->session, stream, fields.data(), fields.size(), nullptr) == 0);
}

void Session::consume(StreamId stream, std::size_t bytes) {
  if (bytes > 0 && impl_->find(stream) != nullptr) nghttp2_session_consume_stream(impl_->session, stream, bytes);
}

void Session::go_away() {
  nghttp2_submit_goaway(impl_->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(impl_->session),
                        NGHTTP2_NO_ERROR, nullptr, 0);
}

/// Ends the connection with a GOAWAY; what the callbacks return to make nghttp2 stop at once.
int Session::Impl::lose(std::uint32_t http2_error, base::Error error) {
  if (!lost) {
    lost = std::move(error);
    nghttp2_session_terminate_session(session, http2_error);
  }
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/// Called at each frame's first nine bytes, before nghttp2 spends anything on the rest.
int Session::Impl::count_frame(const nghttp2_frame_hd& hd) {
  const auto now = base::Clock::now();
  if (hd.type != NGHTTP2_CONTINUATION) close_head();  // a block that was refused in its middle ends without end_headers
  switch (hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_WINDOW_UPDATE:
      return 0;
    case NGHTTP2_DATA:
      if (hd.length > 0 || (hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) return 0;
      break;
    case NGHTTP2_PING:
      // grpc-go measures the path with a ping for each batch of data that it gets: thousands a second while a command
      // in a task writes all it can. One for data of ours costs its peer more than us (gRFC A8 forgives it, too).
      if (std::exchange(sent_data, false)) return 0;
      break;
    case NGHTTP2_CONTINUATION:
      if (++continuations <= kContinuationsMax) return 0;
      return lose(NGHTTP2_ENHANCE_YOUR_CALM, base::Error::resource_exhausted(base::str(
                                                 "header block of more than ", kContinuationsMax, " continuations")));
    case NGHTTP2_RST_STREAM: {
      const auto* stream = find(hd.stream_id);
      if (stream == nullptr) break;
      if (stream->finishing || now - stream->opened > kEarlyResetAge || !early_resets.exceeded(now)) return 0;
      return lose(NGHTTP2_ENHANCE_YOUR_CALM, base::Error::resource_exhausted(base::str(
                                                 "more than ", kEarlyResetsPerSecondMax, " rapid resets a second")));
    }
    default:
      break;
  }
  if (!control_frames.exceeded(now)) return 0;
  return lose(NGHTTP2_ENHANCE_YOUR_CALM, base::Error::resource_exhausted(base::str(
                                             "more than ", kControlFramesPerSecondMax, " control frames a second")));
}

int Session::Impl::begin_headers(const nghttp2_frame& frame) {
  continuations = 0;
  head_open = true;
  events.on_head_begin();
  const StreamId id = frame.hd.stream_id;
  if (auto* trailers = find(id)) {
    // The client's trailers: checked against the same limits, otherwise of no interest.
    trailers->head_bytes = trailers->head_fields = 0;
    return 0;
  }
  const auto now = base::Clock::now();
  if (streams.size() >= kStreamsMax) {
    if (control_frames.exceeded(now)) {
      return lose(NGHTTP2_ENHANCE_YOUR_CALM,
                  base::Error::resource_exhausted(base::str("more than ", kStreamsMax, " streams, again and again")));
    }
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return 0;
  }
  streams[id].opened = now;
  return 0;
}

int Session::Impl::add_header(const nghttp2_frame& frame, std::string_view name, std::string_view value) {
  auto* stream = find(frame.hd.stream_id);
  if (stream == nullptr) return 0;  // refused; nghttp2 decodes it for the compression context only
  stream->head_bytes += name.size() + value.size() + 32;
  if (stream->head_bytes > kHeaderListBytesMax || ++stream->head_fields > kHeaderFieldsMax) {
    return lose(NGHTTP2_ENHANCE_YOUR_CALM,
                base::Error::resource_exhausted(base::str("header list of more than ", kHeaderListBytesMax,
                                                          " bytes or ", kHeaderFieldsMax, " fields")));
  }
  if (stream->announced) return 0;
  if (auto* field = field_of(stream->head, name)) field->assign(value);
  return 0;
}

void Session::Impl::end_headers(StreamId id) {
  close_head();
  auto* stream = find(id);
  if (stream == nullptr || stream->announced) return;
  stream->announced = true;
  events.on_request(id, std::move(stream->head));
}

void Session::Impl::close_head() {
  if (!head_open) return;
  head_open = false;
  events.on_head_end();
}

ssize_t Session::Impl::read_body(StreamId id, std::uint8_t* out, std::size_t size, std::uint32_t* flags) {
  auto* stream = find(id);
  CHECK(stream != nullptr);  // nghttp2 reads only from streams that it has not closed
  std::size_t copied = 0;
  while (copied < size && !stream->body.empty()) {
    const auto rest = std::string_view(stream->body.front()).substr(stream->body_offset);
    const std::size_t n = std::min(rest.size(), size - copied);
    std::copy_n(rest.begin(), n, out + copied);
    copied += n;
    stream->body_offset += n;
    if (n < rest.size()) break;
    stream->body.pop_front();
    stream->body_offset = 0;
  }
  if (stream->body.empty() && stream->finishing) {
    const auto fields = name_values(stream->trailers);
    nghttp2_submit_trailer(session, id, fields.data(), fields.size());
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
  } else if (copied == 0) {
    stream->suspended = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  sent_data = sent_data || copied > 0;
  events.on_sent(id, copied);
  return static_cast<ssize_t>(copied);
}

void Session::Impl::resume(StreamId id, Stream& stream) {
  if (!stream.suspended) return;
  stream.suspended = false;
  nghttp2_session_resume_data(session, id);
}

namespace {

/// Points into `headers`; nghttp2 copies on submission.
std::vector<nghttp2_nv> name_values(const Headers& headers) {
  std::vector<nghttp2_nv> out;
  out.reserve(headers.size());
  for (const auto& [name, value] : headers) {
    const auto* n = reinterpret_cast<const std::uint8_t*>(name.data());
    const auto* v = reinterpret_cast<const std::uint8_t*>(value.data());
    out.push_back(
        {const_cast<std::uint8_t*>(n), const_cast<std::uint8_t*>(v), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
  }
  return out;
}

std::string* field_of(RequestHead& head, std::string_view name) {
  if (name == ":method") return &head.method;
  if (name == ":path") return &head.path;
  if (name == "content-type") return &head.content_type;
  if (name == "grpc-timeout") return &head.timeout;
  if (name == "grpc-encoding") return &head.encoding;
  return nullptr;
}

// What nghttp2 calls; `user` is the Impl.
int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* hd, void* user);
int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user);
int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
              const std::uint8_t* value, std::size_t value_size, std::uint8_t flags, void* user);
int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user);
int on_data(nghttp2_session* session, std::uint8_t flags, std::int32_t id, const std::uint8_t* data, std::size_t size,
            void* user);
int on_frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user);
int on_stream_close(nghttp2_session*, std::int32_t id, std::uint32_t error, void* user);

nghttp2_session* new_session(Session::Impl* impl) {
  nghttp2_session_callbacks* callbacks = nullptr;
  CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  nghttp2_option* option = nullptr;
  CHECK(nghttp2_option_new(&option) == 0);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);  // they serve a priority tree that nobody uses
  nghttp2_session* session = nullptr;
  CHECK(nghttp2_session_server_new2(&session, callbacks, impl, option) == 0);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  return session;
}

Session::Impl& self(void* user_data) {
  return *static_cast<Session::Impl*>(user_data);
}

int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* hd, void* user) {
  return self(user).count_frame(*hd);
}

int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  return self(user).begin_headers(*frame);
}

int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
              const std::uint8_t* value, std::size_t value_size, std::uint8_t /*flags*/, void* user) {
  return self(user).add_header(*frame, {reinterpret_cast<const char*>(name), name_size},
                               {reinterpret_cast<const char*>(value), value_size});
}

int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  auto& impl = self(user);
  const StreamId id = frame->hd.stream_id;
  const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (frame->hd.type == NGHTTP2_SETTINGS) impl.established = true;
  if (frame->hd.type == NGHTTP2_HEADERS) impl.end_headers(id);
  const bool carries_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
  if (carries_end && end && impl.find(id) != nullptr) impl.events.on_end(id);
  return 0;
}

int on_data(nghttp2_session* session, std::uint8_t /*flags*/, std::int32_t id, const std::uint8_t* data,
            std::size_t size, void* user) {
  auto& impl = self(user);
  nghttp2_session_consume_connection(session, size);
  if (impl.find(id) != nullptr) impl.events.on_data(id, {reinterpret_cast<const char*>(data), size});
  return 0;
}

int on_frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void* /*user*/) {
  // Our side is done. A client that does not end its own (grpc-go's bidi streams never do) would keep the stream.
  const bool last = frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (last && nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0) {
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
  }
  return 0;
}

int on_stream_close(nghttp2_session*, std::int32_t id, std::uint32_t /*error*/, void* user) {
  auto& impl = self(user);
  const auto it = impl.streams.find(id);
  if (it == impl.streams.end()) return 0;
  const bool announced = it->second.announced;
  impl.streams.erase(it);
  if (announced) impl.events.on_closed(id);
  return 0;
}

ssize_t on_read_body(nghttp2_session*, std::int32_t id, std::uint8_t* out, std::size_t size, std::uint32_t* flags,
                     nghttp2_data_source*, void* user) {
  return self(user).read_body(id, out, size, flags);
}

}  // namespace

}  // namespace grpc
