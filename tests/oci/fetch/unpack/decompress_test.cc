#include "oci/fetch/unpack/decompress.h"

#include <doctest/doctest.h>
#include <zlib.h>
#include <zstd.h>

#include <random>

#include "tests/oci/fetch/tar_builder.h"

using base::Code;

namespace {

std::string gzip(const std::string& text) {
  z_stream stream{};
  REQUIRE_EQ(deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  const std::size_t size = ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3);
  REQUIRE_FALSE(ZSTD_isError(size));
  out.resize(size);
  return out;
}

/// Decompresses `bytes`, handed over in pieces of at most `piece_max`.
base::Result<std::string> run(const std::string& bytes, std::size_t piece_max = 1 << 20) {
  std::size_t at = 0;
  const auto source = [&](std::span<char> out) -> base::Result<std::size_t> {
    const std::size_t size = std::min({out.size(), piece_max, bytes.size() - at});
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), size, out.begin());
    at += size;
    return size;
  };
  TRY(auto decompressor, oci::fetch::open_decompressor(source, "layer x"));
  std::string out;
  for (;;) {
    TRY(const auto piece, decompressor->next());
    if (piece.empty()) return out;
    out += piece;
  }
}

std::string sample(std::size_t size) {
  std::minstd_rand random(1);
  std::string out = tests::TarBuilder().file("f", "x").done();
  while (out.size() < size) out += std::string(random() % 50, static_cast<char>('a' + random() % 26));
  return out;
}

}  // namespace

TEST_CASE("plain, gzip and zstd are told by their bytes, in pieces of any size") {
  const std::string text = sample(1 << 20);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{4096}, std::size_t{1} << 20}) {
    CAPTURE(piece);
    CHECK_EQ(run(text, piece).value_or("?"), text);
    CHECK_EQ(run(gzip(text), piece).value_or("?"), text);
    CHECK_EQ(run(zstd(text), piece).value_or("?"), text);
  }
  CHECK_EQ(run("").value_or("?"), "");
  CHECK_EQ(run(gzip("")).value_or("?"), "");
  CHECK_EQ(run(std::string(1024, '\0')).value_or("?"), std::string(1024, '\0'));
}

TEST_CASE("several gzip members and zstd frames are one stream") {
  const std::string text = sample(300'000);
  std::string members;
  std::string frames = std::string(
      "\x50\x2a\x4d\x18\x04\x00\x00\x00"
      "abcd",
      12);  // a skippable frame
  for (std::size_t at = 0; at < text.size(); at += 10'007) {
    members += gzip(text.substr(at, 10'007));
    frames += zstd(text.substr(at, 10'007));
  }
  for (const std::size_t piece : {std::size_t{1}, std::size_t{100}, std::size_t{1} << 20}) {
    CHECK_EQ(run(members, piece).value_or("?"), text);
    CHECK_EQ(run(frames, piece).value_or("?"), text);
  }
}

TEST_CASE("cut off, corrupt, or followed by garbage is data loss") {
  const std::string text = sample(100'000);
  for (const std::string& whole : {gzip(text), zstd(text)}) {
    for (const std::size_t size : {std::size_t{600}, whole.size() / 2, whole.size() - 1}) {
      CAPTURE(size);
      CHECK_EQ(run(whole.substr(0, size)).error().code, Code::kDataLoss);
    }
    CHECK_EQ(run(whole + "garbage").error().code, Code::kDataLoss);
  }
  std::string flipped = gzip(text);
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 0x10);
  CHECK_EQ(run(flipped).error().code, Code::kDataLoss);
  std::string bad_crc = gzip(text);
  bad_crc[bad_crc.size() - 6] = static_cast<char>(bad_crc[bad_crc.size() - 6] ^ 1);
  CHECK_EQ(run(bad_crc).error().code, Code::kDataLoss);
}

TEST_CASE("anything else is named") {
  CHECK_EQ(run("\xfd"
               "7zXZ" +
               std::string(1000, '\0'))
               .error()
               .message,
           "layer x is not a gzip, zstd or plain tar archive but xz");
  CHECK_NE(run("<html>" + std::string(1000, ' ')).error().message.find("an HTML page"), std::string::npos);
  CHECK_NE(run("no tar at all").error().message.find("0x6e6f"), std::string::npos);
}

TEST_CASE("a zstd window beyond 128 MiB is refused") {
  // Frame header: magic, descriptor 0 (window, no content size), window descriptor for 2^31 bytes, an empty last block.
  const std::string frame("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", 9);
  CHECK_EQ(run(frame).error().code, Code::kDataLoss);
}

TEST_CASE("the source's error is passed on") {
  auto decompressor = oci::fetch::open_decompressor(
      [](std::span<char>) -> base::Result<std::size_t> { return base::Error::unavailable("gone"); }, "layer x");
  CHECK_EQ(decompressor.error().code, Code::kUnavailable);
}
