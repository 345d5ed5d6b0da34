#include "base/text.h"

#include <array>
#include <cstdio>
#include <ctime>

namespace base {

namespace {

struct Range {
  char32_t first;
  char32_t last;
};
// Beyond ASCII: what a terminal obeys, what reorders the text around it, and what cannot be seen. Joiners (U+200C and
// U+200D) are not here: words of Persian and Hindi are written with them.
constexpr std::array<Range, 11> kHidden = {{
    {0x80, 0x9f},        // C1 controls: U+009B begins a control sequence
    {0xad, 0xad},        // soft hyphen
    {0x61c, 0x61c},      // Arabic letter mark
    {0x180e, 0x180e},    // Mongolian vowel separator
    {0x200b, 0x200b},    // zero width space
    {0x200e, 0x200f},    // left-to-right and right-to-left marks
    {0x2028, 0x202e},    // line and paragraph separators, embeddings and overrides
    {0x2060, 0x206f},    // word joiner, invisible operators, isolates
    {0xfeff, 0xfeff},    // byte order mark
    {0xfff0, 0xfffb},    // specials: interlinear annotations
    {0xe0000, 0xe007f},  // tags
}};

bool is_hidden(char32_t c) {
  return std::any_of(kHidden.begin(), kHidden.end(), [c](const Range& r) { return c >= r.first && c <= r.last; });
}

// The shortest encoding of each length begins at these.
constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
constexpr char32_t kLast = 0x10ffff;

template <std::size_t kSize>
void append_number(std::string& out, const char* format, unsigned number) {
  std::array<char, kSize> text;
  std::snprintf(text.data(), text.size(), format, number);
  out += text.data();
}

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      append_number<8>(out, "\\x%02x", static_cast<unsigned char>(c));
  }
}

void append_utf16(std::string& out, char32_t c) {
  if (c > 0xffff) {
    append_number<8>(out, "\\u%04x", 0xd800 + ((c - 0x10000) >> 10));
    c = 0xdc00 + ((c - 0x10000) & 0x3ff);
  }
  append_number<8>(out, "\\u%04x", c);
}

}  // namespace

std::optional<Utf8Char> first_utf8(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto byte = [&text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char head = byte(0);
  if (head < 0x80) return Utf8Char{head, 1};
  const std::size_t bytes = head >= 0xf0 ? 4 : head >= 0xe0 ? 3 : 2;
  if (head < 0xc2 || head > 0xf4 || text.size() < bytes) return std::nullopt;
  char32_t c = head & (0x7fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return std::nullopt;
    c = c << 6 | (byte(i) & 0x3f);
  }
  const bool surrogate = c >= 0xd800 && c <= 0xdfff;
  if (c < kLeast[bytes] || c > kLast || surrogate) return std::nullopt;
  return Utf8Char{c, bytes};
}

std::string to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto c = first_utf8(text);
    out += c ? text.substr(0, c->bytes) : std::string_view("\xef\xbf\xbd");
    text.remove_prefix(c ? c->bytes : 1);
  }
  return out;
}

std::string_view cut_utf8(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

std::string utc_text(std::int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm parts = {};
  std::array<char, 64> text = {};
  if (unix_seconds == 0 || ::gmtime_r(&time, &parts) == nullptr) return "";
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto c = first_utf8(text);
    const std::size_t bytes = c ? c->bytes : 1;
    if (!c || is_control(text.front())) {
      append_escaped(out, text.front());
    } else if (is_hidden(c->code_point)) {
      append_number<16>(out, "\\u{%x}", c->code_point);
    } else {
      out += text.substr(0, bytes);
    }
    text.remove_prefix(bytes);
  }
  return out;
}

std::string printable_json(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  while (!json.empty()) {
    const auto c = first_utf8(json).value_or(Utf8Char{0xfffd, 1});
    // A serialiser escapes what is below a blank, so here it stands between values.
    if (c.code_point == 0x7f || is_hidden(c.code_point)) {
      append_utf16(out, c.code_point);
    } else {
      out += json.substr(0, c.bytes);
    }
    json.remove_prefix(c.bytes);
  }
  return out;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::vector<std::string_view> path_components(std::string_view path) {
  std::vector<std::string_view> parts = split(path, '/');
  std::erase_if(parts, [](std::string_view part) { return part.empty() || part == "."; });
  return parts;
}

std::string ascii_lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string ascii_upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

}  // namespace base
