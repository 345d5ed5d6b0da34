#include "grpc/wire.h"

#include <algorithm>
#include <limits>

namespace grpc {

namespace {
constexpr std::size_t kPrefixBytes = 5;
}  // namespace

std::string frame_message(std::string_view message) {
  CHECK(message.size() <= std::numeric_limits<std::uint32_t>::max());
  const auto size = static_cast<std::uint32_t>(message.size());
  std::string out;
  out.reserve(kPrefixBytes + message.size());
  out.push_back('\0');
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>((size >> shift) & 0xff));
  out.append(message);
  return out;
}

base::Status MessageReader::feed(std::string_view bytes, const std::function<void(std::string)>& on_message) {
  while (true) {
    if (prefix_size_ < kPrefixBytes) {
      const std::size_t n = std::min(kPrefixBytes - prefix_size_, bytes.size());
      std::copy_n(bytes.begin(), n, prefix_ + prefix_size_);
      prefix_size_ += n;
      bytes.remove_prefix(n);
      if (prefix_size_ < kPrefixBytes) return {};
      TRY_VOID(read_prefix());
    }
    const std::size_t n = std::min(body_size_ - body_.size(), bytes.size());
    body_.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    if (body_.size() < body_size_) return {};
    std::string message = std::move(body_);
    body_.clear();
    prefix_size_ = 0;
    on_message(std::move(message));
  }
}

base::Status MessageReader::read_prefix() {
  if (prefix_[0] == 1) {
    return base::Error::unimplemented("compressed messages are not supported: send them with grpc-encoding identity");
  }
  if (prefix_[0] != 0) return base::Error::internal(base::str("message flag ", int{prefix_[0]}, " is neither 0 nor 1"));
  body_size_ = 0;
  for (int i = 1; i < 5; ++i) body_size_ = body_size_ << 8 | prefix_[i];
  if (body_size_ > message_bytes_max_) {
    return base::Error::resource_exhausted(
        base::str("message of ", body_size_, " bytes is over the limit of ", message_bytes_max_));
  }
  return {};
}

std::optional<std::chrono::nanoseconds> parse_timeout(std::string_view text) {
  constexpr std::size_t kDigitsMax = 8;
  if (text.size() < 2 || text.size() > kDigitsMax + 1) return std::nullopt;
  const char unit = text.back();
  text.remove_suffix(1);
  std::int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  switch (unit) {
    case 'H': {
      // 99,999,999 hours do not fit nanoseconds; a century is as good as for ever.
      constexpr std::int64_t kHoursMax = 100 * 365 * 24;
      return std::chrono::hours(std::min(value, kHoursMax));
    }
    case 'M':
      return std::chrono::minutes(value);
    case 'S':
      return std::chrono::seconds(value);
    case 'm':
      return std::chrono::milliseconds(value);
    case 'u':
      return std::chrono::microseconds(value);
    case 'n':
      return std::chrono::nanoseconds(value);
    default:
      return std::nullopt;
  }
}

bool is_grpc_content_type(std::string_view value) {
  constexpr std::string_view kType = "application/grpc";
  if (!value.starts_with(kType)) return false;
  value.remove_prefix(kType.size());
  return value.empty() || value.front() == '+' || value.front() == ';';
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7e && c != '%') {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
  return out;
}

}  // namespace grpc
