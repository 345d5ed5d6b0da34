#include "grpc/http2.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/grpc/client.h"
#include "tests/sanitized.h"

namespace {

/// Writes down what a session tells, and answers nothing.
struct Recorder : grpc::SessionEvents {
  void on_head_begin() override { ++heads; }
  void on_head_end() override { --heads; }
  void on_request(grpc::StreamId id, const grpc::RequestHead& head) override { requests[id] = head; }
  void on_data(grpc::StreamId id, std::string_view bytes) override {
    data[id] += bytes;
    if (session != nullptr && consume) session->consume(id, bytes.size());
  }
  void on_end(grpc::StreamId id) override { ended.push_back(id); }
  void on_sent(grpc::StreamId, std::size_t bytes) override { sent += bytes; }
  void on_closed(grpc::StreamId id) override { closed.push_back(id); }

  int heads = 0;
  bool consume = true;
  grpc::Session* session = nullptr;
  std::map<grpc::StreamId, grpc::RequestHead> requests;
  std::map<grpc::StreamId, std::string> data;
  std::vector<grpc::StreamId> ended;
  std::vector<grpc::StreamId> closed;
  std::size_t sent = 0;
};

struct Fixture {
  Fixture() { events.session = &session; }
  base::Status receive(const std::string& bytes) { return session.receive(bytes); }
  std::string request(std::uint32_t stream, std::uint8_t flags = 4) {
    return tests::frame(tests::kHeaders, flags, stream, tests::header_block(tests::grpc_fields("/a/b")));
  }
  Recorder events;
  grpc::Session session{events};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "settings come first, and carry no limit of streams") {
  const std::string out = session.output(1 << 20);
  REQUIRE(out.size() >= 9 + 6);
  CHECK(out[3] == 4);
  CHECK(out.substr(9, 6) == std::string("\0\6\0\1\0\0", 6));  // MAX_HEADER_LIST_SIZE 65536 alone
  CHECK(out[2] == 6);
  CHECK_FALSE(session.established());
  REQUIRE(receive(tests::hello()));
  CHECK(session.established());
}

TEST_CASE_FIXTURE(Fixture, "a request is told in its parts") {
  REQUIRE(receive(tests::hello() + request(1)));
  REQUIRE(events.requests.count(1) == 1);
  CHECK(events.requests[1].path == "/a/b");
  CHECK(events.requests[1].method == "POST");
  CHECK(events.requests[1].content_type == "application/grpc");
  CHECK(events.ended.empty());
  REQUIRE(receive(tests::frame(tests::kData, 0, 1, "abc") + tests::frame(tests::kData, 1, 1, "def")));
  CHECK(events.data[1] == "abcdef");
  CHECK(events.ended == std::vector<grpc::StreamId>{1});
  CHECK(events.heads == 0);
}

TEST_CASE_FIXTURE(Fixture, "a head that is not complete is known to be open") {
  REQUIRE(receive(tests::hello()));
  const std::string bytes = request(1);
  REQUIRE(receive(bytes.substr(0, 12)));
  CHECK(events.heads == 1);
  REQUIRE(receive(bytes.substr(12)));
  CHECK(events.heads == 0);
}

TEST_CASE_FIXTURE(Fixture, "a response is head, body, trailers; a client that goes on is told to stop") {
  REQUIRE(receive(tests::hello() + request(1)));
  session.output(1 << 20);
  session.start_response(1, {{":status", "200"}});
  session.write(1, "body");
  session.finish(1, {{"grpc-status", "0"}});
  const std::string out = session.output(1 << 20);
  CHECK(out.find("body") != std::string::npos);
  CHECK(out.substr(out.size() - 13) == tests::frame(tests::kRstStream, 0, 1, std::string(4, '\0')));
  CHECK(events.sent == 4);
  CHECK(events.closed == std::vector<grpc::StreamId>{1});
  session.write(1, "late");  // no harm
  session.finish(1, {});
  CHECK(session.output(1 << 20).empty());
}

TEST_CASE_FIXTURE(Fixture, "a body waits for the client's window") {
  REQUIRE(receive(tests::hello() + request(1, 5)));
  session.output(1 << 20);
  session.start_response(1, {{":status", "200"}});
  session.write(1, std::string(100'000, 'x'));
  session.finish(1, {{"grpc-status", "0"}});
  CHECK(session.output(1 << 20).size() < 66'000);
  CHECK(events.sent == 65'535);
  REQUIRE(receive(tests::frame(tests::kWindowUpdate, 0, 0, std::string("\0\1\0\0", 4)) +
                  tests::frame(tests::kWindowUpdate, 0, 1, std::string("\0\1\0\0", 4))));
  session.output(1 << 20);
  CHECK(events.sent == 100'000);
  CHECK(events.closed == std::vector<grpc::StreamId>{1});
}

TEST_CASE_FIXTURE(Fixture, "a stream's window opens only for what was consumed, the connection's always") {
  events.consume = false;
  REQUIRE(receive(tests::hello() + request(1)));
  session.output(1 << 20);
  std::string chunks;
  for (int i = 0; i < 3; ++i) chunks += tests::frame(tests::kData, 0, 1, std::string(16'000, 'd'));
  REQUIRE(receive(chunks));
  CHECK(session.output(1 << 20).empty());
  session.consume(1, 48'000);
  CHECK(session.output(1 << 20).find(tests::frame(tests::kWindowUpdate, 0, 1, std::string("\0\0\xbb\x80", 4))) !=
        std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "what is not HTTP/2 is an error, and stays one") {
  const auto received = receive("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  REQUIRE_FALSE(received.has_value());
  CHECK(received.error().code == base::Code::kInvalidArgument);
  CHECK_FALSE(receive(tests::hello()).has_value());
}

TEST_CASE_FIXTURE(Fixture, "go_away refuses new streams and ends when the old ones have") {
  REQUIRE(receive(tests::hello() + request(1, 5)));
  session.go_away();
  session.output(1 << 20);
  REQUIRE(receive(request(3, 5)));
  CHECK(events.requests.count(3) == 0);
  CHECK_FALSE(session.finished());
  session.respond(1, {{":status", "200"}, {"grpc-status", "0"}});
  session.output(1 << 20);
  CHECK(session.finished());
}

TEST_CASE_FIXTURE(Fixture, "an ended stream tells its end once") {
  REQUIRE(receive(tests::hello() + request(1) + tests::frame(tests::kRstStream, 0, 1, std::string("\0\0\0\x8", 4))));
  CHECK(events.closed == std::vector<grpc::StreamId>{1});
  REQUIRE(receive(tests::frame(tests::kRstStream, 0, 1, std::string("\0\0\0\x8", 4))));
  CHECK(events.closed.size() == 1);
}

/// Where to split a connection: anywhere in the preface and in the first frames, then once in each frame, in its header
/// at a place that changes, and here and there in its payload. With sanitizers some of these places.
std::vector<std::size_t> splits(const std::string& bytes) {
  constexpr std::size_t kPreface = 24, kHeader = 9, kDenseFrames = 40, kPayloadStep = 61, kSanitizedStep = 29;
  std::vector<std::size_t> all(kPreface);
  std::iota(all.begin(), all.end(), 0u);
  const auto octet = [&](std::size_t at) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[at])); };
  std::size_t number = 0;
  for (std::size_t frame = kPreface; frame + kHeader <= bytes.size(); ++number) {
    const std::size_t payload = octet(frame) << 16 | octet(frame + 1) << 8 | octet(frame + 2);
    const std::size_t end = std::min(frame + kHeader + payload, bytes.size());
    const bool dense = number < kDenseFrames;
    for (std::size_t at = dense ? frame : frame + number % kHeader; at < end; at += dense ? 1 : kPayloadStep)
      all.push_back(at);
    frame = end;
  }
  if (!tests::kSanitized) return all;
  std::vector<std::size_t> some;
  for (std::size_t i = 0; i < all.size(); i += kSanitizedStep) some.push_back(all[i]);
  return some;
}

TEST_CASE("a recorded connection of an agent is the same wherever it is split") {
  const auto bytes = base::read_file(std::filesystem::path(TEST_DATA_DIR) / "agent/instance3.client.h2", 1u << 20);
  REQUIRE(bytes.has_value());
  for (const std::size_t split : splits(*bytes)) {
    Fixture f;
    const bool first = f.receive(bytes->substr(0, split)).has_value();
    f.session.output(1 << 20);
    const bool second = f.receive(bytes->substr(split)).has_value();
    f.session.output(1 << 20);
    if (!first || !second || f.events.requests.size() != 65) FAIL("split at ", split);
  }
}
