#include "cni/result.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "tests/golden.h"

namespace {

constexpr cni::Version kV031{0, 3, 1};
constexpr cni::Version kV100{1, 0, 0};

std::string pretty(const std::string& text) {
  return base::dump_json_pretty(*base::parse_json(text, "it"));
}

}  // namespace

TEST_CASE("a result of any version can be told in any other") {
  const struct {
    const char* version;
    cni::Version as;
  } versions[] = {{"0.3.1", kV031}, {"0.4.0", {0, 4, 0}}, {"1.0.0", kV100}, {"1.1.0", {1, 1, 0}}};
  for (const auto& from : versions) {
    const std::string text = tests::read_data(base::str("cni/result-", from.version, ".json"));
    const auto result = cni::parse_result(text, from.as);
    REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().message));
    for (const auto& to : versions) {
      // Only the newest says more than the others can.
      const bool told_less = from.as != cni::kNewest && to.as == cni::kNewest;
      const std::string golden = base::str(told_less ? "cni/as-" : "cni/result-", to.version, ".json");
      tests::check_golden(golden, pretty(cni::result_text(*result, to.as)));
    }
  }
}

TEST_CASE("results that are none") {
  const struct {
    const char* text;
    const char* says;
  } cases[] = {
      {"", "its result"},
      {"this is no JSON", "its result"},
      {"[]", "not a JSON object"},
      {R"({"cniVersion":"7.0.0"})", "7.0.0"},
      {R"({"ips":{}})", "ips"},
      {R"({"ips":["10.0.0.1/24"]})", "not an object"},
      {R"({"ips":[{"address":"10.0.0.1"}]})", "10.0.0.1"},
      {R"({"ips":[{"address":"10.0.0.1/33"}]})", "10.0.0.1/33"},
      {R"({"ips":[{"address":"fd00::1/129"}]})", "fd00::1/129"},
      {R"({"ips":[{"address":"10.0.0.1/24","gateway":"x"}]})", "gateway \"x\""},
      {R"({"ips":[{"address":"10.0.0.1/24","interface":0}]})", "interface 0, and 0 interfaces"},
      {R"({"interfaces":[{"name":"eth0"}],"ips":[{"address":"10.0.0.1/24","interface":-1}]})", "interface -1"},
      {R"({"interfaces":[3]})", "interface"},
      {R"({"routes":[{"dst":"somewhere"}]})", "somewhere"},
      {R"({"dns":[]})", "dns"},
  };
  for (const auto& each : cases) {
    CAPTURE(each.text);
    const auto result = cni::parse_result(each.text, kV100);
    REQUIRE_FALSE(result);
    CHECK(result.error().message.find(each.says) != std::string::npos);
  }
}

TEST_CASE("a result may say nothing of interfaces, and nothing at all") {
  CHECK(cni::parse_result("{}", kV100));
  const auto result = cni::parse_result(R"({"ips":[{"address":"10.0.0.7/24","interface":null}],"dns":{}})", kV100);
  REQUIRE(result);
  REQUIRE_EQ(result->ips.size(), 1);
  CHECK_FALSE(result->ips[0].interface.has_value());
  CHECK_EQ(result->ips[0].ip(), "10.0.0.7");
}

TEST_CASE("errors of plugins keep their words") {
  const auto error = cni::parse_error(R"({"cniVersion":"1.0.0","code":11,"msg":"later","details":"the moon is full"})");
  REQUIRE(error);
  CHECK_EQ(error->message, "later; the moon is full");
  CHECK_EQ(cni::code_of(*error), base::Code::kUnavailable);
  CHECK_EQ(cni::code_of({7, ""}), base::Code::kInvalidArgument);
  CHECK_EQ(cni::code_of({999, ""}), base::Code::kFailedPrecondition);
  CHECK_EQ(cni::parse_error(R"({"code":100})")->message, "error 100 without a message");
  CHECK_EQ(cni::parse_error("{\"code\":100,\"msg\":\"a\\n\\u001b[31mb\"}")->message, "a\\n\\x1b[31mb");
  CHECK(cni::parse_error(R"({"code":1,"msg":")" + std::string(100'000, 'x') + "\"}")->message.size() <= 2048);
  for (const char* none : {"", "x", "[]", "{}", R"({"code":0,"msg":"m"})", R"({"code":"1"})", R"({"ips":[]})"}) {
    CHECK_FALSE(cni::parse_error(none).has_value());
  }
}

TEST_CASE("which versions a plugin speaks") {
  CHECK_EQ(cni::parse_versions(R"({"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]})")->size(), 2);
  for (const char* bad : {"", "{}", R"({"supportedVersions":[]})", R"({"supportedVersions":"1.0.0"})"}) {
    CHECK_FALSE(cni::parse_versions(bad));
  }
}
