// Base64 (RFC 4648, section 4). Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace base {

enum class Base64Padding { kNone, kFull };
std::string base64_encode(std::string_view bytes, Base64Padding padding);

/// Takes text with and without padding, and with line breaks in it. nullopt if anything else does not belong.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace base
