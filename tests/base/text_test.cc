// clang-format off
#include "base/json.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "base/text.h"

#include <vector>

namespace {

struct Case {
  std::string text;
  std::string want;
};

}  // namespace

TEST_CASE("cut_utf8 cuts between characters") {
  CHECK_EQ(base::cut_utf8("abc", 3), "abc");
  CHECK_EQ(base::cut_utf8("abc", 2), "ab");
  CHECK_EQ(base::cut_utf8("a\u20ac", 4), "a\u20ac");
  for (const std::size_t max : {1U, 2U, 3U}) CHECK_EQ(base::cut_utf8("a\u20ac", max), "a");
  CHECK_EQ(base::cut_utf8("\u20ac", 2), "");
}

TEST_CASE("first_utf8 takes what RFC 3629 allows, and nothing else") {
  struct Valid {
    std::string text;
    char32_t code_point;
    std::size_t bytes;
  };
  const std::vector<Valid> valid = {
      {std::string("\0", 1), 0, 1},
      {"A", 'A', 1},
      {"\x7f", 0x7f, 1},
      {"\xc2\x80", 0x80, 2},
      {"\xdf\xbf", 0x7ff, 2},
      {"\xe0\xa0\x80", 0x800, 3},
      {"\xed\x9f\xbf", 0xd7ff, 3},
      {"\xee\x80\x80", 0xe000, 3},
      {"\xef\xbf\xbf", 0xffff, 3},
      {"\xf0\x90\x80\x80", 0x10000, 4},
      {"\xf4\x8f\xbf\xbf and more", 0x10ffff, 4},
  };
  for (const Valid& c : valid) {
    const auto got = base::first_utf8(c.text);
    REQUIRE_MESSAGE(got.has_value(), c.text);
    CHECK_EQ(got->code_point, c.code_point);
    CHECK_EQ(got->bytes, c.bytes);
  }
  const std::vector<std::string> invalid = {
      "",  // nothing
      "\x80",
      "\xbf",  // a continuation
      "\xc0\x80",
      "\xc1\xbf",  // overlong
      "\xe0\x9f\xbf",
      "\xf0\x8f\xbf\xbf",
      "\xed\xa0\x80",
      "\xed\xbf\xbf",  // surrogates
      "\xf4\x90\x80\x80",
      "\xf5\x80\x80\x80",
      "\xff",
      "\xc2",
      "\xe2\x82",
      "\xf0\x9f\x98",  // cut off
      "\xc2"
      "A",
      "\xe2\x82"
      "A",
  };
  for (const std::string& text : invalid) CHECK_FALSE_MESSAGE(base::first_utf8(text).has_value(), text);
}

TEST_CASE("to_utf8 replaces each byte that belongs to no character") {
  CHECK_EQ(base::to_utf8("größe 日本 😀"), "größe 日本 😀");
  CHECK_EQ(base::to_utf8("größe"), "größe");
  CHECK_EQ(base::to_utf8(std::string("a\0b \"\n", 6)), std::string("a\0b \"\n", 6));
  CHECK_EQ(base::to_utf8("a\xffz\xe2\x82"), "a\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd");
}

TEST_CASE("printable lets text pass and writes out what a terminal would obey, reorder or hide") {
  const std::vector<Case> cases = {
      {"redis:7", "redis:7"},
      {"größe 日本 😀 \xd9\x81\xd8\xa7", "größe 日本 😀 \xd9\x81\xd8\xa7"},
      {"a\\b", "a\\b"},
      {"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"},
      {"one\ntwo\r\tthree", "one\\ntwo\\r\\tthree"},
      {std::string("nul\0del\x7f", 8), "nul\\x00del\\x7f"},
      {"c1 \xc2\x9b"
       "31m",
       "c1 \\u{9b}31m"},
      {"raw c1 \x9b", "raw c1 \\x9b"},
      {"bad \xff\xc3", "bad \\xff\\xc3"},
      {"exe.\xe2\x80\xaegnp", "exe.\\u{202e}gnp"},
      {"\xe2\x81\xa6isolate\xe2\x81\xa9", "\\u{2066}isolate\\u{2069}"},
      {"a\xe2\x80\x8b"
       "b\xef\xbb\xbf",
       "a\\u{200b}b\\u{feff}"},
      {"line\xe2\x80\xa8next", "line\\u{2028}next"},
      {"tag\xf3\xa0\x81\x81", "tag\\u{e0041}"},
      {"\xd9\x85\xdb\x8c\xe2\x80\x8c\xd8\xae", "\xd9\x85\xdb\x8c\xe2\x80\x8c\xd8\xae"},  // a joiner stays
  };
  for (const Case& c : cases) CHECK_EQ(base::printable(c.text), c.want);
  for (unsigned byte = 0; byte < 0x100; ++byte) {
    const std::string shown = base::printable(std::string(1, static_cast<char>(byte)));
    CHECK_FALSE(base::has_control(shown));
    CHECK_EQ(base::to_utf8(shown), shown);
  }
}

TEST_CASE("printable_json means the same and shows nothing that a terminal would obey") {
  const base::Json value = {{"k\x1b\xc2\x9b",
                             "a\x7f\xe2\x80\xae"
                             "b\n größe \xf3\xa0\x81\x81"}};
  const std::string shown = base::printable_json(base::dump_json_pretty(value));
  for (const char* hidden : {"\x1b", "\x7f", "\xc2\x9b", "\xe2\x80\xae", "\xf3\xa0\x81\x81"}) {
    CHECK_EQ(shown.find(hidden), std::string::npos);
  }
  CHECK_NE(shown.find("\\u202e"), std::string::npos);
  CHECK_NE(shown.find("\\udb40\\udc41"), std::string::npos);
  CHECK_NE(shown.find("größe"), std::string::npos);
  const auto again = base::parse_json(shown, "shown");
  REQUIRE(again.has_value());
  CHECK(*again == value);
}

TEST_CASE("split keeps empty parts, path_components does not") {
  using Parts = std::vector<std::string_view>;
  CHECK(base::split("", ',') == Parts{""});
  CHECK(base::split("a", ',') == Parts{"a"});
  CHECK(base::split(",a,,b,", ',') == Parts{"", "a", "", "b", ""});
  CHECK(base::path_components("") == Parts{});
  CHECK(base::path_components("/") == Parts{});
  CHECK(base::path_components("//a/./b/../.c//") == Parts{"a", "b", "..", ".c"});
}

TEST_CASE("controls and ASCII letters, whatever the locale") {
  CHECK(base::is_control('\x1f'));
  CHECK(base::is_control('\x7f'));
  CHECK_FALSE(base::is_control(' '));
  CHECK_FALSE(base::is_control('\xc3'));
  CHECK(base::has_control("a\nb"));
  CHECK_FALSE(base::has_control("a b"));
  CHECK(base::has_control_or_blank("a b"));
  CHECK_EQ(base::ascii_lower("DOCKER.io/\xc3\x84Z09"), "docker.io/\xc3\x84z09");
  CHECK_EQ(base::ascii_upper("sigTerm+1\xc3\xa4"), "SIGTERM+1\xc3\xa4");
}
