#include "driver/image/policy.h"

#include <doctest/doctest.h>

using base::Code;
using driver::ImagePolicy;

namespace {

constexpr char kDigest[] = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

std::string refusal(const std::string& image, const ImagePolicy& policy) {
  const auto checked = driver::check_image(image, policy);
  if (!checked) CHECK_EQ(checked.error().code, Code::kPermissionDenied);
  return checked ? "" : checked.error().message;
}

}  // namespace

TEST_CASE("patterns of registries: what each covers") {
  struct Case {
    const char* pattern;
    const char* image;
    bool allowed;
  };
  const Case cases[] = {
      {"docker.io", "redis", true},
      {"docker.io", "redis:7", true},
      {"docker.io", "docker.io/team/app", true},
      {"docker.io", "index.docker.io/team/app", true},
      {"index.docker.io", "redis", true},
      {"docker.io", "quay.io/redis", false},
      {"docker.io", "docker.io.example.com/redis", false},
      {"docker.io/library", "redis", true},
      {"docker.io/library", "library/redis", true},
      {"docker.io/library", "docker.io/libraryx/redis", false},
      {"docker.io/library", "team/redis", false},
      {"docker.io/library/redis", "redis:7", true},
      {"docker.io/library/redis", "redis-stack", false},
      {"docker.io/redis", "redis", false},  // in full it is docker.io/library/redis
      {"docker.io/redis", "redis/redis-stack", true},
      {"registry.example.com:5000", "registry.example.com:5000/a", true},
      {"registry.example.com:5000", "registry.example.com/a", false},
      {"registry.example.com", "registry.example.com:5000/a", false},
      {"Registry.Example.com/team", "registry.example.com/team/a/b:1", true},
      {"registry.example.com/team", "REGISTRY.example.COM/team:1", true},
      {"localhost", "localhost/a", true},
      {"[::1]:5000", "[::1]:5000/a", true},
      {"*.example.com", "a.example.com/x", true},
      {"*.example.com", "a.b.example.com/x", true},
      {"*.example.com", "example.com/x", false},
      {"*.example.com", "badexample.com/x", false},
      {"*.example.com", "a.example.com.evil.net/x", false},
      {"*.example.com", "a.example.com:5000/x", false},
      {"*.example.com:5000", "a.example.com:5000/x", true},
      {"*.example.com/team", "a.example.com/team/x", true},
      {"*.example.com/team", "a.example.com/teams/x", false},
      {"docker-archive", "docker-archive:local/a.tar", true},
      {"docker-archive", "oci-archive:local/a.tar", false},
      {"oci", "oci:local/layout", true},
      {"oci", "oci-archive:local/a.tar", false},
      {"docker.io", "docker-archive:docker.io/library/redis", false},
      {"oci", "redis", false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.pattern);
    CAPTURE(c.image);
    CHECK(driver::check_registry_pattern("allowed_registries", c.pattern).has_value());
    const std::string refused = refusal(c.image, {std::vector<std::string>{c.pattern}, false});
    CHECK_EQ(refused.empty(), c.allowed);
    if (!c.allowed) CHECK(refused.find("allowed_registries") != std::string::npos);
  }
}

TEST_CASE("what is no pattern is refused, with the pattern in the sentence") {
  for (const char* pattern :
       {"", "*", "*.", "redis", "library/redis", "https://docker.io", "docker.io/library/redis:7", "docker.io/Team",
        "docker.io/*", "docker.io/team/", "a.*.com", "*example.com", "docker.io/redis@sha256:00",
        "docker-archive:", "docker-archive/x", "host:port", "docker.io team"}) {
    CAPTURE(pattern);
    const auto checked = driver::check_registry_pattern("allowed_registries", pattern);
    REQUIRE_FALSE(checked.has_value());
    CHECK_EQ(checked.error().code, Code::kInvalidArgument);
    CHECK(checked.error().message.find(base::str("allowed_registries = \"", pattern, "\"")) != std::string::npos);
  }
}

TEST_CASE("any of several patterns is enough, and the refusal names them and the image in full") {
  const ImagePolicy policy{std::vector<std::string>{"docker.io/library", "*.example.com"}, false};
  CHECK(refusal("redis", policy).empty());
  CHECK(refusal("eu.example.com/app", policy).empty());
  const std::string refused = refusal("team/app", policy);
  CHECK(refused.find("docker.io/team/app:latest") != std::string::npos);
  CHECK(refused.find("docker.io/library, *.example.com") != std::string::npos);
}

TEST_CASE("require_digest: a digest pins, a tag beside it does not matter, a file is never pinned") {
  const ImagePolicy policy{std::nullopt, true};
  CHECK(refusal(base::str("redis@", kDigest), policy).empty());
  CHECK(refusal(base::str("quay.io/a/redis:7@", kDigest), policy).empty());
  CHECK(refusal("redis:7", policy).find("docker.io/library/redis@sha256:") != std::string::npos);
  CHECK(refusal("redis", policy).find("require_digest") != std::string::npos);
  CHECK(refusal("docker-archive:local/a.tar", policy).find("require_digest") != std::string::npos);
  const ImagePolicy both{std::vector<std::string>{"oci", "docker.io"}, true};
  CHECK(refusal("oci:local/layout", both).find("require_digest") != std::string::npos);
  CHECK(refusal("redis:7", both).find("require_digest") != std::string::npos);
  CHECK(refusal(base::str("quay.io/redis@", kDigest), both).find("allowed_registries") != std::string::npos);
  CHECK(refusal(base::str("redis@", kDigest), both).empty());
}

TEST_CASE("without gates nothing is looked at; with one, a name that is none is said to be none") {
  CHECK(driver::check_image("Not A Name", {}).has_value());
  const auto checked = driver::check_image("Not A Name", {std::vector<std::string>{"docker.io"}, false});
  REQUIRE_FALSE(checked.has_value());
  CHECK_EQ(checked.error().code, Code::kInvalidArgument);
}
