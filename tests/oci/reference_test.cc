#include "oci/reference.h"

#include <doctest/doctest.h>

using base::Code;
using oci::Reference;

namespace {
const std::string kHex(64, '0');
const std::string kDigest = "sha256:" + kHex;
}  // namespace

TEST_CASE("references are completed to their canonical form") {
  struct Case {
    std::string text;
    std::string canonical;
  };
  const Case cases[] = {
      {"busybox", "docker.io/library/busybox:latest"},
      {"busybox:1.36", "docker.io/library/busybox:1.36"},
      {"foo/bar", "docker.io/foo/bar:latest"},
      {"localhost/foo", "localhost/foo:latest"},
      {"localhost:5000/foo", "localhost:5000/foo:latest"},
      {"foo:5000", "docker.io/library/foo:5000"},
      {"foo:5000/bar", "foo:5000/bar:latest"},
      {"Foo/bar", "Foo/bar:latest"},
      {"docker.io/busybox", "docker.io/library/busybox:latest"},
      {"index.docker.io/busybox", "docker.io/library/busybox:latest"},
      {"docker.io/foo/bar", "docker.io/foo/bar:latest"},
      {"[::1]:5000/a", "[::1]:5000/a:latest"},
      {"[2001:db8::1]/a/b:c", "[2001:db8::1]/a/b:c"},
      {"a@" + kDigest, "docker.io/library/a@" + kDigest},
      {"a:t@" + kDigest, "docker.io/library/a@" + kDigest},
      {"quay.io/a/b/c/d:v1.2.3-rc_4", "quay.io/a/b/c/d:v1.2.3-rc_4"},
      {"a/b__c/d--e/f.g", "docker.io/a/b__c/d--e/f.g:latest"},
      {"xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"},
      {"a:" + std::string(128, 't'), "docker.io/library/a:" + std::string(128, 't')},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    const auto parsed = Reference::parse(c.text);
    REQUIRE(parsed.has_value());
    CHECK_EQ(parsed->canonical(), c.canonical);
    CHECK_EQ(Reference::parse(c.canonical)->canonical(), c.canonical);
  }
}

TEST_CASE("a reference's parts") {
  const auto tag = *Reference::parse("ghcr.io/a/b:c");
  CHECK_EQ(tag.host(), "ghcr.io");
  CHECK_EQ(tag.repository(), "a/b");
  CHECK_EQ(tag.tag_or_digest(), "c");
  const auto digest = *Reference::parse("ghcr.io/a/b:c@" + kDigest);
  CHECK_EQ(digest.tag(), "");
  CHECK_EQ(digest.tag_or_digest(), kDigest);
}

TEST_CASE("malformed references are refused, and the message names them") {
  const std::string cases[] = {
      "",
      "foo/Bar",
      "Foo",
      "https://docker.io/busybox",
      "[fe80::1%eth0]/a",
      "[]/a",
      "[::1/a",
      "a//b",
      "/a",
      "a/",
      "a..b/c",
      "a_-b",
      "a___b",
      "-a/b",
      "a-/b",
      ":tag",
      "a:",
      "a:-t",
      "a:.t",
      "a:" + std::string(129, 't'),
      "a@",
      "a@sha256:123",
      "a:t:u",
      "a b",
      "a\nb",
      "a.io:port/b",
      "a.io:/b",
      "-a.io/b",
      "a-.io/b",
      "a..io/b",
      "@" + kDigest,
      kHex,
      "a/" + std::string(255, 'b'),
      std::string(2000, 'a'),
      "..",
      "../a",
      "a/../b",
      "a.io/..",
  };
  for (const std::string& text : cases) {
    CAPTURE(text);
    const auto parsed = Reference::parse(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK_EQ(parsed.error().code, Code::kInvalidArgument);
  }
  CHECK_NE(Reference::parse("foo/Bar").error().message.find("foo/Bar"), std::string::npos);
  CHECK_NE(Reference::parse("foo/Bar").error().message.find("lower-case"), std::string::npos);
  CHECK_EQ(Reference::parse("a@sha512:" + kHex + kHex).error().code, Code::kUnimplemented);
  CHECK(Reference::parse("a.io/" + std::string(255, 'b')).has_value());
}

TEST_CASE("a canonical name can be parsed, however long it is") {
  std::string host;
  while (host.size() < oci::kHostBytesMax - 10) host += "abcdefgh.";
  host += "example";
  const std::string repository(oci::kRepositoryPathBytesMax, 'r');
  for (const std::string& rest : {":" + std::string(oci::kTagBytesMax, 't'), "@" + kDigest, std::string()}) {
    const auto reference = Reference::parse(host + "/" + repository + rest);
    REQUIRE(reference.has_value());
    const auto again = Reference::parse(reference->canonical());
    REQUIRE(again.has_value());
    CHECK_EQ(again->canonical(), reference->canonical());
  }
  CHECK_EQ(Reference::parse(std::string(oci::kHostBytesMax, 'h') + ".example/a").error().code, Code::kInvalidArgument);
}
