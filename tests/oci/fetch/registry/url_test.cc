#include "oci/fetch/registry/url.h"

#include <doctest/doctest.h>

using oci::fetch::parse_url;
using oci::fetch::resolve_url;

TEST_CASE("URLs are taken apart") {
  const auto url = *parse_url("https://Example.COM/v2/a?sig=secret#f");
  CHECK_EQ(url.scheme, "https");
  CHECK_EQ(url.host, "example.com");
  CHECK_EQ(url.port, "443");
  CHECK_EQ(url.text.find('#'), std::string::npos);
  CHECK_EQ(url.redacted().find("secret"), std::string::npos);
  CHECK_EQ(parse_url("http://[::1]:5000/")->host, "[::1]");
  CHECK_EQ(parse_url("http://localhost:5000/")->port, "5000");
}

TEST_CASE("what is not a plain http(s) URL is refused, without showing secrets") {
  for (const char* bad : {"", "a/b", "ftp://h/", "file:///etc/passwd", "https://", "https://u:hunter2@h/",
                          "https://h/a b", "https://h/\r\nX: y", "gopher://h/", "//h/x"}) {
    CAPTURE(bad);
    const auto url = parse_url(bad);
    REQUIRE_FALSE(url.has_value());
    CHECK_EQ(url.error().message.find("hunter2"), std::string::npos);
  }
  CHECK_FALSE(parse_url("https://h/" + std::string(9000, 'a')).has_value());
}

TEST_CASE("Location headers, relative and absolute") {
  const auto from = *parse_url("https://h:8443/v2/a/blobs/x?y");
  CHECK_EQ(resolve_url(from, "/other")->text, "https://h:8443/other");
  CHECK_EQ(resolve_url(from, "z?q=1")->text, "https://h:8443/v2/a/blobs/z?q=1");
  CHECK_EQ(resolve_url(from, "https://cdn/x")->host, "cdn");
  CHECK_EQ(resolve_url(from, "//cdn/x")->text, "https://cdn/x");
  CHECK_FALSE(resolve_url(from, "file:///x").has_value());
  CHECK_FALSE(resolve_url(from, "https://u@h/").has_value());
  CHECK_FALSE(resolve_url(from, "x\r\ny").has_value());
}

TEST_CASE("origins and local hosts") {
  CHECK(oci::fetch::same_origin(*parse_url("https://h/a"), *parse_url("https://h:443/b")));
  CHECK_FALSE(oci::fetch::same_origin(*parse_url("https://h/a"), *parse_url("http://h/a")));
  CHECK_FALSE(oci::fetch::same_origin(*parse_url("https://h/a"), *parse_url("https://h:444/a")));
  CHECK_FALSE(oci::fetch::same_origin(*parse_url("https://h/a"), *parse_url("https://sub.h/a")));
  struct Case {
    const char* host;
    bool loopback, local, in_private;
  };
  const Case cases[] = {
      {"localhost", true, true, true},          {"127.0.0.1", true, true, true},
      {"127.9.9.9", true, true, true},          {"[::1]", true, true, true},
      {"[::ffff:127.0.0.1]", true, true, true}, {"localhost.evil.com", false, false, false},
      {"127.0.0.1.evil", false, false, false},  {"169.254.169.254", false, true, true},
      {"[fe80::1]", false, true, true},         {"0.0.0.0", false, true, true},
      {"10.0.0.1", false, false, true},         {"172.16.0.1", false, false, true},
      {"172.32.0.1", false, false, false},      {"192.168.1.1", false, false, true},
      {"[fd00::1]", false, false, true},        {"8.8.8.8", false, false, false},
      {"[2001:db8::1]", false, false, false},   {"example.com", false, false, false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.host);
    CHECK_EQ(oci::fetch::is_loopback(c.host), c.loopback);
    CHECK_EQ(oci::fetch::is_local_literal(c.host), c.local);
    CHECK_EQ(oci::fetch::is_private_literal(c.host), c.in_private);
  }
}
