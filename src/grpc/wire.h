// gRPC on top of HTTP/2 (PROTOCOL-HTTP2.md of grpc), the pure part: message framing, header values. Bytes and values
// in, bytes and values out; no sockets, no clock.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "grpc/status.h"

namespace grpc {

/// The message with its prefix: one byte "compressed" (0), four bytes length, big endian. CHECKs that it fits 32 bits.
std::string frame_message(std::string_view message);

/// Cuts the DATA of one stream into messages, however the frames fall.
class MessageReader {
 public:
  explicit MessageReader(std::size_t message_bytes_max = kRequestBytesMax) : message_bytes_max_(message_bytes_max) {}

  /// Takes the next bytes and calls `on_message` for every message that they complete. After an error the reader must
  /// not be fed again. A length is believed only as far as bytes arrive: nothing is reserved on a peer's word.
  ///   errors  kUnimplemented compressed flag · kResourceExhausted length over the limit · kInternal flag neither 0 nor
  ///   1
  base::Status feed(std::string_view bytes, const std::function<void(std::string)>& on_message);

  /// Bytes of an unfinished message, prefix included; 0 = between messages.
  std::size_t pending_bytes() const { return prefix_size_ + body_.size(); }

 private:
  base::Status read_prefix();

  std::size_t message_bytes_max_;
  unsigned char prefix_[5] = {};
  std::size_t prefix_size_ = 0;
  std::size_t body_size_ = 0;
  std::string body_;
};

/// grpc-timeout: one to eight digits and a unit (H M S m u n). nullopt if it is anything else.
std::optional<std::chrono::nanoseconds> parse_timeout(std::string_view text);

/// "application/grpc", alone or followed by '+' or ';'.
bool is_grpc_content_type(std::string_view value);

/// grpc-message: bytes outside 0x20..0x7e, and '%', become %XX.
std::string percent_encode(std::string_view text);

}  // namespace grpc
