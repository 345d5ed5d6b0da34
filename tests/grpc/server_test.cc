#include "grpc/server.h"

#include <doctest/doctest.h>

#include <thread>

#include "tests/grpc/test_server.h"

using namespace std::chrono_literals;
using tests::TestServer;

namespace {
base::Context soon() {
  return base::Context::background().with_timeout(20s);
}
}  // namespace

TEST_CASE("a unary call is answered with a message and status 0") {
  TestServer s;
  auto client = s.connect();
  const auto reply = client.call("/t.T/Echo", "hello");
  CHECK(reply.status() == 0);
  CHECK(reply.messages == std::vector<std::string>{"hello"});
  CHECK(reply.field(":status") == "200");
  CHECK(reply.field("content-type") == "application/grpc");
  CHECK_FALSE(reply.reset.has_value());
  CHECK(client.call("/t.T/Echo", "").messages == std::vector<std::string>{""});
  CHECK(TestServer::eventually([&] { return s.idle(); }));
}

TEST_CASE("large messages pass in both directions") {
  TestServer s;
  auto client = s.connect();
  std::string big(grpc::kRequestBytesMax, 'x');
  big[12'345'678] = 'y';
  CHECK(client.call("/t.T/Echo", big).messages == std::vector<std::string>{big});
}

TEST_CASE("errors carry code, text and details") {
  TestServer s;
  auto client = s.connect();
  const auto failed = client.call("/t.T/Fail", "100% wrong:\n\xc3\xa4");
  CHECK(failed.status() == 5);
  CHECK(failed.message() == "100% wrong:\n\xc3\xa4");
  CHECK(failed.field(":status") == "200");
  CHECK(failed.field("content-type") == "application/grpc");
  CHECK(failed.messages.empty());
  const auto detailed = client.call("/t.T/Detailed", "");
  CHECK(detailed.status() == 9);
  CHECK(detailed.details() == "\1\2\xff");
  CHECK(client.call("/t.T/Fail", std::string(100'000, 'x')).message().size() == grpc::kStatusMessageBytesMax);
}

TEST_CASE("constant and refused methods") {
  TestServer s;
  auto client = s.connect();
  CHECK(client.call("/t.T/Constant", "any").messages == std::vector<std::string>{"always the same"});
  CHECK(client.call("/t.T/Refused", "").status() == 12);
  const auto unknown = client.call("/t.T/Nothing", "");
  CHECK(unknown.status() == 12);
  CHECK(unknown.message() == "unknown method /t.T/Nothing");
  CHECK(client.call("", "").status() == -1);  // HTTP/2 itself forbids an empty path
  CHECK(client.call("/\xff\xfe\x80", "").message() == "unknown method /\xff\xfe\x80");
}

TEST_CASE("requests that are not gRPC get an HTTP status") {
  TestServer s;
  auto client = s.connect();
  CHECK(client.call("/t.T/Echo", "", {{"content-type", "application/json"}}).field(":status") == "415");
  CHECK(client.call("/t.T/Echo", "", {{":method", "GET"}}).field(":status") == "405");
  CHECK(client.call("/t.T/Echo", "x", {{"content-type", "application/grpc+proto"}}).status() == 0);
  CHECK(client.call("/t.T/Echo", "x", {{"grpc-encoding", "gzip"}}).status() == 12);
  CHECK(client.call("/t.T/Echo", "x", {{"grpc-encoding", "identity"}}).status() == 0);
  CHECK(client.call("/t.T/Echo", "x", {{"grpc-timeout", "soon"}}).status() == 13);
}

TEST_CASE("a unary call has exactly one message") {
  TestServer s;
  auto client = s.connect();
  const auto none = client.open("/t.T/Echo");
  client.half_close(none);
  CHECK(client.wait_end(none).status() == 13);
  const auto two = client.open("/t.T/Echo");
  client.send(two, "a");
  client.send(two, "b");
  CHECK(client.wait_end(two).status() == 13);
  const auto cut = client.open("/t.T/Echo");
  client.send_raw(cut, std::string("\0\0\0\0\5abc", 8));
  client.half_close(cut);
  CHECK(client.wait_end(cut).message() == "the stream ended in the middle of a message");
}

TEST_CASE("a deadline ends the call and its context") {
  TestServer s;
  auto client = s.connect();
  const auto reply = client.call("/t.T/Block", "", {{"grpc-timeout", "30m"}});
  CHECK(reply.status() == 4);
  CHECK(s.blocked_end.wait(soon()).value_or(base::Code::kOk) != base::Code::kOk);
  const auto parked = client.start("/t.T/Park", "late", {{"grpc-timeout", "30m"}});
  CHECK(client.wait_end(parked).status() == 4);
  CHECK(TestServer::eventually([&] { return *s.dropped.lock() == 1; }));
}

TEST_CASE("a reset stops the context of a blocking call") {
  TestServer s;
  auto client = s.connect();
  const auto stream = client.start("/t.T/Block", "");
  REQUIRE(s.blocking.wait(soon()).has_value());
  client.reset(stream, 8);
  CHECK(s.blocked_end.wait(soon()).value_or(base::Code::kOk) == base::Code::kCancelled);
  CHECK(client.call("/t.T/Echo", "still here").status() == 0);
}

TEST_CASE("a lost connection cancels its calls") {
  TestServer s;
  {
    auto client = s.connect();
    client.start("/t.T/Block", "");
    client.start("/t.T/Park", "p");
    REQUIRE(s.blocking.wait(soon()).has_value());
    REQUIRE(s.wait_parked("p") != nullptr);
  }
  CHECK(s.blocked_end.wait(soon()).value_or(base::Code::kOk) == base::Code::kCancelled);
  CHECK(TestServer::eventually([&] { return *s.cancelled.lock() == 1 && *s.dropped.lock() == 1; }));
  CHECK(s.server.load().connections == 0);
  s.wait_parked("p")->send("nobody hears this");
  s.wait_parked("p")->finish({});
}

TEST_CASE("an async call waits without a thread and is answered from anywhere") {
  TestServer s;
  auto client = s.connect();
  std::vector<std::int32_t> streams;
  for (int i = 0; i < 300; ++i) streams.push_back(client.start("/t.T/Park", std::to_string(i)));
  client.run_until([&] { return s.parked.lock()->size() == 300; });
  REQUIRE(s.wait_parked("299") != nullptr);
  std::thread other([&s] {
    for (int i = 0; i < 300; ++i) s.wait_parked(std::to_string(i))->reply("done " + std::to_string(i));
  });
  for (int i = 0; i < 300; ++i) {
    CHECK(client.wait_message(streams[static_cast<std::size_t>(i)], 0) == "done " + std::to_string(i));
  }
  other.join();
  CHECK(TestServer::eventually([&] { return *s.dropped.lock() == 300; }));
  CHECK(*s.cancelled.lock() == 0);
}

TEST_CASE("a server stream sends until it is reset") {
  TestServer s;
  auto client = s.connect();
  const auto stream = client.start("/t.T/Park", "stream");
  const auto call = s.wait_parked("stream");
  for (int i = 0; i < 10; ++i) {
    CHECK(call->send(std::to_string(i)));
    CHECK(client.wait_message(stream, static_cast<std::size_t>(i)) == std::to_string(i));
  }
  client.reset(stream, 8);
  CHECK(TestServer::eventually([&] { return *s.cancelled.lock() == 1 && *s.dropped.lock() == 1; }));
  // After the end everything is a no-op, and what is subscribed late runs or drops at once.
  call->send("x");
  call->finish({});
  call->on_cancel([&s] { ++*s.cancelled.lock(); });
  call->keep(base::Subscription([&s] { ++*s.dropped.lock(); }));
  CHECK(TestServer::eventually([&] { return *s.cancelled.lock() == 2 && *s.dropped.lock() == 2; }));
}

TEST_CASE("what is sent before the end arrives, what comes after does not") {
  TestServer s;
  auto client = s.connect();
  const auto stream = client.start("/t.T/Park", "x");
  const auto call = s.wait_parked("x");
  call->send("one");
  call->send("two");
  call->finish({base::Code::kAborted, "enough"});
  call->send("three");
  call->finish({});
  const auto& reply = client.wait_end(stream);
  CHECK(reply.messages == std::vector<std::string>{"one", "two"});
  CHECK(reply.status() == 10);
}

TEST_CASE("bidirectional calls echo, and end without the client's END_STREAM") {
  TestServer s;
  auto client = s.connect();
  const auto stream = client.open("/t.T/EchoStream");
  for (std::size_t i = 0; i < 100; ++i) {
    const std::string text(i * 97, 'e');
    client.send(stream, text);
    CHECK(client.wait_message(stream, i) == text);
  }
  client.half_close(stream);
  CHECK(client.wait_end(stream).status() == 0);

  const auto open = client.open("/t.T/Paused");
  client.send(open, "x");
  s.wait_parked("paused")->finish({base::Code::kOk, ""});
  const auto& reply = client.wait_end(open);
  CHECK(reply.status() == 0);
  CHECK(client.run_until([&] { return client.reply(open).reset.has_value(); }));
  CHECK(client.reply(open).reset == 0u);  // NO_ERROR: we need nothing more from you
}

TEST_CASE("64 bidirectional calls at once") {
  TestServer s;
  auto client = s.connect();
  std::vector<std::int32_t> streams;
  for (int i = 0; i < 64; ++i) streams.push_back(client.open("/t.T/EchoStream"));
  for (std::size_t round = 0; round < 20; ++round) {
    for (const auto stream : streams) client.send(stream, base::str(stream, " round ", round));
  }
  for (const auto stream : streams) {
    CHECK(client.wait_message(stream, 19) == base::str(stream, " round ", 19));
    client.half_close(stream);
    CHECK(client.wait_end(stream).messages.size() == 20);
  }
}

TEST_CASE("a paused call stops its client at the window, and nobody else") {
  TestServer s;
  auto client = s.connect();
  const auto stream = client.open("/t.T/Paused");
  const std::string chunk(10'000, 'c');
  for (int i = 0; i < 100; ++i) client.send(stream, chunk);
  CHECK(client.call("/t.T/Echo", "others pass").status() == 0);
  CHECK(s.received.lock()->size() == 1);
  CHECK(s.server.load().request_bytes < 70'000);
  s.wait_parked("paused")->resume_reading();
  client.half_close(stream);
  CHECK(client.wait_end(stream).messages == std::vector<std::string>{"100"});
}

TEST_CASE("a slow reader is felt: send asks to pause, and says when to go on") {
  TestServer s;
  auto client = s.connect();
  client.stop_consuming();
  client.start("/t.T/Park", "slow");
  const auto call = s.wait_parked("slow");
  base::OneShot<bool> writable;
  call->on_writable([writable] { writable.set(true); });
  const std::string chunk(100'000, 's');
  int sent = 1;
  // What the client's window and its socket still take makes it writable once more.
  while ((call->send(chunk) || call->writable()) && sent < 100) ++sent;
  CHECK(sent < 10);
  // One that goes on all the same ends.
  while (sent < 100) {
    call->send(chunk);
    ++sent;
  }
  CHECK(TestServer::eventually([&] { return *s.dropped.lock() == 1; }));

  auto reader = s.connect();
  const auto stream = reader.start("/t.T/Park", "fast");
  const auto fast = s.wait_parked("fast");
  fast->on_writable([writable] { writable.set(true); });
  while (fast->send(chunk)) {
  }
  CHECK(reader.run_until([&] { return writable.ready(); }));
  fast->finish({});
  CHECK(reader.wait_end(stream).status() == 0);
}

TEST_CASE("several connections at once, and bare ones") {
  TestServer s;
  for (int i = 0; i < 20; ++i) s.connect_raw();  // connect and close: what a reattaching agent does first
  auto a = s.connect();
  auto b = s.connect();
  CHECK(a.call("/t.T/Echo", "a").status() == 0);
  CHECK(b.call("/t.T/Echo", "b").status() == 0);
  CHECK(TestServer::eventually([&] { return s.server.load().connections == 2; }));
}

TEST_CASE("close answers what is queued, cancels what waits, and is quick") {
  auto s = std::make_unique<TestServer>();
  auto client = s->connect();
  const auto parked = client.start("/t.T/Park", "p");
  const auto blocked = client.start("/t.T/Block", "");
  const auto call = s->wait_parked("p");
  REQUIRE(s->blocking.wait(soon()).has_value());
  call->reply("last words");
  const auto begin = base::Clock::now();
  s->server.close(20s);
  CHECK(base::Clock::now() - begin < 10s);
  CHECK(client.wait_message(parked, 0) == "last words");
  CHECK(client.wait_end(parked).status() == 0);
  CHECK(client.wait_end(blocked).ended);
  CHECK(client.goaway() == 0u);
  CHECK(s->blocked_end.ready());
  s->server.serve(std::move(tests::socket_pair().theirs));  // dropped
  CHECK(s->server.load().connections == 0);
}

TEST_CASE("streams of a finished call are gone, ten thousand calls leave nothing") {
  TestServer s;
  auto client = s.connect();
  for (int i = 0; i < 10'000; ++i) {
    if (client.call("/t.T/Constant", "x").status() != 0) FAIL("call ", i);
  }
  CHECK(s.idle());
}
