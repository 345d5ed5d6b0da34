#include "driver/option_checks.h"

#include <algorithm>

#include "base/json.h"
#include "oci/platform.h"

namespace driver {

using base::Error;
using base::Status;
using base::str;

namespace {
constexpr std::size_t kNameBytesMax = 4095;  // PATH_MAX without its NUL
}  // namespace

Error refuse(const std::string& where, const std::string& value, std::string_view why) {
  return Error::invalid_argument(str(where, " = ", show_value(value), " ", why));
}

Status check_name(const std::string& where, const std::string& value) {
  if (value.size() > kNameBytesMax) {
    return refuse(where, value, str("has ", value.size(), " bytes, the limit is ", kNameBytesMax));
  }
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(value.begin(), value.end(), is_control)) {
    return refuse(where, value, "contains a control character, such as a newline");
  }
  return {};
}

Status check_absolute(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (!value.empty() && value.front() != '/') return refuse(where, value, "must be an absolute path, like /srv");
  return {};
}

Status check_platform(const std::string& where, const std::string& value) {
  if (const auto platform = oci::wanted_platform(value); !platform) {
    return refuse(where, value, "is no platform: write linux/arm64, linux/arm/v7, linux/amd64");
  }
  return {};
}

std::string lower(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

}  // namespace driver
