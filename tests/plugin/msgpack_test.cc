#include "plugin/msgpack.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "plugin/proto/base.pb.h"
#include "tests/plugin/golden.h"

using base::Code;

namespace {
Code code_of(std::string_view bytes) {
  const auto decoded = plugin::decode_config(bytes, "test");
  return decoded ? Code::kOk : decoded.error().code;
}
}  // namespace

TEST_CASE("what cty writes") {
  const auto decoded = plugin::decode_config(std::string("\x83\xa3"
                                                         "bar\xcd\x05\x39\xa3"
                                                         "baz\xc3\xa3"
                                                         "foo\xa2v1",
                                                         20),
                                             "test");
  REQUIRE(decoded.has_value());
  CHECK((*decoded)["bar"] == 1337);
  CHECK((*decoded)["baz"] == true);
  CHECK((*decoded)["foo"] == "v1");
}

TEST_CASE("nothing and nil are the empty object") {
  CHECK(plugin::decode_config("", "test")->is_object());
  CHECK(plugin::decode_config("\xc0", "test")->is_object());
  CHECK(plugin::decode_config("\x80", "test")->empty());
}

TEST_CASE("old raw strings, binary, numbers as text and as floats") {
  const std::string long_text(40, 'r');
  const auto decoded = plugin::decode_config(std::string("\x84\xa1"
                                                         "a\xda\x00\x28",
                                                         6) +
                                                 long_text +
                                                 std::string("\xa1"
                                                             "b\xc4\x02"
                                                             "bi\xa1"
                                                             "c\xa3"
                                                             "0.1\xa1"
                                                             "d\xcb\x3f\xe0\0\0\0\0\0\0",
                                                             23),
                                             "test");
  REQUIRE_MESSAGE(decoded.has_value(), decoded.error().message);
  CHECK((*decoded)["a"] == long_text);
  CHECK((*decoded)["b"] == "bi");
  CHECK((*decoded)["c"] == "0.1");
  CHECK((*decoded)["d"] == 0.5);
}

TEST_CASE("what is malformed or too much is refused") {
  CHECK(code_of("\x91\xc0") == Code::kInvalidArgument);  // an array
  CHECK(code_of("\xc1") == Code::kInvalidArgument);      // never used
  CHECK(code_of("\x81\xa1") == Code::kInvalidArgument);  // cut
  CHECK(code_of("\x80\x80") == Code::kInvalidArgument);  // something behind
  CHECK(code_of(std::string("\xdf\xff\xff\xff\xff", 5)) != Code::kOk);
  CHECK(code_of(std::string("\xdd\xff\xff\xff\xff", 5)) != Code::kOk);
  CHECK(code_of("\x82\xa1"
                "a\xc0\xa1"
                "a\xc0") == Code::kInvalidArgument);  // a key twice
  CHECK(code_of("\x81\xa1"
                "a" +
                std::string(40, '\x91') + "\xc0") == Code::kResourceExhausted);
  CHECK(code_of(std::string(plugin::kConfigBytesMax + 1, '\xc0')) == Code::kResourceExhausted);
  CHECK(code_of(std::string("\x81\xa1"
                            "a\xdd\x00\x01\x00\x01",
                            8) +
                std::string(65'537, '\xc0')) == Code::kResourceExhausted);
}

TEST_CASE("the recorded configuration") {
  nomad::base::SetConfigRequest request;
  REQUIRE(request.ParseFromString(tests::golden("SetConfig.request.1.bin")));
  const auto decoded = plugin::decode_config(request.msgpack_config(), "plugin config");
  REQUIRE(decoded.has_value());
  CHECK((*decoded)["stats_interval"] == "5s");
  CHECK((*decoded)["auth"]["username"] == "u");
}
