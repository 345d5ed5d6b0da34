#include "tests/grpc/client.h"

#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <deque>

#include "base/context.h"
#include "grpc/wire.h"

namespace tests {

namespace {
std::string percent_decode(std::string_view text);
std::string base64_decode(std::string_view text);
std::vector<nghttp2_nv> name_values(const Fields& fields);
}  // namespace

int Reply::status() const {
  const auto it = fields.find("grpc-status");
  return it == fields.end() ? -1 : std::stoi(it->second);
}
std::string Reply::message() const {
  return percent_decode(field("grpc-message"));
}
std::string Reply::details() const {
  return base64_decode(field("grpc-status-details-bin"));
}
std::string Reply::field(const std::string& name) const {
  const auto it = fields.find(name);
  return it == fields.end() ? std::string() : it->second;
}

struct GrpcClient::Impl {
  struct Stream {
    Reply reply;
    grpc::MessageReader reader{1u << 30};
    std::deque<std::string> body;
    std::size_t body_offset = 0;  // into body.front()
    bool half_closed = false;
  };

  base::Fd socket;
  nghttp2_session* session = nullptr;
  std::map<std::int32_t, Stream> streams;
  std::string unsent;
  bool lost = false;
  bool deaf = false;  // the peer takes no more
  bool consuming = true;
  std::optional<std::uint32_t> goaway;

  static Impl& self(void* user) { return *static_cast<Impl*>(user); }

  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
                       const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* user) {
    auto& fields = self(user).streams[frame->hd.stream_id].reply.fields;
    fields[std::string(reinterpret_cast<const char*>(name), name_size)] =
        std::string(reinterpret_cast<const char*>(value), value_size);
    return 0;
  }

  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    auto& impl = self(user);
    if (frame->hd.type == NGHTTP2_GOAWAY) impl.goaway = frame->goaway.error_code;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
      impl.streams[frame->hd.stream_id].reply.reset = frame->rst_stream.error_code;
    }
    const bool carries_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (carries_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      impl.streams[frame->hd.stream_id].reply.ended = true;
    }
    return 0;
  }

  static int on_data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                     std::size_t size, void* user) {
    auto& impl = self(user);
    auto& stream = impl.streams[id];
    const auto fed = stream.reader.feed({reinterpret_cast<const char*>(data), size}, [&stream](std::string message) {
      stream.reply.messages.push_back(std::move(message));
    });
    if (!fed) return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (impl.consuming) nghttp2_session_consume(session, id, size);
    return 0;
  }

  static int on_close(nghttp2_session*, std::int32_t id, std::uint32_t, void* user) {
    self(user).streams[id].reply.ended = true;
    return 0;
  }

  static ssize_t read_body(nghttp2_session*, std::int32_t id, std::uint8_t* out, std::size_t size, std::uint32_t* flags,
                           nghttp2_data_source*, void* user) {
    auto& stream = self(user).streams[id];
    if (stream.body.empty()) {
      if (!stream.half_closed) return NGHTTP2_ERR_DEFERRED;
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      return 0;
    }
    const auto rest = std::string_view(stream.body.front()).substr(stream.body_offset);
    const std::size_t n = std::min(size, rest.size());
    std::copy_n(rest.begin(), n, out);
    stream.body_offset += n;
    if (n == rest.size()) {
      stream.body.pop_front();
      stream.body_offset = 0;
    }
    if (stream.body.empty() && stream.half_closed) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(n);
  }

  void lose() {
    lost = true;
    for (auto& [id, stream] : streams) stream.reply.ended = true;
  }

  /// Sends what the windows and the socket take. A frame that has left the session is kept until it is sent.
  void write() {
    while (!lost && !deaf) {
      const std::uint8_t* data = nullptr;
      for (ssize_t n = 0; unsent.size() < (256u << 10) && (n = nghttp2_session_mem_send(session, &data)) > 0;) {
        unsent.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(n));
      }
      if (unsent.empty()) return;
      const ssize_t n = ::send(socket.get(), unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) {
        // The server has closed; what it said before is still to be read.
        deaf = true;
        return unsent.clear();
      }
      unsent.erase(0, static_cast<std::size_t>(n));
    }
  }

  void read(int timeout_ms) {
    pollfd poll_fd{socket.get(), static_cast<short>(POLLIN | (unsent.empty() ? 0 : POLLOUT)), 0};
    if (::poll(&poll_fd, 1, timeout_ms) <= 0 || (poll_fd.revents & ~POLLOUT) == 0) return;
    std::string buffer(64u << 10, '\0');
    const ssize_t n = ::recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return lose();
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(buffer.data());
    if (nghttp2_session_mem_recv(session, bytes, static_cast<std::size_t>(n)) < 0) lose();
  }
};

GrpcClient::GrpcClient(base::Fd socket) : impl_(std::make_unique<Impl>()) {
  impl_->socket = std::move(socket);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Impl::on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Impl::on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Impl::on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Impl::on_close);
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_session_client_new2(&impl_->session, callbacks, impl_.get(), option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_submit_settings(impl_->session, NGHTTP2_FLAG_NONE, nullptr, 0);
}

GrpcClient::~GrpcClient() {
  nghttp2_session_del(impl_->session);
}

std::int32_t GrpcClient::open(const std::string& path, const Fields& extra) {
  Fields fields = grpc_fields(path);
  for (const auto& [name, value] : extra) {
    const auto same = [&name = name](const auto& field) { return field.first == name; };
    const auto it = std::find_if(fields.begin(), fields.end(), same);
    if (it == fields.end()) {
      fields.emplace_back(name, value);
    } else {
      it->second = value;
    }
  }
  const auto nv = name_values(fields);
  nghttp2_data_provider body{};
  body.read_callback = Impl::read_body;
  const auto id = nghttp2_submit_request(impl_->session, nullptr, nv.data(), nv.size(), &body, nullptr);
  impl_->streams[id];
  impl_->write();
  return id;
}

void GrpcClient::send(std::int32_t stream, std::string_view message) {
  send_raw(stream, grpc::frame_message(message));
}

void GrpcClient::send_raw(std::int32_t stream, std::string bytes) {
  impl_->streams[stream].body.push_back(std::move(bytes));
  nghttp2_session_resume_data(impl_->session, stream);
  impl_->write();
}

void GrpcClient::half_close(std::int32_t stream) {
  impl_->streams[stream].half_closed = true;
  nghttp2_session_resume_data(impl_->session, stream);
  impl_->write();
}

void GrpcClient::reset(std::int32_t stream, std::uint32_t code) {
  nghttp2_submit_rst_stream(impl_->session, NGHTTP2_FLAG_NONE, stream, code);
  impl_->write();
}

std::int32_t GrpcClient::start(const std::string& path, std::string_view message, const Fields& extra) {
  const auto stream = open(path, extra);
  send(stream, message);
  half_close(stream);
  return stream;
}

Reply GrpcClient::call(const std::string& path, std::string_view message, const Fields& extra) {
  return wait_end(start(path, message, extra));
}

bool GrpcClient::run_until(const std::function<bool()>& done, std::chrono::milliseconds limit) {
  const auto deadline = base::Clock::now() + limit;
  while (!done()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - base::Clock::now()).count();
    if (left <= 0 || impl_->lost) return done();
    impl_->write();
    impl_->read(static_cast<int>(std::min<std::int64_t>(left, 20)));  // `done` may look at other things than our socket
    impl_->write();
  }
  return true;
}

const Reply& GrpcClient::wait_end(std::int32_t stream) {
  run_until([&] { return reply(stream).ended; });
  return reply(stream);
}

std::string GrpcClient::wait_message(std::int32_t stream, std::size_t index) {
  run_until([&] { return reply(stream).messages.size() > index || reply(stream).ended; });
  const auto& messages = reply(stream).messages;
  return messages.size() > index ? messages[index] : "<none>";
}

const Reply& GrpcClient::reply(std::int32_t stream) const {
  return impl_->streams[stream].reply;
}
bool GrpcClient::connection_lost() const {
  return impl_->lost;
}
std::optional<std::uint32_t> GrpcClient::goaway() const {
  return impl_->goaway;
}
int GrpcClient::fd() const {
  return impl_->socket.get();
}
void GrpcClient::stop_consuming() {
  impl_->consuming = false;
}

std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, std::string_view payload) {
  std::string out;
  for (int shift = 16; shift >= 0; shift -= 8) out.push_back(static_cast<char>(payload.size() >> shift & 0xff));
  out.push_back(static_cast<char>(type));
  out.push_back(static_cast<char>(flags));
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(stream >> shift & 0xff));
  out.append(payload);
  return out;
}

std::string header_block(const Fields& fields) {
  std::string out;
  const auto literal = [&out](std::string_view text) {
    // A string's length is an integer of seven bits, continued in groups of seven (RFC 7541, 5.1).
    std::size_t rest = text.size();
    if (rest < 127) {
      out.push_back(static_cast<char>(rest));
    } else {
      out.push_back(127);
      for (rest -= 127; rest >= 128; rest >>= 7) out.push_back(static_cast<char>(128 | (rest & 127)));
      out.push_back(static_cast<char>(rest));
    }
    out.append(text);
  };
  for (const auto& [name, value] : fields) {
    out.push_back(0);
    literal(name);
    literal(value);
  }
  return out;
}

Fields grpc_fields(const std::string& path) {
  return {{":method", "POST"},      {":scheme", "http"}, {":path", path},
          {":authority", "unused"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
}

std::string hello() {
  return std::string(kPreface) + frame(kSettings, 0, 0, "");
}

SocketPair socket_pair() {
  int fds[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) ::abort();
  return {base::Fd(fds[0]), base::Fd(fds[1])};
}

bool write_bytes(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    pollfd writable{fd, POLLOUT, 0};
    if (::poll(&writable, 1, 20'000) <= 0) return false;
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return false;
    if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

std::string read_all(int fd) {
  std::string out;
  const auto deadline = base::Clock::now() + std::chrono::seconds(20);
  while (base::Clock::now() < deadline) {
    char buffer[16 << 10];
    pollfd readable{fd, POLLIN, 0};
    if (::poll(&readable, 1, 1000) <= 0) continue;
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) break;
    out.append(buffer, static_cast<std::size_t>(n));
  }
  return out;
}

namespace {

std::string percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16)));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::string base64_decode(std::string_view text) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const auto value = kAlphabet.find(c);
    if (value == std::string_view::npos) break;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out.push_back(static_cast<char>(bits >> count & 0xff));
  }
  return out;
}

std::vector<nghttp2_nv> name_values(const Fields& fields) {
  std::vector<nghttp2_nv> out;
  for (const auto& [name, value] : fields) {
    out.push_back({const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(name.data())),
                   const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(value.data())), name.size(),
                   value.size(), NGHTTP2_NV_FLAG_NONE});
  }
  return out;
}

}  // namespace

}  // namespace tests
