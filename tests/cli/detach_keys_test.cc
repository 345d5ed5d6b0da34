// clang-format off
#include "cli/detach_keys.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on

namespace {

cli::DetachKeys keys(const std::string& text) {
  auto parsed = cli::DetachKeys::parse(text);
  REQUIRE(parsed.has_value());
  return *std::move(parsed);
}

}  // namespace

TEST_CASE("keys that end an attach, wherever a read has cut them") {
  auto usual = keys(cli::DetachKeys::kDefault);
  CHECK(usual.pass("ls\r") == "ls\r");
  CHECK(usual.pass("\x10").empty());  // it may begin them
  CHECK_FALSE(usual.detached());
  CHECK(usual.pass("x") == "\x10x");
  CHECK(usual.pass("\x10\x10").size() == 1);
  CHECK(usual.pass("\x11rest").empty());
  CHECK(usual.detached());
  CHECK(usual.pass("more").empty());
}

TEST_CASE("keys that begin like their own end") {
  auto odd = keys("a,a,b");
  CHECK(odd.pass("aaab") == "a");
  CHECK(odd.detached());
  auto again = keys("a,b,a,c");
  CHECK(again.pass("ababac") == "ab");
  CHECK(again.detached());
}

TEST_CASE("which keys there are") {
  auto none = keys("");
  CHECK(none.pass("\x10\x11") == "\x10\x11");
  CHECK_FALSE(none.detached());
  auto signs = keys("ctrl-@,ctrl-[,x");
  CHECK(signs.pass(std::string_view("\0\x1bx", 3)).empty());
  CHECK(signs.detached());
  for (const char* bad : {"ctrl-", "ctrl-P", "ctrl-1", "pq", "a,", ",", "ctrl-p ctrl-q", "\x10"}) {
    CAPTURE(bad);
    CHECK_FALSE(cli::DetachKeys::parse(bad));
  }
}
