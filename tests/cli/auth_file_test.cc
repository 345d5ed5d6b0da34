// clang-format off
#include "cli/auth_file.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "base/json.h"

using base::Json;

TEST_CASE("a login replaces what the file says of its host, and nothing else") {
  struct Case {
    const char* before;
    const char* host;
    const char* after;
  };
  const Case cases[] = {
      {R"({})", "quay.io", R"({"auths":{"quay.io":{"auth":"dTpw"}}})"},
      {R"({"auths":{"a.example":{"auth":"eDp5"}},"x":[1]})", "quay.io",
       R"({"auths":{"a.example":{"auth":"eDp5"},"quay.io":{"auth":"dTpw"}},"x":[1]})"},
      {R"({"auths":{"https://quay.io/v2/":{"auth":"eDp5"}}})", "quay.io", R"({"auths":{"quay.io":{"auth":"dTpw"}}})"},
      {R"({"auths":{"quay.io/team":{"auth":"eDp5"}}})", "quay.io",
       R"({"auths":{"quay.io":{"auth":"dTpw"},"quay.io/team":{"auth":"eDp5"}}})"},
      {R"({"auths":{"docker.io":{}}})", "docker.io", R"({"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}})"},
      {R"({"credHelpers":{"a.example":"none"}})", "quay.io",
       R"({"auths":{"quay.io":{"auth":"dTpw"}},"credHelpers":{"a.example":"none"}})"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.before);
    const auto after = cli::with_login(*base::parse_json(one.before, "before"), one.host, {"u", "p"});
    REQUIRE(after.has_value());
    CHECK(*after == *base::parse_json(one.after, "after"));
  }
  const auto helper = cli::with_login(*base::parse_json(R"({"credsStore":"pass"})", "x"), "quay.io", {"u", "p"});
  CHECK(helper.error().code == base::Code::kFailedPrecondition);
}

TEST_CASE("a logout") {
  const auto before = *base::parse_json(R"({"auths":{"quay.io":{},"https://quay.io":{},"a.example":{}}})", "x");
  CHECK(*cli::without_login(before, "quay.io") == *base::parse_json(R"({"auths":{"a.example":{}}})", "x"));
  CHECK(cli::without_login(before, "b.example").error().code == base::Code::kNotFound);
  CHECK(cli::without_login(Json::object(), "quay.io").error().code == base::Code::kNotFound);
  CHECK(*cli::without_logins(before) == *base::parse_json(R"({"auths":{}})", "x"));
}
