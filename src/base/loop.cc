#include "base/loop.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/sync.h"
#include "base/thread.h"

namespace base {

// Handles are closed asynchronously by libuv, so each adapter keeps its uv handle in a heap object that outlives the
// adapter: the destructor marks it dead and calls uv_close, the close callback deletes it.

struct Loop::Impl {
  uv_loop_t loop;
  uv_async_t wake;
  std::mutex mutex;
  std::deque<std::function<void()>> posted;
  bool closing = false;
  Status status;
  std::jthread thread;
  // Reads land here before they are handed on; shared by all streams, as only one callback runs at a time.
  std::array<char, 64 * 1024> read_buffer;

  Status start();
  void woken();
  void run();
  void run_closed();
  void drain() {
    std::deque<std::function<void()>> now;
    {
      std::lock_guard lock(mutex);
      now.swap(posted);
    }
    for (auto& fn : now) fn();
  }
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {
  impl_->status = impl_->start();
  if (!impl_->status) impl_->closing = true;
}

Status Loop::Impl::start() {
  int rc = uv_loop_init(&loop);
  if (rc != 0) return Error::from_errno(-rc, "starting the event loop");
  wake.data = this;
  rc = uv_async_init(&loop, &wake, [](uv_async_t* async) { static_cast<Impl*>(async->data)->woken(); });
  if (rc != 0) {
    uv_loop_close(&loop);
    return Error::from_errno(-rc, "starting the event loop");
  }
  auto started = start_thread("loop", [this] { run(); });
  if (started) {
    thread = *std::move(started);
    return {};
  }
  run_closed();
  uv_loop_close(&loop);
  return std::move(started).error();
}

void Loop::Impl::woken() {
  bool last = false;
  {
    std::lock_guard lock(mutex);
    last = closing;  // nothing is posted once this is set, so the drain below is the last one
  }
  drain();
  if (last) uv_stop(&loop);
}

void Loop::Impl::run() {
  uv_run(&loop, UV_RUN_DEFAULT);
  run_closed();
}

// What is still open belongs to objects that were leaked by an abrupt end.
void Loop::Impl::run_closed() {
  uv_walk(
      &loop,
      [](uv_handle_t* handle, void*) {
        if (uv_is_closing(handle) == 0) uv_close(handle, nullptr);
      },
      nullptr);
  uv_run(&loop, UV_RUN_DEFAULT);
}

Loop::~Loop() {
  CHECK(!on_loop_thread());
  if (!impl_->status) return;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->closing = true;
  }
  uv_async_send(&impl_->wake);
  impl_->thread.join();
  impl_->posted.clear();
  uv_loop_close(&impl_->loop);
}

const Status& Loop::status() const {
  return impl_->status;
}

void Loop::post(std::function<void()> fn) {
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->closing) return;
    impl_->posted.push_back(std::move(fn));
  }
  uv_async_send(&impl_->wake);
}

void Loop::run(const std::function<void()>& fn) {
  if (on_loop_thread()) return fn();
  OneShot<bool> done;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->closing) return;
    impl_->posted.push_back([&fn, done] {
      fn();
      done.set(true);
    });
  }
  uv_async_send(&impl_->wake);
  [[maybe_unused]] const auto waited = done.wait(Context::background());
}

bool Loop::on_loop_thread() const {
  return std::this_thread::get_id() == impl_->thread.get_id();
}

// ---- Timer -------------------------------------------------------------------------------------------------------

struct Timer::Impl {
  uv_timer_t handle;
  std::function<void()> on_fire;
};

Timer::Timer(Loop& loop, std::chrono::milliseconds first, std::chrono::milliseconds repeat,
             std::function<void()> on_fire)
    : impl_(new Impl) {
  CHECK(loop.on_loop_thread());
  impl_->on_fire = std::move(on_fire);
  impl_->handle.data = impl_;
  CHECK(uv_timer_init(&loop.impl().loop, &impl_->handle) == 0);
  uv_timer_start(
      &impl_->handle,
      [](uv_timer_t* timer) {
        const auto fire = static_cast<Impl*>(timer->data)->on_fire;  // a copy: it may destroy the Timer
        fire();
      },
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, first.count())),
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, repeat.count())));
}

Timer::~Timer() {
  uv_timer_stop(&impl_->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&impl_->handle),
           [](uv_handle_t* handle) { delete static_cast<Impl*>(handle->data); });
}

// ---- Watch -------------------------------------------------------------------------------------------------------

struct Watch::Impl {
  uv_poll_t handle;
  Fd fd;
  std::function<void()> on_ready;
};

Watch::Watch(Loop& loop, Fd fd, std::function<void()> on_ready) : impl_(new Impl) {
  CHECK(loop.on_loop_thread());
  impl_->fd = std::move(fd);
  impl_->on_ready = std::move(on_ready);
  impl_->handle.data = impl_;
  CHECK(uv_poll_init(&loop.impl().loop, &impl_->handle, impl_->fd.get()) == 0);
  uv_poll_start(&impl_->handle, UV_READABLE, [](uv_poll_t* poll, int /*status*/, int /*events*/) {
    const auto ready = static_cast<Impl*>(poll->data)->on_ready;  // a copy: it may destroy the Watch
    ready();
  });
}

Watch::~Watch() {
  uv_poll_stop(&impl_->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&impl_->handle),
           [](uv_handle_t* handle) { delete static_cast<Impl*>(handle->data); });
}

int Watch::fd() const {
  return impl_->fd.get();
}

// ---- Stream ------------------------------------------------------------------------------------------------------

struct Stream::Impl {
  uv_pipe_t pipe;
  std::array<char, 64 * 1024>* read_buffer = nullptr;
  std::shared_ptr<Callbacks> callbacks;  // shared: a callback may destroy the Stream that holds it
  std::size_t pending_write_bytes = 0;
  bool closed = false;             // uv_close was called
  bool close_after_write = false;  // once pending_write_bytes is 0
  int owners = 2;                  // the Stream and libuv's handle; the last one deletes

  struct Write {
    uv_write_t request;
    std::string data;
    Impl* self;
  };

  void release() {
    if (--owners == 0) delete this;
  }

  static void on_alloc(uv_handle_t* handle, std::size_t /*suggested*/, uv_buf_t* buf) {
    auto* buffer = static_cast<Impl*>(handle->data)->read_buffer;
    *buf = uv_buf_init(buffer->data(), static_cast<unsigned>(buffer->size()));
  }

  static void on_read(uv_stream_t* stream, ssize_t n, const uv_buf_t* buf) {
    auto* self = static_cast<Impl*>(stream->data);
    if (n > 0) {
      const auto keep = self->callbacks;
      if (keep->on_data) keep->on_data(std::string_view(buf->base, static_cast<std::size_t>(n)));
    } else if (n == UV_EOF) {
      self->close(Error::unavailable("connection closed"));
    } else if (n < 0) {
      self->close(Error::unavailable(str("connection lost: ", uv_strerror(static_cast<int>(n)))));
    }
  }

  static void on_written(uv_write_t* request, int status) {
    const std::unique_ptr<Write> write(static_cast<Write*>(request->data));
    Impl* self = write->self;
    self->pending_write_bytes -= write->data.size();
    if (status < 0 && !self->closed) {
      self->close(Error::unavailable(str("connection lost: ", uv_strerror(status))));
    } else if (self->pending_write_bytes == 0 && !self->closed) {
      self->drained();
    }
  }

  void drained() {
    if (close_after_write) return close(Error::cancelled("connection closed"));
    const auto keep = callbacks;
    if (keep->on_drained) keep->on_drained();
  }

  void start_reading() { uv_read_start(reinterpret_cast<uv_stream_t*>(&pipe), on_alloc, on_read); }

  void close(const Error& reason) {
    if (closed) return;
    closed = true;
    const auto keep = callbacks;
    // Pending writes come back with UV_ECANCELED before the close callback runs.
    uv_close(reinterpret_cast<uv_handle_t*>(&pipe),
             [](uv_handle_t* handle) { static_cast<Impl*>(handle->data)->release(); });
    if (keep->on_close) keep->on_close(reason);
  }
};

Stream::Stream(Loop& loop, Fd socket, Callbacks callbacks) : impl_(new Impl) {
  CHECK(loop.on_loop_thread());
  impl_->read_buffer = &loop.impl().read_buffer;
  impl_->callbacks = std::make_shared<Callbacks>(std::move(callbacks));
  impl_->pipe.data = impl_;
  CHECK(uv_pipe_init(&loop.impl().loop, &impl_->pipe, 0) == 0);
  CHECK(uv_pipe_open(&impl_->pipe, socket.release()) == 0);
  impl_->start_reading();
}

Stream::~Stream() {
  impl_->callbacks = std::make_shared<Callbacks>();  // nobody is left to call; one that runs now keeps its own
  impl_->close(Error::cancelled("connection closed"));
  impl_->release();
}

void Stream::write(std::string data) {
  if (impl_->closed || data.empty()) return;
  auto write = std::make_unique<Impl::Write>();
  write->data = std::move(data);
  write->self = impl_;
  write->request.data = write.get();
  impl_->pending_write_bytes += write->data.size();
  const uv_buf_t buf = uv_buf_init(write->data.data(), static_cast<unsigned>(write->data.size()));
  const int rc = uv_write(&write->request, reinterpret_cast<uv_stream_t*>(&impl_->pipe), &buf, 1, Impl::on_written);
  if (rc == 0) {
    write.release();  // on_written owns it now
    return;
  }
  impl_->pending_write_bytes -= write->data.size();
  impl_->close(Error::unavailable(str("connection lost: ", uv_strerror(rc))));
}

std::size_t Stream::pending_write_bytes() const {
  return impl_->pending_write_bytes;
}

void Stream::pause_reading() {
  if (!impl_->closed) uv_read_stop(reinterpret_cast<uv_stream_t*>(&impl_->pipe));
}

void Stream::resume_reading() {
  if (!impl_->closed) impl_->start_reading();
}

void Stream::close() {
  impl_->close(Error::cancelled("connection closed"));
}

void Stream::close_after_write() {
  impl_->close_after_write = true;
  if (impl_->pending_write_bytes == 0) close();
}

// ---- Listener ----------------------------------------------------------------------------------------------------

struct Listener::Impl {
  Loop& loop;
  std::unique_ptr<Watch> watch;
  std::unique_ptr<Timer> back_off;
  int fd = -1;
  std::function<void(Fd)> on_accept;

  explicit Impl(Loop& l) : loop(l) {}

  void watch_again() {
    auto copy = dup_fd(fd);
    if (!copy) return retry_later();
    watch = std::make_unique<Watch>(loop, std::move(*copy), [this] { accept_one(); });
  }

  void accept_one() {
    Fd peer(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (peer) return on_accept(std::move(peer));
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    LOG_WARN("accepting a connection failed, trying again", {{"error", strerrordesc_np(errno)}});
    retry_later();
  }

  // Out of descriptors or memory: level-triggered polling would spin.
  void retry_later() {
    constexpr std::chrono::milliseconds kBackOff{100};
    watch.reset();
    back_off = std::make_unique<Timer>(loop, kBackOff, std::chrono::milliseconds(0), [this] {
      back_off.reset();
      watch_again();
    });
  }
};

Listener::Listener(Loop& loop, Fd listening_socket, std::function<void(Fd)> on_accept) : impl_(new Impl(loop)) {
  CHECK(loop.on_loop_thread());
  ::fcntl(listening_socket.get(), F_SETFL, O_NONBLOCK);
  impl_->fd = listening_socket.release();
  impl_->on_accept = std::move(on_accept);
  impl_->watch_again();
}

Listener::~Listener() {
  impl_->watch.reset();
  impl_->back_off.reset();
  ::close(impl_->fd);
  delete impl_;
}

// ---- sockets -----------------------------------------------------------------------------------------------------

namespace {
Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error::invalid_argument(str("socket path ", path, " has ", path.size(), " bytes, the limit is ",
                                       sizeof address.sun_path - 1, ": choose a shorter directory"));
  }
  path.copy(address.sun_path, path.size());
  return address;
}
}  // namespace

Result<Fd> listen_unix(const std::string& path, int backlog) {
  TRY(const sockaddr_un address, unix_address(path));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "creating a socket");
  ::fchmod(socket.get(), 0600);  // before bind: the file is born with this mode
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return Error::from_errno(errno, str("replacing ", path));
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Error::from_errno(errno, str("binding ", path));
  }
  if (::chmod(path.c_str(), 0600) != 0) return Error::from_errno(errno, str("setting the mode of ", path));
  if (::listen(socket.get(), backlog) != 0) return Error::from_errno(errno, str("listening on ", path));
  return socket;
}

Result<Fd> connect_unix(const std::string& path) {
  TRY(const sockaddr_un address, unix_address(path));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "creating a socket");
  int rc;
  do {
    rc = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (rc != 0 && errno == EINTR);
  if (rc != 0) return Error::from_errno(errno, str("connecting to ", path));
  return socket;
}

Result<PeerCredentials> peer_credentials(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return Error::from_errno(errno, "reading peer credentials");
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

}  // namespace base
