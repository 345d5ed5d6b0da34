#include "ttrpc/frame.h"

#include <algorithm>

namespace ttrpc {

namespace {

std::uint32_t read_u32(const unsigned char* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 |
         std::uint32_t{bytes[3]};
}

void append_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

}  // namespace

base::Result<std::optional<Frame>> FrameDecoder::next(std::string_view& bytes) {
  if (header_filled_ < kFrameHeaderBytes) {
    const std::size_t n = std::min(bytes.size(), kFrameHeaderBytes - header_filled_);
    std::copy_n(bytes.begin(), n, header_.begin() + static_cast<std::ptrdiff_t>(header_filled_));
    header_filled_ += n;
    bytes.remove_prefix(n);
    if (header_filled_ < kFrameHeaderBytes) return std::optional<Frame>();
    TRY_VOID(read_header());
  }
  const std::size_t n = std::min(bytes.size(), data_left_);
  if (frame_.oversized_bytes == 0) frame_.data.append(bytes.data(), n);
  data_left_ -= n;
  bytes.remove_prefix(n);
  if (data_left_ > 0) return std::optional<Frame>();
  header_filled_ = 0;
  return std::optional<Frame>(std::exchange(frame_, Frame()));
}

base::Status FrameDecoder::read_header() {
  data_left_ = read_u32(&header_[0]);
  if (data_left_ > kFrameSkippedBytesMax) {
    return base::Error::invalid_argument(
        base::str("the peer announced a frame of ", data_left_, " bytes: it does not speak ttrpc"));
  }
  frame_.stream_id = read_u32(&header_[4]);
  frame_.type = header_[8];
  frame_.flags = header_[9];
  if (data_left_ > kFrameDataBytesMax) frame_.oversized_bytes = data_left_;
  return {};
}

std::string encode_frame(FrameType type, std::uint32_t stream_id, std::string_view data) {
  CHECK(data.size() <= kFrameDataBytesMax);
  std::string out;
  out.reserve(kFrameHeaderBytes + data.size());
  append_u32(out, static_cast<std::uint32_t>(data.size()));
  append_u32(out, stream_id);
  out.push_back(static_cast<char>(type));
  out.push_back('\0');
  out.append(data);
  return out;
}

}  // namespace ttrpc
