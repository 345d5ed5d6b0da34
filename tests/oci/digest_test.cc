#include "oci/digest.h"

#include <doctest/doctest.h>

using base::Code;
using oci::Digest;

namespace {
const std::string kHex(64, 'a');
Digest digest(const std::string& text) {
  return *Digest::parse(text);
}
}  // namespace

TEST_CASE("Digest::parse takes sha256 in lower case and says what else is wrong") {
  CHECK_EQ(Digest::parse("sha256:" + kHex)->hex(), kHex);
  struct Case {
    std::string text;
    Code code;
  };
  const Case cases[] = {
      {"", Code::kInvalidArgument},
      {"sha256", Code::kInvalidArgument},
      {"sha256:", Code::kInvalidArgument},
      {"sha256:" + kHex + "a", Code::kInvalidArgument},
      {"sha256:" + kHex.substr(1), Code::kInvalidArgument},
      {"sha256:" + std::string(64, 'A'), Code::kInvalidArgument},
      {"sha256:" + std::string(63, 'a') + "g", Code::kInvalidArgument},
      {"sha256:../../" + kHex.substr(6), Code::kInvalidArgument},
      {"SHA256:" + kHex, Code::kInvalidArgument},
      {"sha512:" + kHex + kHex, Code::kUnimplemented},
      {"sha256+b64:" + kHex, Code::kUnimplemented},
      {"sha512:short", Code::kInvalidArgument},
      {"+sha512:" + kHex, Code::kInvalidArgument},
      {"a..b:" + kHex, Code::kInvalidArgument},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    const auto parsed = Digest::parse(c.text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK_EQ(parsed.error().code, c.code);
  }
}

TEST_CASE("of_bytes and the incremental hasher agree with known values") {
  CHECK_EQ(Digest::of_bytes("").text(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQ(Digest::of_bytes("{}").text(), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
  CHECK_EQ(Digest::of_bytes(std::string(1024, '\0')).text(),
           "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
  oci::Hasher hasher;
  for (int i = 0; i < 1024; ++i) hasher.update(std::string_view("\0", 1));
  CHECK_EQ(hasher.finish(), Digest::of_bytes(std::string(1024, '\0')));
}

TEST_CASE("chain ids name a layer by all that is below it") {
  const auto a = digest("sha256:" + std::string(64, 'a'));
  const auto b = digest("sha256:" + std::string(64, 'b'));
  CHECK(oci::chain_ids({}).empty());
  const auto chain = oci::chain_ids({a, b, b});
  REQUIRE_EQ(chain.size(), 3);
  CHECK_EQ(chain[0], a);
  CHECK_EQ(chain[1], Digest::of_bytes(a.text() + " " + b.text()));
  CHECK_EQ(chain[2], Digest::of_bytes(chain[1].text() + " " + b.text()));
}
