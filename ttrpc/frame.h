// The frame codec of ttrpc: bytes to frames and back. Pure: no descriptors, no clock, no allocation beyond the payload
// that has really arrived.
//
//   offset size
//   0      4    payload length, big-endian, at most kFrameDataBytesMax
//   4      4    stream id, big-endian; a client's calls are odd and strictly increasing
//   8      1    type: 1 request, 2 response, 3 data (streams; we never send it)
//   9      1    flags, 0 for everything that we send
//   10     …    payload
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ttrpc {

inline constexpr std::size_t kFrameHeaderBytes = 10;
/// Protocol limit, inclusive. A longer frame is skipped and costs its own call only.
inline constexpr std::size_t kFrameDataBytesMax = 4u << 20;
/// The protocol reserves the first length byte (it is always 0). A peer that sets it does not speak ttrpc: it costs the
/// connection at once instead of making us skip up to 4 GiB of it.
inline constexpr std::size_t kFrameSkippedBytesMax = (16u << 20) - 1;

enum class FrameType : std::uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

struct Frame {
  std::uint32_t stream_id = 0;
  std::uint8_t type = 0;  ///< a FrameType, or a number that a later protocol may define
  std::uint8_t flags = 0;
  std::string data;                 ///< empty when oversized_bytes is set
  std::size_t oversized_bytes = 0;  ///< the length that a frame over the limit announced; its payload was skipped
};

/// Cuts a byte stream into frames. One per connection; not thread-safe.
class FrameDecoder {
 public:
  /// Takes bytes from the front of `bytes` until one frame is complete or none are left.
  ///   out     a frame; nullopt: all taken, more needed
  ///   errors  kInvalidArgument: the peer does not speak ttrpc; the decoder is of no further use
  base::Result<std::optional<Frame>> next(std::string_view& bytes);

  /// True in the middle of a frame: an EOF now is a cut, not an end.
  bool mid_frame() const { return header_filled_ > 0; }

 private:
  base::Status read_header();

  std::array<unsigned char, kFrameHeaderBytes> header_{};
  std::size_t header_filled_ = 0;
  std::size_t data_left_ = 0;  ///< payload bytes still to come, once the header is complete
  Frame frame_;
};

/// Header and payload as they go on the wire. `data` larger than kFrameDataBytesMax is our bug (callers check first).
std::string encode_frame(FrameType type, std::uint32_t stream_id, std::string_view data);

}  // namespace ttrpc
