#include "driver/values/words.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/json.h"
#include "base/text.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kNameBytesMax = 4095;  // PATH_MAX without its NUL
constexpr std::size_t kShownBytesMax = 80;
constexpr std::size_t kMistakesQuotedMax = 16;

struct Unit {
  std::string_view name;
  long double nanoseconds;
};
const Unit* find_unit(std::string_view name);
bool take_number(std::string_view& rest, long double& value);

}  // namespace

void Mistakes::add(Status checked) {
  if (checked) return;
  if (++count_ == 1) {
    all_ = std::move(checked).error();
  } else if (count_ <= kMistakesQuotedMax) {
    all_.message += str("; also: ", checked.error().message);
  }
}

Status Mistakes::status() && {
  if (count_ == 0) return {};
  if (count_ > kMistakesQuotedMax) all_.message += str("; and ", count_ - kMistakesQuotedMax, " more");
  return std::move(all_);
}

Error refuse(const std::string& where, const std::string& value, std::string_view why) {
  return Error::invalid_argument(str(where, " = ", show_value(value), " ", why));
}

Status check_name(const std::string& where, const std::string& value) {
  if (value.size() > kNameBytesMax) {
    return refuse(where, value, str("has ", value.size(), " bytes, the limit is ", kNameBytesMax));
  }
  if (base::has_control(value)) {
    return refuse(where, value, "contains a control character, such as a newline");
  }
  return {};
}

Status check_absolute(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (!value.empty() && value.front() != '/') return refuse(where, value, "must be an absolute path, like /srv");
  return {};
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto malformed = [&](std::string_view why) {
    return Error::invalid_argument(
        str(show_value(std::string(text)), " ", why, ": write a size like \"64m\", \"1.5GiB\" or \"4096\""));
  };
  if (text.starts_with('-')) return malformed("is negative");
  std::string_view rest = text;
  long double value = 0;
  if (!take_number(rest, value)) return malformed("is not a valid size");
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  const std::string unit = base::ascii_lower(rest);
  static constexpr std::string_view kUnits = "bkmgt";
  const std::size_t power = unit.empty() ? 0 : kUnits.find(unit.front());
  const std::string_view tail = unit.empty() ? std::string_view() : std::string_view(unit).substr(1);
  const bool known = power != std::string_view::npos && (tail.empty() || (power > 0 && (tail == "b" || tail == "ib")));
  if (!known) return malformed("has an unknown unit");
  for (std::size_t i = 0; i < power; ++i) value *= 1024;
  if (value > static_cast<long double>(std::numeric_limits<std::int64_t>::max())) return malformed("is too large");
  return static_cast<std::uint64_t>(value);
}

Result<milliseconds> parse_duration(std::string_view text) {
  const auto malformed = [&](std::string_view why) {
    return Error::invalid_argument(
        str(show_value(std::string(text)), " ", why, ": write a duration like \"30s\", \"5m\" or \"1h30m\""));
  };
  if (text == "0") return milliseconds(0);
  if (text.starts_with('-')) return malformed("is negative");
  std::string_view rest = text;
  if (rest.starts_with('+')) rest.remove_prefix(1);
  if (rest.empty()) return malformed("is not a valid duration");
  long double nanoseconds = 0;
  while (!rest.empty()) {
    long double value = 0;
    if (!take_number(rest, value)) return malformed("is not a valid duration");
    const std::size_t end = std::min(rest.find_first_of("0123456789."), rest.size());
    const Unit* unit = find_unit(rest.substr(0, end));
    if (unit == nullptr) return malformed(end == 0 ? "has no unit" : "has an unknown unit");
    nanoseconds += value * unit->nanoseconds;
    rest.remove_prefix(end);
  }
  if (nanoseconds > static_cast<long double>(std::numeric_limits<std::int64_t>::max())) return malformed("is too long");
  return std::chrono::duration_cast<milliseconds>(std::chrono::nanoseconds(static_cast<std::int64_t>(nanoseconds)));
}

std::string hcl_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string show_size(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  for (std::size_t power = kUnits.size() - 1; power > 0; --power) {
    const std::uint64_t unit = std::uint64_t{1} << (10 * power);
    // In tenths, exactly.
    if (bytes < unit || bytes % unit * 10 % unit != 0) continue;
    const std::uint64_t tenths = bytes % unit * 10 / unit;
    return tenths == 0 ? str(bytes / unit, " ", kUnits[power]) : str(bytes / unit, ".", tenths, " ", kUnits[power]);
  }
  return str(bytes, " bytes");
}

std::string show_duration(std::chrono::milliseconds value) {
  const auto ms = value.count();
  if (ms == 0) return "0s";
  if (ms % 3'600'000 == 0) return str(ms / 3'600'000, "h");
  if (ms % 60'000 == 0) return str(ms / 60'000, "m");
  if (ms % 1000 == 0) return str(ms / 1000, "s");
  return str(ms, "ms");
}

std::string show_value(const Json& value) {
  std::string text = base::dump_json(value);
  if (text.size() <= kShownBytesMax) return text;
  std::size_t end = kShownBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not in the midst of a character
  return text.substr(0, end) + "…";
}

namespace {

const Unit* find_unit(std::string_view name) {
  static constexpr std::array<Unit, 8> kUnits = {{{"ns", 1},
                                                  {"us", 1e3L},
                                                  {"\u00b5s", 1e3L},  // micro sign
                                                  {"\u03bcs", 1e3L},  // Greek mu
                                                  {"ms", 1e6L},
                                                  {"s", 1e9L},
                                                  {"m", 60e9L},
                                                  {"h", 3600e9L}}};
  const auto it = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& unit) { return unit.name == name; });
  return it == kUnits.end() ? nullptr : &*it;
}

/// Digits with at most one point among them, at least one digit.
bool take_number(std::string_view& rest, long double& value) {
  long double scale = 0;  // 0 = before the point
  bool digits = false;
  while (!rest.empty()) {
    const char c = rest.front();
    if (c == '.' && scale == 0) {
      scale = 1;
    } else if (c >= '0' && c <= '9') {
      digits = true;
      const auto digit = static_cast<long double>(c - '0');
      value = scale == 0 ? value * 10 + digit : value + digit * (scale /= 10);
    } else {
      break;
    }
    rest.remove_prefix(1);
  }
  return digits;
}

}  // namespace
}  // namespace driver
