// The framing of layers: gzip members, zstd frames, plain tar, garbage. Whatever the pieces are that the bytes come in,
// what comes out is the same.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "oci/fetch/unpack/decompress.h"

namespace {

constexpr std::size_t kOutputBytesMax = 4u << 20;

struct Outcome {
  std::string text;
  base::Code code = base::Code::kOk;
  bool operator==(const Outcome&) const = default;
};

Outcome decompress(std::string_view bytes, std::size_t piece_max) {
  Outcome out;
  auto decompressor = oci::fetch::open_decompressor(
      [&](std::span<char> to) -> base::Result<std::size_t> {
        const std::size_t size = bytes.copy(to.data(), std::min(to.size(), piece_max));
        bytes.remove_prefix(size);
        return size;
      },
      "layer");
  if (!decompressor) {
    out.code = decompressor.error().code;
    return out;
  }
  while (out.text.size() < kOutputBytesMax) {
    const auto piece = (*decompressor)->next();
    if (!piece) out.code = piece.error().code;
    if (!piece || piece->empty()) break;
    out.text += *piece;
  }
  out.text.resize(std::min(out.text.size(), kOutputBytesMax));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Outcome whole = decompress(bytes, bytes.size() + 1);
  const Outcome pieces = decompress(bytes, 1 + size % 7);
  // What precedes an error may come out or not, by how much was looked at when it was met.
  if (whole.code != pieces.code || (whole.code == base::Code::kOk && whole != pieces)) std::abort();
  return 0;
}
