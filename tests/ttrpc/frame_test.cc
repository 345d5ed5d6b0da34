#include "ttrpc/frame.h"

#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "tests/ttrpc/raw_peer.h"

using ttrpc::Frame;
using ttrpc::FrameDecoder;
using ttrpc::FrameType;
using ttrpc_test::header;
using ttrpc_test::must;

namespace {

// Feeds `bytes` in pieces of `piece` bytes.
std::vector<Frame> decode_all(FrameDecoder& decoder, std::string_view bytes, std::size_t piece) {
  std::vector<Frame> frames;
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    while (!part.empty()) {
      if (auto frame = must(decoder.next(part))) frames.push_back(std::move(*frame));
    }
  }
  return frames;
}

}  // namespace

TEST_CASE("a frame on the wire") {
  const std::string bytes = ttrpc::encode_frame(FrameType::kRequest, 0x01020305, "abc");
  CHECK(bytes == std::string("\0\0\0\3\1\2\3\5\1\0abc", 13));
  CHECK(ttrpc::encode_frame(FrameType::kResponse, 1, "") == std::string("\0\0\0\0\0\0\0\1\2\0", 10));
}

TEST_CASE("frames come in any fragmentation") {
  const std::string bytes = ttrpc::encode_frame(FrameType::kRequest, 1, "first") +
                            ttrpc::encode_frame(FrameType::kResponse, 3, "") +
                            ttrpc::encode_frame(FrameType::kData, 5, std::string(1000, 'x'));
  for (const std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{9}, std::size_t{10}, std::size_t{11},
                                  std::size_t{500}, bytes.size()}) {
    CAPTURE(piece);
    FrameDecoder decoder;
    const auto frames = decode_all(decoder, bytes, piece);
    REQUIRE(frames.size() == 3);
    CHECK(frames[0].stream_id == 1);
    CHECK(frames[0].type == 1);
    CHECK(frames[0].data == "first");
    CHECK(frames[1].stream_id == 3);
    CHECK(frames[1].data.empty());
    CHECK(frames[2].data == std::string(1000, 'x'));
    CHECK_FALSE(decoder.mid_frame());
  }
}

TEST_CASE("any sequence of frames survives any cutting") {
  std::mt19937 random(7);
  std::string bytes;
  std::vector<std::string> payloads;
  for (int i = 0; i < 200; ++i) {
    payloads.push_back(std::string(random() % 3000, static_cast<char>(random())));
    bytes += ttrpc::encode_frame(FrameType::kRequest, static_cast<std::uint32_t>(2 * i + 1), payloads.back());
  }
  FrameDecoder decoder;
  std::vector<Frame> frames;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    std::string_view part = rest.substr(0, 1 + random() % 4000);
    rest.remove_prefix(part.size());
    while (!part.empty()) {
      if (auto frame = must(decoder.next(part))) frames.push_back(std::move(*frame));
    }
  }
  REQUIRE(frames.size() == payloads.size());
  for (std::size_t i = 0; i < frames.size(); ++i) CHECK(frames[i].data == payloads[i]);
}

TEST_CASE("a frame of the limit passes, one byte more is skipped") {
  const auto limit = static_cast<std::uint32_t>(ttrpc::kFrameDataBytesMax);
  FrameDecoder decoder;
  auto frames = decode_all(decoder, header(limit, 1, 1) + std::string(limit, 'a'), 64u << 10);
  REQUIRE(frames.size() == 1);
  CHECK(frames[0].data.size() == limit);
  CHECK(frames[0].oversized_bytes == 0);

  frames =
      decode_all(decoder, header(limit + 1, 3, 1) + std::string(limit + 1, 'b') + header(1, 5, 2) + "c", 64u << 10);
  REQUIRE(frames.size() == 2);
  CHECK(frames[0].stream_id == 3);
  CHECK(frames[0].oversized_bytes == limit + 1);
  CHECK(frames[0].data.empty());
  CHECK(frames[1].stream_id == 5);
  CHECK(frames[1].data == "c");
}

TEST_CASE("a length with its reserved byte set is no ttrpc") {
  FrameDecoder decoder;
  std::string_view http = "GET / HTTP/1.1\r\n";
  const auto frame = decoder.next(http);
  REQUIRE_FALSE(frame.has_value());
  CHECK(frame.error().code == base::Code::kInvalidArgument);
  FrameDecoder other;
  const std::string just_below = header(ttrpc::kFrameSkippedBytesMax, 1, 1);
  std::string_view bytes = just_below;
  CHECK_FALSE(must(other.next(bytes)).has_value());
}

TEST_CASE("the decoder knows that it is in the middle of a frame") {
  FrameDecoder decoder;
  CHECK_FALSE(decoder.mid_frame());
  const std::string bytes = header(2, 1, 1) + "ab";
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string_view byte(&bytes[i], 1);
    const auto frame = must(decoder.next(byte));
    CHECK(frame.has_value() == (i + 1 == bytes.size()));
    CHECK(decoder.mid_frame() == (i + 1 != bytes.size()));
  }
}

TEST_CASE("types and flags of a later protocol are handed on") {
  FrameDecoder decoder;
  const std::string bytes = header(0, 8, 200, 0xff);
  std::string_view rest = bytes;
  const auto frame = must(decoder.next(rest));
  REQUIRE(frame.has_value());
  CHECK(frame->type == 200);
  CHECK(frame->flags == 0xff);
}
