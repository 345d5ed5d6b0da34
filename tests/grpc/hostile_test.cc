// Peers that mean harm or know no better: each costs at most its own connection, and little memory.
// doctest has to come after result.h: its CHECK is the one meant here.
// clang-format off
#include "tests/grpc/test_server.h"
#include "tests/sanitized.h"

#include <doctest/doctest.h>

#include <sys/socket.h>

#include <array>
#include <fstream>
// clang-format on

using namespace std::chrono_literals;
using tests::frame;
using tests::TestServer;

namespace {

constexpr std::uint8_t kEndStream = 1;
constexpr std::uint8_t kEndHeaders = 4;
constexpr std::uint32_t kProtocolError = 1;
constexpr std::uint32_t kEnhanceYourCalm = 11;

std::string four(std::uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
  return out;
}

std::string head(std::uint32_t stream, const std::string& path, std::uint8_t flags = kEndHeaders) {
  return frame(tests::kHeaders, flags, stream, tests::header_block(tests::grpc_fields(path)));
}

template <typename Fn>
std::string repeated(int n, Fn fn) {
  std::string out;
  for (int i = 0; i < n; ++i) out += fn(static_cast<std::uint32_t>(i));
  return out;
}

/// The code of the GOAWAY among the frames in `bytes`, -1 without one.
int goaway_code(std::string_view bytes) {
  while (bytes.size() >= 9) {
    std::size_t size = 0;
    for (int i = 0; i < 3; ++i) size = size << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
    if (bytes.size() < 9 + size) break;
    if (bytes[3] == tests::kGoaway) return static_cast<unsigned char>(bytes[16]);
    bytes.remove_prefix(9 + size);
  }
  return -1;
}

/// Reads frames up to one of `type`; false at the end.
bool wait_frame(int fd, std::uint8_t type) {
  while (true) {
    std::array<unsigned char, 9> head{};
    if (::recv(fd, head.data(), head.size(), MSG_WAITALL) != static_cast<ssize_t>(head.size())) return false;
    std::string payload(static_cast<std::size_t>(head[0] << 16 | head[1] << 8 | head[2]), '\0');
    if (!payload.empty() && ::recv(fd, payload.data(), payload.size(), MSG_WAITALL) <= 0) return false;
    if (head[3] == type) return true;
  }
}

/// After whatever happened, a well-behaved client is served and nothing is held.
void check_healthy(TestServer& s) {
  auto client = s.connect();
  CHECK(client.call("/t.T/Echo", "fine").status() == 0);
  client.reset(1, 0);
  CHECK(TestServer::eventually([&] { return s.idle(); }));
}

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * 4096;
}

}  // namespace

// grpc-go measures the path with a ping for each batch of data that it gets.
TEST_CASE("a ping for data of ours is no flood, a second one counts") {
  TestServer s;
  auto socket = s.connect_raw();
  const int fd = socket.get();
  REQUIRE(tests::write_bytes(fd, tests::hello() + head(1, "/t.T/EchoStream")));
  const std::string message = std::string("\0\0\0\0\1", 5) + "x";
  for (int i = 0; i < 3000; ++i) {
    REQUIRE(tests::write_bytes(fd, frame(tests::kData, 0, 1, message)));
    REQUIRE(wait_frame(fd, tests::kData));
    REQUIRE(tests::write_bytes(fd, frame(tests::kPing, 0, 0, "12345678")));
    REQUIRE(wait_frame(fd, tests::kPing));
  }
  CHECK(tests::write_bytes(fd, repeated(2000, [](auto) { return frame(tests::kPing, 0, 0, "12345678"); })));
  CHECK(goaway_code(tests::read_all(fd)) == kEnhanceYourCalm);
}

TEST_CASE("floods and nonsense close the connection with the right code") {
  struct Row {
    std::string name;
    std::string bytes;
    int goaway;
  };
  const std::string hello = tests::hello();
  const std::string cancel = four(8);
  const Row rows[] = {
      {"not a preface", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", kProtocolError},
      {"preface without settings", std::string(tests::kPreface) + frame(tests::kPing, 0, 0, "12345678"),
       kProtocolError},
      {"ping flood", hello + repeated(2000, [](auto) { return frame(tests::kPing, 0, 0, "12345678"); }),
       kEnhanceYourCalm},
      {"ping acknowledgements that nobody asked for",
       hello + repeated(2000, [](auto) { return frame(tests::kPing, 1, 0, "12345678"); }), kEnhanceYourCalm},
      {"settings flood", hello + repeated(2000, [](auto) { return frame(tests::kSettings, 0, 0, ""); }),
       kEnhanceYourCalm},
      {"priority flood",
       hello + repeated(2000, [](auto i) { return frame(tests::kPriority, 0, 2 * i + 1, std::string(4, '\0') + "x"); }),
       kEnhanceYourCalm},
      {"empty data", hello + head(1, "/t.T/Echo") + repeated(2000, [](auto) { return frame(tests::kData, 0, 1, ""); }),
       kEnhanceYourCalm},
      {"rapid reset",
       hello + repeated(1000,
                        [&](auto i) {
                          return head(2 * i + 1, "/t.T/Park") + frame(tests::kRstStream, 0, 2 * i + 1, cancel);
                        }),
       kEnhanceYourCalm},
      {"continuation flood",
       hello + head(1, "/t.T/Echo", 0) +
           repeated(1000,
                    [](auto) {
                      return frame(tests::kContinuation, 0, 1, tests::header_block({{"x", "y"}}));
                    }),
       kEnhanceYourCalm},
      {"empty continuations",
       hello + head(1, "/t.T/Echo", 0) + repeated(1000, [](auto) { return frame(tests::kContinuation, 0, 1, ""); }),
       kEnhanceYourCalm},
      {"100 KiB of header fields",
       hello + frame(tests::kHeaders, 0, 1, tests::header_block(tests::grpc_fields("/a"))) +
           repeated(8,
                    [](auto) {
                      return frame(tests::kContinuation, 0, 1, tests::header_block({{"x", std::string(12'000, 'v')}}));
                    }),
       kEnhanceYourCalm},
      {"200 header fields",
       hello +
           frame(tests::kHeaders, kEndHeaders, 1,
                 tests::header_block(tests::grpc_fields("/a")) + repeated(200,
                                                                          [](auto) {
                                                                            return tests::header_block({{"x", "y"}});
                                                                          })),
       kEnhanceYourCalm},
      {"broken header compression", hello + frame(tests::kHeaders, kEndHeaders, 1, "\xff\xff\xff\xff\xff\xff\xff"), 9},
      {"data on stream 0", hello + frame(tests::kData, 0, 0, "x"), kProtocolError},
      {"even stream", hello + head(2, "/t.T/Echo"), kProtocolError},
      {"frame over the limit", hello + frame(tests::kData, 0, 1, std::string(20'000, 'x')), 6},
      {"window overflow", hello + frame(tests::kWindowUpdate, 0, 0, four(0x7fffffff)), 3},
  };
  TestServer s;
  for (const auto& row : rows) {
    CAPTURE(row.name);
    auto socket = s.connect_raw();
    tests::write_bytes(socket.get(), row.bytes);  // may fail half-way: it is closed
    CHECK(goaway_code(tests::read_all(socket.get())) == row.goaway);
  }
  check_healthy(s);
}

TEST_CASE("what is wrong with one stream costs that stream") {
  TestServer s;
  auto client = s.connect();
  const auto compressed = client.open("/t.T/Echo");
  client.send_raw(compressed, std::string("\1\0\0\0\1x", 6));
  CHECK(client.wait_end(compressed).status() == 12);
  const auto oversize = client.open("/t.T/Echo");
  client.send_raw(oversize, std::string("\0\1\0\0\1", 5));
  CHECK(client.wait_end(oversize).status() == 8);
  const auto flag = client.open("/t.T/EchoStream");
  client.send_raw(flag, std::string("\7\0\0\0\1x", 6));
  CHECK(client.wait_end(flag).status() == 13);
  CHECK(client.call("/t.T/Echo", "same connection").status() == 0);
  CHECK(s.server.load().connections == 1);
}

TEST_CASE("data beyond a stream's window resets the stream") {
  TestServer s;
  auto socket = s.connect_raw();
  std::string bytes = tests::hello() + head(1, "/t.T/Paused");
  bytes += repeated(300, [](auto) { return frame(tests::kData, 0, 1, std::string(16'000, '\0')); });
  // Frames of types that nobody knows are to be skipped.
  bytes += repeated(2000, [](auto) { return frame(0x42, 0, 0, "?"); });
  bytes += frame(tests::kGoaway, 0, 0, std::string(8, '\0'));
  tests::write_bytes(socket.get(), bytes);
  CHECK(tests::read_all(socket.get()).find(frame(tests::kRstStream, 0, 1, four(3))) != std::string::npos);
  check_healthy(s);
}

TEST_CASE("the connection's requests may hold 32 MiB, whatever the number of streams") {
  TestServer s;
  auto client = s.connect();
  const std::string part = std::string("\0\0\xa0\0\0", 5) + std::string(0xa00000 - 1, 'x');  // 10 MiB but one byte
  std::vector<std::int32_t> streams;
  for (int i = 0; i < 4; ++i) {
    streams.push_back(client.open("/t.T/Echo"));
    client.send_raw(streams.back(), part);
  }
  CHECK(client.run_until([&] {
    int refused = 0;
    for (const auto stream : streams) refused += client.reply(stream).status() == 8 ? 1 : 0;
    return refused == 1;
  }));
  CHECK(s.server.load().request_bytes <= grpc::kRequestBytesHeldMax);
  CHECK(s.connect().call("/t.T/Echo", "another connection").status() == 0);
  for (const auto stream : streams) client.reset(stream, 8);
  CHECK(TestServer::eventually([&] { return s.server.load().request_bytes == 0; }));
}

TEST_CASE("ten thousand streams: those over the limit are refused, a patient client goes on") {
  TestServer s;
  auto client = s.connect();
  const auto before = resident_bytes();
  std::vector<std::int32_t> streams;
  for (int i = 0; i < 5'000; ++i) {
    streams.push_back(client.open("/t.T/EchoStream"));
    if (i % 100 == 0) client.run_until([] { return false; }, 1ms);
  }
  const auto refused = [&] {
    std::size_t n = 0;
    for (const auto stream : streams) n += client.reply(stream).reset == 7u ? 1 : 0;
    return n;
  };
  CHECK(client.run_until([&] { return refused() == 5'000 - grpc::kStreamsMax; }));
  CHECK(s.server.load().calls == grpc::kStreamsMax);
  if (!tests::kSanitized) CHECK(resident_bytes() - before < (64u << 20));  // the client's half included
  client.reset(streams[0], 0);
  CHECK(client.call("/t.T/Echo", "room for one").status() == 0);
  CHECK(s.connect().call("/t.T/Echo", "others").status() == 0);
}

TEST_CASE("a peer that never reads is not read from, and holds little") {
  TestServer s;
  auto socket = s.connect_raw();
  const auto before = resident_bytes();
  // Each request asks for a reply that nobody takes; far below the flood limits.
  std::string bytes = tests::hello();
  std::uint32_t stream = 1;
  for (int i = 0; i < 3'000; ++i, stream += 2) {
    bytes += head(stream, "/t.T/Constant") + frame(tests::kData, kEndStream, stream, std::string(5, '\0'));
  }
  tests::write_bytes(socket.get(), bytes);
  if (!tests::kSanitized) CHECK(resident_bytes() - before < (32u << 20));
  CHECK(s.connect().call("/t.T/Echo", "others").status() == 0);
  socket.reset();
  check_healthy(s);
}

TEST_CASE("a zero window stops the reply, not the server") {
  TestServer s;
  auto socket = s.connect_raw();
  const std::string no_window = frame(tests::kSettings, 0, 0, std::string("\0\4", 2) + four(0));
  tests::write_bytes(socket.get(), std::string(tests::kPreface) + no_window + head(1, "/t.T/Echo") +
                                       frame(tests::kData, kEndStream, 1, std::string("\0\0\0\0\3abc", 8)));
  CHECK(s.connect().call("/t.T/Echo", "others").status() == 0);
  CHECK(TestServer::eventually([&] { return s.server.load().calls == 1; }));
  socket.reset();
  check_healthy(s);
}

TEST_CASE("one byte at a time is slow but right") {
  TestServer s;
  auto socket = s.connect_raw();
  std::string bytes = tests::hello() + head(1, "/t.T/Echo");
  for (const char c : std::string("\0\0\0\0\3abc", 8)) bytes += frame(tests::kData, 0, 1, std::string(1, c));
  bytes += frame(tests::kData, kEndStream, 1, "");
  for (const char c : bytes) REQUIRE(tests::write_bytes(socket.get(), std::string_view(&c, 1)));
  tests::write_bytes(socket.get(), frame(tests::kGoaway, 0, 0, std::string(8, '\0')));
  const std::string reply = tests::read_all(socket.get());  // our GOAWAY answers theirs once the call is done
  CHECK(reply.find(std::string("\0\0\0\0\3abc", 8)) != std::string::npos);
}

TEST_CASE("a preface or a head that does not come to its end ends the connection, an idle client stays") {
  base::Loop loop;
  base::Crew crew({.name = "calls"});
  grpc::Server server(loop, crew, 50ms);
  server.constant("/t.T/Constant", "x");
  const auto connect = [&server] {
    auto pair = tests::socket_pair();
    server.serve(std::move(pair.theirs));
    return std::move(pair.ours);
  };
  tests::GrpcClient idle(connect());
  CHECK(idle.call("/t.T/Constant", "").status() == 0);
  const auto silent = connect();
  const auto half_preface = connect();
  tests::write_bytes(half_preface.get(), tests::kPreface.substr(0, 10));
  const auto half_head = connect();
  tests::write_bytes(half_head.get(), tests::hello() + head(1, "/t.T/Constant", 0));
  CHECK_FALSE(tests::read_all(silent.get()).empty());  // SETTINGS and GOAWAY, then the end
  CHECK(goaway_code(tests::read_all(half_preface.get())) == 0);
  CHECK(goaway_code(tests::read_all(half_head.get())) == 0);
  CHECK(idle.call("/t.T/Constant", "").status() == 0);
}

TEST_CASE("connections beyond the limit are closed at once") {
  TestServer s;
  std::vector<base::Fd> sockets;
  for (std::size_t i = 0; i < grpc::kConnectionsMax; ++i) sockets.push_back(s.connect_raw());
  CHECK(s.server.load().connections == grpc::kConnectionsMax);
  auto one_more = s.connect_raw();
  CHECK(tests::read_all(one_more.get()).empty());
  sockets.pop_back();
  CHECK(TestServer::eventually([&] { return s.server.load().connections < grpc::kConnectionsMax; }));
  check_healthy(s);
}

TEST_CASE("every prefix of a conversation, then silence") {
  TestServer s;
  const std::string bytes = tests::hello() + head(1, "/t.T/Echo") +
                            frame(tests::kData, kEndStream, 1, std::string("\0\0\0\0\3abc", 8)) +
                            head(3, "/t.T/EchoStream") + frame(tests::kData, 0, 3, std::string("\0\0\0\0\1x", 6)) +
                            frame(tests::kRstStream, 0, 3, four(8));
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    auto socket = s.connect_raw();
    tests::write_bytes(socket.get(), std::string_view(bytes).substr(0, cut));
  }
  CHECK(TestServer::eventually([&] { return s.server.load().connections == 0; }));
  check_healthy(s);
}
