#include "ttrpc/server.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "base/sync.h"
#include "tests/temp_dir.h"
#include "tests/ttrpc/raw_peer.h"

using base::Code;
using ttrpc::Call;
using ttrpc::Client;
using ttrpc::Reply;
using ttrpc::Server;
using ttrpc_test::eventually;
using ttrpc_test::header;
using ttrpc_test::must;
using ttrpc_test::RawPeer;
using ttrpc_test::soon;
using namespace std::chrono_literals;

namespace {

struct Fixture {
  tests::TempDir dir;
  std::string path = dir / "s.sock";
  base::Loop loop;
  base::Guarded<std::vector<Reply>> held;
  std::unique_ptr<Server> server =
      must(Server::listen(loop, path, [this](const Call& call, const Reply& reply) { handle(call, reply); },
                          {.connections_max = 8, .calls_in_flight_max = 4}));

  void handle(const Call& call, const Reply& reply) {
    if (call.method == "echo") return reply(call.payload);
    if (call.method == "fail") return reply(base::Error::already_exists("as you wished"));
    if (call.method == "hold") return held.lock()->push_back(reply);
    if (call.method == "huge") return reply(std::string(ttrpc::kFrameDataBytesMax, 'x'));
    if (call.method == "metadata") {
      std::string text;
      for (const auto& [key, value] : call.metadata) text += key + "=" + value + ";";
      return reply(text);
    }
    if (call.method == "timeout") return reply(std::to_string(call.timeout.count()));
    reply(ttrpc::unimplemented(call));
  }

  RawPeer raw() const { return RawPeer(must(base::connect_unix(path))); }
  std::shared_ptr<Client> client() { return must(Client::connect(loop, path)); }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "calls of our own client") {
  const auto c = client();
  CHECK(must(c->call(soon(), "svc", "echo", "hello")) == "hello");
  CHECK(must(c->call(soon(), "svc", "echo", "")).empty());
  CHECK(must(c->call(soon(), "svc", "metadata", "", {{"a", "1"}, {"a", "2"}})) == "a=1;a=2;");
  const auto failed = c->call(soon(), "svc", "fail", "");
  CHECK(failed.error().code == Code::kAlreadyExists);
  CHECK(failed.error().message == "as you wished");
  const auto unknown = c->call(soon(), "svc", "Nonesuch", "");
  CHECK(unknown.error().code == Code::kUnimplemented);
  CHECK(unknown.error().message.find("svc") != std::string::npos);
  const auto timeout = std::stoll(must(c->call(soon(), "svc", "timeout", "")));
  CHECK(timeout > 0);
  CHECK(timeout <= std::chrono::nanoseconds(20s).count());
  CHECK(c->call(soon(), "svc", "huge", "").error().code == Code::kResourceExhausted);
  const std::string large(ttrpc::kFrameDataBytesMax - 100, 'y');
  CHECK(must(c->call(soon(), "svc", "echo", large)) == large);
}

TEST_CASE_FIXTURE(Fixture, "two calls at once, answered from other threads, last first") {
  const auto c = client();
  base::OneShot<base::Result<std::string>> first, second;
  c->call_async("svc", "hold", "1", [first](base::Result<std::string> r) { first.set(std::move(r)); });
  c->call_async("svc", "hold", "2", [second](base::Result<std::string> r) { second.set(std::move(r)); });
  REQUIRE(eventually([&] { return held.lock()->size() == 2; }));
  std::thread([&] {
    const auto replies = *held.lock();
    replies[1](std::string("b"));
    replies[0](std::string("a"));
    replies[0](std::string("a again, which nobody gets"));
  }).join();
  CHECK(must(must(first.wait(soon()))) == "a");
  CHECK(must(must(second.wait(soon()))) == "b");
  CHECK(must(c->call(soon(), "svc", "echo", "x")) == "x");
}

TEST_CASE_FIXTURE(Fixture, "what is wrong with one call costs that call") {
  RawPeer peer = raw();
  const auto expect = [&](std::uint32_t stream_id, Code code, const std::string& text) {
    const auto response = peer.read_response(stream_id);
    CHECK(response.status().code() == static_cast<int>(code));
    CHECK_MESSAGE(response.status().message().find(text) != std::string::npos, response.status().message());
  };
  SUBCASE("an even id") {
    peer.request(2, "svc", "echo", "x");
    expect(2, Code::kInvalidArgument, "StreamID must be odd");
  }
  SUBCASE("id zero") {
    peer.request(0, "svc", "echo", "x");
    expect(0, Code::kInvalidArgument, "StreamID must be odd");
  }
  SUBCASE("an id again, or a lower one") {
    peer.request(7, "svc", "echo", "x");
    CHECK(peer.read_response(7).payload() == "x");
    peer.request(7, "svc", "echo", "x");
    expect(7, Code::kInvalidArgument, "StreamID cannot be re-used");
    peer.request(5, "svc", "echo", "x");
    expect(5, Code::kInvalidArgument, "StreamID cannot be re-used");
  }
  SUBCASE("no protobuf") {
    peer.send(header(3, 1, 1) + "\xff\xff\xff");
    expect(1, Code::kInvalidArgument, "unmarshal request error");
  }
  SUBCASE("too long") {
    const auto length = static_cast<std::uint32_t>(ttrpc::kFrameDataBytesMax + 1);
    peer.send(header(length, 1, 1) + std::string(length, 'x'));
    expect(1, Code::kResourceExhausted, "message length");
  }
  SUBCASE("an empty request") {
    peer.send(header(0, 1, 1));
    expect(1, Code::kUnimplemented, "service");
  }
  SUBCASE("data for no stream") {
    peer.send(header(1, 1, 3) + "d");
    expect(1, Code::kInvalidArgument, "no longer active");
  }
  SUBCASE("data for a call that is being answered") {
    peer.request(1, "svc", "hold", "");
    peer.send(header(1, 1, 3) + "d");
    expect(1, Code::kInvalidArgument, "no longer active");
    REQUIRE(eventually([&] { return held.lock()->size() == 1; }));
    (*held.lock())[0](std::string("all the same"));
    CHECK(peer.read_response(1).payload() == "all the same");
  }
  SUBCASE("types of a later protocol, and a response") {
    peer.send(header(2, 1, 77) + "xx");
    peer.respond(1, "");
  }
  SUBCASE("flags of a later protocol") {
    const std::string request = ttrpc_test::request_bytes("svc", "echo", "flags");
    peer.send(header(static_cast<std::uint32_t>(request.size()), 1, 1, 0xff) + request);
    CHECK(peer.read_response(1).payload() == "flags");
  }
  SUBCASE("more at once than allowed") {
    for (std::uint32_t id = 1; id <= 7; id += 2) peer.request(id, "svc", "hold", "");
    peer.request(9, "svc", "echo", "");
    expect(9, Code::kResourceExhausted, "4 calls");
  }
  SUBCASE("one byte at a time, which is not wrong") {
    peer.send_slowly(
        ttrpc::encode_frame(ttrpc::FrameType::kRequest, 1, ttrpc_test::request_bytes("svc", "echo", "slow")));
    CHECK(peer.read_response(1).payload() == "slow");
  }
  // The connection is as good as before; a held call must not block others unless the limit is reached.
  if (held.lock()->size() < 4) {
    peer.request(101, "svc", "echo", "after");
    CHECK(peer.read_response(101).payload() == "after");
  }
}

TEST_CASE_FIXTURE(Fixture, "what is wrong with one connection costs that connection") {
  RawPeer good = raw();
  {
    RawPeer bad = raw();
    SUBCASE("not ttrpc at all") {
      bad.send("GET / HTTP/1.1\r\n\r\n");
      CHECK_FALSE(bad.read_frame().has_value());
    }
    SUBCASE("it dies in the middle of a frame") {
      bad.send(header(1000, 1, 1) + "half");
    }
    SUBCASE("it dies before its answer") {
      bad.request(1, "svc", "hold", "");
      REQUIRE(eventually([&] { return held.lock()->size() == 1; }));
    }
    SUBCASE("it sends and never reads") {
      const std::string request = ttrpc_test::request_bytes("svc", "echo", std::string(1u << 20, 'x'));
      std::uint32_t id = 1;
      bool closed = false;
      for (; id < 200 && !closed; id += 2) {
        closed = !base::write_all(soon(), bad.fd(), ttrpc::encode_frame(ttrpc::FrameType::kRequest, id, request));
      }
      CHECK(closed);
    }
  }
  CHECK(eventually([&] { return server->connection_count() == 1; }));
  for (const Reply& reply : *held.lock()) reply(std::string("to nobody"));
  good.request(1, "svc", "echo", "still here");
  CHECK(good.read_response(1).payload() == "still here");
}

TEST_CASE_FIXTURE(Fixture, "connections are counted and bounded") {
  {
    std::vector<RawPeer> peers;
    for (int i = 0; i < 8; ++i) peers.push_back(raw());
    CHECK(eventually([&] { return server->connection_count() == 8; }));
    RawPeer one_too_many = raw();
    CHECK_FALSE(one_too_many.read_frame().has_value());
    peers[0].request(1, "svc", "echo", "x");
    CHECK(peers[0].read_response(1).payload() == "x");
  }
  CHECK(eventually([&] { return server->connection_count() == 0; }));
}

TEST_CASE_FIXTURE(Fixture, "the end of the server is seen by its clients, and leaves no file") {
  const auto c = client();
  base::OneShot<base::Result<std::string>> held_call;
  c->call_async("svc", "hold", "", [held_call](base::Result<std::string> r) { held_call.set(std::move(r)); });
  REQUIRE(eventually([&] { return held.lock()->size() == 1; }));
  server.reset();
  CHECK(must(held_call.wait(soon())).error().code == Code::kUnavailable);
  CHECK_FALSE(std::filesystem::exists(path));
  (*held.lock())[0](std::string("too late"));
}

TEST_CASE_FIXTURE(Fixture, "the socket is ours alone and replaces a stale one") {
  struct stat st {};
  REQUIRE(::stat(path.c_str(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0600);
  { const base::Fd dead = must(base::listen_unix(dir / "stale", 1)); }
  REQUIRE(std::filesystem::exists(dir / "stale"));
  const auto again = must(Server::listen(loop, dir / "stale", [this](const Call& c, const Reply& r) { handle(c, r); }));
  CHECK(must(must(Client::connect(loop, dir / "stale"))->call(soon(), "svc", "echo", "x")) == "x");
}

TEST_CASE_FIXTURE(Fixture, "another user is closed unheard") {
  if (::geteuid() != 0) return;
  std::filesystem::permissions(path, std::filesystem::perms::all);
  std::filesystem::permissions(dir.path(), std::filesystem::perms::all);
  base::Fd socket;
  // Raw: credentials of this thread only. It ends with them.
  std::thread([&] {
    constexpr uid_t kNobody = 65534;
    REQUIRE(::syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0);
    socket = must(base::connect_unix(path));
  }).join();
  RawPeer peer(std::move(socket));
  CHECK_FALSE(peer.read_frame().has_value());
}

TEST_CASE("a path that is too long is refused") {
  base::Loop loop;
  CHECK(Server::listen(loop, "/tmp/" + std::string(120, 'x'), nullptr).error().code == Code::kInvalidArgument);
}
