// Our server and our client against a peer that sends anything and then goes away. The server must serve the next
// connection as if nothing had been; every call of the client must end.
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/sync.h"
#include "ttrpc/client.h"
#include "ttrpc/server.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

const base::Context& soon() {
  static const base::Context ctx = base::Context::background().with_timeout(std::chrono::hours(1));
  return ctx;
}

struct World {
  base::Loop loop;
  std::string path = base::str("/tmp/cd-fuzz-", ::getpid(), ".sock");
  std::unique_ptr<ttrpc::Server> server;
  std::shared_ptr<ttrpc::Client> good;

  World() {
    ::signal(SIGPIPE, SIG_IGN);
    server = std::move(ttrpc::Server::listen(loop, path, [](const ttrpc::Call& call, const ttrpc::Reply& reply) {
                         if (call.method.empty()) return reply(ttrpc::unimplemented(call));
                         reply(call.payload);
                       }).value());
    good = ttrpc::Client::connect(loop, path).value();
  }
};

void feed_server(World& world, std::string_view bytes) {
  {
    const base::Fd peer = base::connect_unix(world.path).value();
    [[maybe_unused]] const auto sent = base::write_all(soon(), peer.get(), bytes);  // it may be closed by then
    ::shutdown(peer.get(), SHUT_WR);
    [[maybe_unused]] const auto answers = base::read_to_end(soon(), peer.get(), 64u << 20, "answers");
  }
  const auto echo = world.good->call(soon(), "svc", "echo", "still here");
  require(echo.has_value() && *echo == "still here");
}

void feed_client(World& world, std::string_view bytes) {
  int fds[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  base::Fd peer(fds[1]);
  const auto client = ttrpc::Client::over(world.loop, base::Fd(fds[0]));
  base::OneShot<bool> first, second;
  client->call_async("svc", "a", "", [first](const base::Result<std::string>&) { first.set(true); });
  client->call_async("svc", "b", "", [second](const base::Result<std::string>&) { second.set(true); });
  [[maybe_unused]] const auto sent = base::write_all(soon(), peer.get(), bytes);
  peer.reset();
  require(first.wait(soon()).has_value() && second.wait(soon()).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    feed_server(world, bytes);
  } else {
    feed_client(world, bytes);
  }
  return 0;
}
