// Recorded connections of a real agent, played to the plugin: whole, in pieces, and broken off at every byte.
// clang-format off
#include "tests/plugin/plugin_server.h"

#include <doctest/doctest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>

#include "tests/plugin/golden.h"
#include "tests/sanitized.h"
// clang-format on

using namespace std::chrono_literals;
using tests::PluginServer;

namespace {

/// Reads the server's frames as the agent would: header blocks are decoded, messages counted.
class Reader {
 public:
  Reader() { nghttp2_hd_inflate_new(&inflater_); }
  ~Reader() { nghttp2_hd_inflate_del(inflater_); }

  /// False when the bytes are no HTTP/2 frames, or their header blocks cannot be decoded.
  bool feed(std::string_view bytes) {
    pending_.append(bytes);
    while (pending_.size() >= 9) {
      std::size_t size = 0;
      for (std::size_t i = 0; i < 3; ++i) size = size << 8 | static_cast<unsigned char>(pending_[i]);
      if (size > 16'384) return false;
      if (pending_.size() < 9 + size) return true;
      const auto type = static_cast<std::uint8_t>(pending_[3]);
      const std::string payload = pending_.substr(9, size);
      pending_.erase(0, 9 + size);
      if (type == tests::kHeaders && !inflate(payload)) return false;
      if (type == tests::kData) data_bytes += payload.size();
      if (type == tests::kGoaway) goaway = static_cast<unsigned char>(payload[7]);
    }
    return true;
  }

  std::map<std::string, int> statuses;  ///< grpc-status -> how often
  std::size_t data_bytes = 0;
  int goaway = -1;

 private:
  bool inflate(std::string_view block) {
    const auto* in = reinterpret_cast<const std::uint8_t*>(block.data());
    std::size_t left = block.size();
    while (true) {
      nghttp2_nv field{};
      int flags = 0;
      const ssize_t n = nghttp2_hd_inflate_hd2(inflater_, &field, &flags, in, left, 1);
      if (n < 0) return false;
      in += n;
      left -= static_cast<std::size_t>(n);
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        const std::string name(reinterpret_cast<const char*>(field.name), field.namelen);
        if (name == "grpc-status") ++statuses[{reinterpret_cast<const char*>(field.value), field.valuelen}];
      }
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) return nghttp2_hd_inflate_end_headers(inflater_) == 0;
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 && left == 0) return true;
    }
  }

  nghttp2_hd_inflater* inflater_ = nullptr;
  std::string pending_;
};

/// Plays `bytes` in pieces, reads what comes until `done`, then closes.
void play(PluginServer& s, std::string_view bytes, std::size_t piece, Reader& reader,
          const std::function<bool()>& done) {
  auto pair = tests::socket_pair();
  s.server.serve(std::move(pair.theirs));
  const int fd = pair.ours.get();
  const auto drain = [&] {
    char buffer[64 << 10];
    ssize_t n = 0;
    while ((n = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
      REQUIRE(reader.feed({buffer, static_cast<std::size_t>(n)}));
    }
  };
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    REQUIRE(tests::write_bytes(fd, bytes.substr(at, piece)));
    drain();
  }
  CHECK(PluginServer::eventually([&] {
    drain();
    return done();
  }));
}

int total(const std::map<std::string, int>& statuses) {
  int sum = 0;
  for (const auto& [status, count] : statuses) sum += count;
  return sum;
}

}  // namespace

TEST_CASE("instance 1: information and schema, then shutdown") {
  const std::string bytes = tests::golden("instance1.client.h2");
  for (const std::size_t piece : {bytes.size(), std::size_t{1}, std::size_t{7}}) {
    PluginServer s;
    Reader reader;
    play(s, bytes, piece, reader, [&] { return reader.statuses["0"] == 3; });
    CHECK(reader.data_bytes > 300);
    CHECK(reader.goaway == -1);
    CHECK(s.shutdown.wait(base::Context::background().with_timeout(20s)).has_value());
  }
}

TEST_CASE("instance 2: SetConfig twice") {
  const std::string bytes = tests::golden("instance2.client.h2");
  for (const std::size_t piece : {bytes.size(), std::size_t{1}, std::size_t{13}}) {
    PluginServer s;
    Reader reader;
    play(s, bytes, piece, reader, [&] { return reader.statuses["0"] == 3; });
    CHECK(s.calls() == std::vector<std::string>{"configure", "configure"});
  }
}

TEST_CASE("instance 3: a working agent, all of its calls") {
  const std::string bytes = tests::golden("instance3.client.h2");
  for (const std::size_t piece : {bytes.size(), std::size_t{1}, std::size_t{1000}}) {
    PluginServer s;
    Reader reader;
    // 65 calls: four streams stay open, waits and statistics end when the tasks do, and what the agent reset in the
    // same breath goes without an answer. How many those are differs, so the last call, Shutdown, is waited for, too:
    // a close with answers unread takes what was sent before it away from the other side.
    play(s, bytes, piece, reader, [&] { return total(reader.statuses) >= 44 && s.shutdown.ready(); });
    CHECK(reader.goaway == -1);
    const auto calls = s.calls();
    const auto count = [&calls](const std::string& verb) {
      return std::count_if(calls.begin(), calls.end(), [&](const auto& call) { return call.starts_with(verb); });
    };
    CHECK(count("configure") == 1);
    CHECK(count("signal ") == 2);
    CHECK(count("stop ") == 1);
    CHECK(count("destroy ") == 5);
  }
}

TEST_CASE("instance 6: recovery after an agent restart") {
  const std::string bytes = tests::golden("instance6.client.h2");
  for (const std::size_t piece : {bytes.size(), std::size_t{1}, std::size_t{100}}) {
    PluginServer s;
    Reader reader;
    play(s, bytes, piece, reader, [&] {
      const auto calls = s.calls();
      return std::count_if(calls.begin(), calls.end(), [](const auto& call) { return call.starts_with("recover "); }) ==
             2;
    });
    CHECK(reader.goaway == -1);
  }
}

TEST_CASE("every recorded connection, broken off at every byte") {
  // Every byte of the shorter ones and of the long one's beginning, samples of its rest: the whole is quadratic, and
  // tests/grpc/http2_test.cc does it without sockets.
  constexpr std::size_t kEveryByteUpTo = tests::kSanitized ? 700 : 6'000;
  constexpr std::size_t kStep = tests::kSanitized ? 397 : 37;
  PluginServer s;
  for (const char* name :
       {"instance1.client.h2", "instance2.client.h2", "instance6.client.h2", "instance3.client.h2"}) {
    const std::string bytes = tests::golden(name);
    for (std::size_t cut = 0; cut < bytes.size(); cut += cut < kEveryByteUpTo ? 1 : kStep) {
      auto pair = tests::socket_pair();
      s.server.serve(std::move(pair.theirs));
      REQUIRE(tests::write_bytes(pair.ours.get(), std::string_view(bytes).substr(0, cut)));
    }
    CHECK_MESSAGE(PluginServer::eventually([&] { return s.server.load().connections == 0; }), name);
  }
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 0; }));
  auto client = s.connect();
  CHECK(client.call(tests::driver_method("Capabilities"), "").status() == 0);
}
