#include "base/loop.h"

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "base/sync.h"
#include "tests/temp_dir.h"

using base::Context;
using base::Stream;
using namespace std::chrono_literals;

namespace {
const Context kSoon = Context::background().with_timeout(10s);

std::pair<base::Fd, base::Fd> socket_pair() {
  int fds[2];
  REQUIRE_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {base::Fd(fds[0]), base::Fd(fds[1])};
}
}  // namespace

TEST_CASE("posted functions run in order on the loop thread; run() waits for them") {
  base::Loop loop;
  std::string order;
  loop.post([&] { order += 'a'; });
  loop.post([&] { order += 'b'; });
  bool on_thread = false;
  loop.run([&] { on_thread = loop.on_loop_thread(); });
  CHECK_EQ(order, "ab");
  CHECK(on_thread);
  CHECK_FALSE(loop.on_loop_thread());
}

TEST_CASE("a repeating timer fires until it is destroyed, also from its own callback") {
  base::Loop loop;
  base::OneShot<int> done;
  auto timer = std::make_shared<std::unique_ptr<base::Timer>>();
  auto count = std::make_shared<int>(0);
  loop.run([&] {
    *timer = std::make_unique<base::Timer>(loop, 0ms, 1ms, [timer, count, done] {
      if (++*count < 3) return;
      const int n = *count;
      timer->reset();
      done.set(n);
    });
  });
  CHECK_EQ(*done.wait(kSoon), 3);
}

TEST_CASE("a watch reports readability and may destroy itself") {
  base::Loop loop;
  base::Fd event(::eventfd(0, EFD_CLOEXEC));
  base::OneShot<bool> ready;
  auto watch = std::make_shared<std::unique_ptr<base::Watch>>();
  loop.run([&] {
    *watch = std::make_unique<base::Watch>(loop, base::dup_fd(event.get()).value(), [watch, ready] {
      watch->reset();
      ready.set(true);
    });
  });
  const std::uint64_t one = 1;
  REQUIRE_EQ(::write(event.get(), &one, sizeof one), 8);
  CHECK(ready.wait(kSoon).has_value());
}

TEST_CASE("a stream moves bytes both ways and says once that the peer is gone") {
  base::Loop loop;
  auto pair = socket_pair();
  base::Fd ours = std::move(pair.first);
  base::Fd theirs = std::move(pair.second);
  base::OneShot<std::string> got;
  base::OneShot<std::string> closed;
  std::unique_ptr<Stream> stream;
  loop.run([&] {
    stream = std::make_unique<Stream>(loop, std::move(ours),
                                      Stream::Callbacks{[=](std::string_view data) { got.set(std::string(data)); },
                                                        [=](const base::Error& error) { closed.set(error.message); },
                                                        {}});
    stream->write("hello");
  });
  char text[5];
  REQUIRE_EQ(::read(theirs.get(), text, sizeof text), 5);
  CHECK_EQ(std::string(text, 5), "hello");
  REQUIRE_EQ(::write(theirs.get(), "world", 5), 5);
  CHECK_EQ(*got.wait(kSoon), "world");
  theirs.reset();
  CHECK_EQ(*closed.wait(kSoon), "connection closed");
  loop.run([&] {
    stream->write("into the void");
    stream.reset();
  });
}

TEST_CASE("a stream may be destroyed inside its own callback, with writes pending") {
  base::Loop loop;
  auto pair = socket_pair();
  base::Fd ours = std::move(pair.first);
  base::Fd theirs = std::move(pair.second);
  base::OneShot<bool> done;
  auto stream = std::make_shared<std::unique_ptr<Stream>>();
  loop.run([&] {
    *stream = std::make_unique<Stream>(loop, std::move(ours),
                                       Stream::Callbacks{[stream, done](std::string_view) {
                                                           stream->reset();
                                                           done.set(true);
                                                         },
                                                         {},
                                                         {}});
    (*stream)->write(std::string(4 << 20, 'x'));
  });
  REQUIRE_EQ(::write(theirs.get(), "x", 1), 1);
  CHECK(done.wait(kSoon).has_value());
}

TEST_CASE("close_after_write delivers everything first") {
  base::Loop loop;
  auto pair = socket_pair();
  base::Fd ours = std::move(pair.first);
  base::Fd theirs = std::move(pair.second);
  std::unique_ptr<Stream> stream;
  const std::string big(1 << 20, 'y');
  loop.run([&] {
    stream = std::make_unique<Stream>(loop, std::move(ours), Stream::Callbacks{});
    stream->write(big);
    stream->close_after_write();
  });
  CHECK(base::read_to_end(kSoon, theirs.get(), big.size(), "peer").value() == big);
  loop.run([&] { stream.reset(); });
}

TEST_CASE("listen, connect, accept; credentials; a stale socket file is replaced") {
  base::Loop loop;
  const tests::TempDir dir;
  const std::string path = dir / "s";
  { auto stale = base::listen_unix(path, 1); }
  CHECK_FALSE(base::connect_unix(path).has_value());
  auto socket = base::listen_unix(path, 16);
  REQUIRE(socket.has_value());
  struct stat st {};
  ::stat(path.c_str(), &st);
  CHECK_EQ(st.st_mode & 0777, 0600);
  base::OneShot<uid_t> peer;
  std::unique_ptr<base::Listener> listener;
  loop.run([&] {
    listener = std::make_unique<base::Listener>(loop, std::move(*socket),
                                                [=](base::Fd fd) { peer.set(base::peer_credentials(fd.get())->uid); });
  });
  auto client = base::connect_unix(path);
  REQUIRE(client.has_value());
  CHECK_EQ(*peer.wait(kSoon), ::getuid());
  loop.run([&] { listener.reset(); });
  CHECK_EQ(base::listen_unix(std::string(108, 'x'), 1).error().code, base::Code::kInvalidArgument);
}
