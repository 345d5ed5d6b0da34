#include "base/json.h"

#include <doctest/doctest.h>

using base::Code;

TEST_CASE("parse_json accepts one document and names what is wrong") {
  const auto ok = base::parse_json(R"({"a":[1,2.5,"x",null,true]})", "config");
  REQUIRE(ok.has_value());
  CHECK_EQ(base::dump_json(*ok), R"({"a":[1,2.5,"x",null,true]})");
  struct Row {
    const char* text;
    Code code;
  };
  for (const Row& row :
       {Row{"", Code::kInvalidArgument}, Row{"{", Code::kInvalidArgument}, Row{"{} {}", Code::kInvalidArgument},
        Row{R"({"a":1,"a":2})", Code::kInvalidArgument}, Row{"\xff", Code::kInvalidArgument},
        Row{"1e400", Code::kInvalidArgument}, Row{"[\"\xc3\"]", Code::kInvalidArgument}}) {
    const auto bad = base::parse_json(row.text, "manifest x");
    REQUIRE_MESSAGE(!bad.has_value(), row.text);
    CHECK_EQ(bad.error().code, row.code);
    CHECK(bad.error().message.starts_with("manifest x: "));
  }
}

TEST_CASE("limits hold at the limit and fail one beyond") {
  const std::string deep32 = std::string(32, '[') + std::string(32, ']');
  const std::string deep33 = std::string(33, '[') + std::string(33, ']');
  CHECK(base::parse_json(deep32, "x").has_value());
  CHECK_EQ(base::parse_json(deep33, "x").error().code, Code::kResourceExhausted);
  base::JsonLimits small;
  small.nodes_max = 3;
  CHECK(base::parse_json("[1,2]", "x", small).has_value());
  CHECK_EQ(base::parse_json("[1,2,3]", "x", small).error().code, Code::kResourceExhausted);
  small.bytes_max = 4;
  CHECK_EQ(base::parse_json("[1,2]", "x", small).error().code, Code::kResourceExhausted);
  CHECK_EQ(base::parse_json(std::string(1 << 20, '['), "x").error().code, Code::kResourceExhausted);
}

TEST_CASE("parse_msgpack reads what the agent's encoder writes") {
  // {foo="v1", bar=1337, baz=true} as the cty encoder writes it
  const std::string bytes("\x83\xa3\x62\x61\x72\xcd\x05\x39\xa3\x62\x61\x7a\xc3\xa3\x66\x6f\x6f\xa2\x76\x31", 20);
  const auto value = base::parse_msgpack(bytes, "driver config");
  REQUIRE(value.has_value());
  CHECK_EQ(base::dump_json(*value), R"({"bar":1337,"baz":true,"foo":"v1"})");
  CHECK_FALSE(base::parse_msgpack(bytes.substr(0, 19), "driver config").has_value());
  CHECK_FALSE(base::parse_msgpack(std::string(40, '\x91'), "driver config").has_value());
}

TEST_CASE("typed members say which key has the wrong type") {
  const auto object = base::parse_json(R"({"s":"x","n":3,"b":false,"l":["a"],"o":{},"z":null})", "x").value();
  CHECK_EQ(**base::get_string(object, "s"), "x");
  CHECK_EQ(**base::get_int(object, "n"), 3);
  CHECK_EQ(**base::get_bool(object, "b"), false);
  CHECK_EQ((**base::get_string_list(object, "l")).size(), 1);
  CHECK(*base::get_object(object, "o") != nullptr);
  CHECK(*base::get_object(object, "z") == nullptr);
  CHECK_FALSE((*base::get_string(object, "absent")).has_value());
  CHECK_EQ(base::get_string(object, "n").error().message, "\"n\" must be a string, not number");
  CHECK_EQ(base::get_array(object, "o").error().message, "\"o\" must be a list, not object");
  CHECK_FALSE(base::get_string_list(base::parse_json(R"({"l":[1]})", "x").value(), "l").has_value());
}

TEST_CASE("dumping replaces invalid UTF-8 instead of throwing") {
  CHECK_EQ(base::dump_json(base::Json("a\xff")), "\"a\xef\xbf\xbd\"");
}

TEST_CASE("members that must be there") {
  const base::Json object = {{"text", "a"}, {"number", 7}, {"negative", -1}, {"null", nullptr}};
  CHECK_EQ(base::require_string(object, "text").value_or(std::string()), "a");
  CHECK_EQ(base::require_uint(object, "number").value_or(0u), 7u);
  for (const char* key : {"absent", "null"}) {
    CHECK_EQ(base::require_string(object, key).error().message, base::str("\"", key, "\" is missing"));
    CHECK_EQ(base::require_uint(object, key).error().code, base::Code::kInvalidArgument);
  }
  CHECK_FALSE(base::require_string(object, "number").has_value());
  CHECK_EQ(base::require_uint(object, "negative").error().message, "\"negative\" must not be negative");
}
