// clang-format off
#include "base/result.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "base/base64.h"

#include <vector>

using base::Base64Padding;

TEST_CASE("the vectors of RFC 4648, with padding and without") {
  struct Row {
    std::string bytes;
    std::string padded;
    std::string bare;
  };
  for (const Row& row : std::vector<Row>{{"", "", ""},
                                         {"f", "Zg==", "Zg"},
                                         {"fo", "Zm8=", "Zm8"},
                                         {"foo", "Zm9v", "Zm9v"},
                                         {"foob", "Zm9vYg==", "Zm9vYg"},
                                         {"fooba", "Zm9vYmE=", "Zm9vYmE"},
                                         {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
                                         {std::string("\x00\xff\xfb", 3), "AP/7", "AP/7"}}) {
    CHECK_EQ(base::base64_encode(row.bytes, Base64Padding::kFull), row.padded);
    CHECK_EQ(base::base64_encode(row.bytes, Base64Padding::kNone), row.bare);
    CHECK(base::base64_decode(row.padded) == row.bytes);
    CHECK(base::base64_decode(row.bare) == row.bytes);
  }
}

TEST_CASE("all bytes there and back; line breaks are passed over, nothing else is") {
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes.push_back(static_cast<char>(i * 7));
  CHECK(base::base64_decode(base::base64_encode(bytes, Base64Padding::kFull)) == bytes);
  CHECK(base::base64_decode("Zm9v\r\nYmFy\n") == "foobar");
  for (const char* bad : {"Z", "Zm9vY", "Zm8==", "Zg=", "=", "====", "Zg==Zg==", "Zm9v Ymb", "Zm9-", "Zm9v!"}) {
    CHECK_FALSE_MESSAGE(base::base64_decode(bad).has_value(), bad);
  }
}
