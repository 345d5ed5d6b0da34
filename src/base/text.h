// Text of others: which bytes are UTF-8, what a terminal may be shown, and ASCII without a locale. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace base {

/// One character and the bytes that it takes.
struct Utf8Char {
  char32_t code_point;
  std::size_t bytes;
};
/// The character at the head of `text`; nullopt if RFC 3629 allows none there (overlong, surrogate, cut off, empty).
std::optional<Utf8Char> first_utf8(std::string_view text);
/// `text` with U+FFFD in place of each byte that belongs to no character: protobuf and JSON allow nothing else.
std::string to_utf8(std::string_view text);

/// `text` as a person may see it in a terminal or a log: one line, and nothing that moves the cursor, changes colours,
/// reorders or hides what stands beside it. Valid, visible UTF-8 passes; everything else is written out:
///   \n \r \t   these three · \x1b  other control characters of ASCII, and bytes that are not UTF-8
///   \u{202e}   control characters beyond ASCII (C1, bidirectional formatting, separators of lines, invisible ones)
/// For reading, not for decoding: a backslash in `text` stays as it is.
std::string printable(std::string_view text);
/// The same for a JSON document: what printable() would write out becomes \uXXXX, so the document means the same.
/// Line breaks between values stay.
std::string printable_json(std::string_view json);

/// The beginning of `text`, at most `bytes_max` long: a character of UTF-8 is not cut in two.
std::string_view cut_utf8(std::string_view text, std::size_t bytes_max);

/// "2026-01-02T03:04:05Z", "" for 0.
std::string utc_text(std::int64_t unix_seconds);

/// Below U+0020, or DEL.
constexpr bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}
inline bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), is_control);
}
/// A control character or a blank.
inline bool has_control_or_blank(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return is_control(c) || c == ' '; });
}

/// The parts between separators: one more than there are separators, empty ones included.
std::vector<std::string_view> split(std::string_view text, char separator);
/// The components of a path, without empty ones and ".".
std::vector<std::string_view> path_components(std::string_view path);

/// Letters of ASCII only, whatever the locale says.
std::string ascii_lower(std::string_view text);
std::string ascii_upper(std::string_view text);

}  // namespace base
