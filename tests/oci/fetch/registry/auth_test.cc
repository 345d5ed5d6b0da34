#include "oci/fetch/registry/auth.h"

#include <doctest/doctest.h>

using base::Code;
using oci::fetch::Challenge;
using oci::fetch::Url;

namespace {

Url url(const std::string& text) {
  return *oci::fetch::parse_url(text);
}

// "bearer{realm=r,scope=s} basic{}"
std::string shown(const std::vector<Challenge>& challenges) {
  std::string out;
  for (const Challenge& challenge : challenges) {
    out += (out.empty() ? "" : " ") + challenge.scheme + "{";
    bool first = true;
    for (const auto& [key, value] : challenge.parameters) {
      out += (first ? "" : ",") + key + "=" + value;
      first = false;
    }
    out += "}";
  }
  return out;
}

}  // namespace

TEST_CASE("challenges are read as RFC 7235 writes them") {
  struct Case {
    const char* header;
    const char* expected;
  };
  const Case cases[] = {
      {R"(Bearer realm="https://a/token",service="s",scope="repository:x:pull,push")",
       "bearer{realm=https://a/token,scope=repository:x:pull,push,service=s}"},
      {R"(Basic realm="x")", "basic{realm=x}"},
      {R"(bEaReR   realm = "x" , service=plain)", "bearer{realm=x,service=plain}"},
      {R"(Basic realm="a", Bearer realm="b",scope="c d")", "basic{realm=a} bearer{realm=b,scope=c d}"},
      {R"(Negotiate, Basic realm=x)", "negotiate{} basic{realm=x}"},
      {R"(Negotiate YWJj==, Bearer realm=x)", "negotiate{} bearer{realm=x}"},
      {R"(Bearer realm="a\"b\\c")", "bearer{realm=a\"b\\c}"},
      {R"(Bearer realm="a",realm="b")", "bearer{realm=a}"},
      {R"(,,Basic realm="x",,)", "basic{realm=x}"},
      {R"(Digest qop="auth, auth-int", nonce="n", Basic realm="y")",
       "digest{nonce=n,qop=auth, auth-int} basic{realm=y}"},
      {"Basic", "basic{}"},
      {"", ""},
      {"=", ""},
      {R"(Bearer realm="never closed)", ""},
      {R"(Basic realm=x, Bearer realm="never closed)", "basic{realm=x}"},
      {"\x01\x02", ""},
  };
  for (const Case& c : cases) {
    CAPTURE(c.header);
    CHECK_EQ(shown(oci::fetch::parse_challenges(c.header)), c.expected);
  }
  CHECK(oci::fetch::parse_challenges(std::string(oci::fetch::kChallengeBytesMax + 1, 'a')).empty());
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "Basic realm=x, ";
  CHECK_EQ(oci::fetch::parse_challenges(many).size(), oci::fetch::kChallengesMax);
}

TEST_CASE("Bearer is preferred, and needs a realm") {
  const auto chosen = [](const char* header) {
    static std::vector<Challenge> challenges;
    challenges = oci::fetch::parse_challenges(header);
    const Challenge* challenge = oci::fetch::choose_challenge(challenges);
    return challenge == nullptr ? std::string() : challenge->scheme;
  };
  CHECK_EQ(chosen(R"(Basic realm="x", Bearer realm="y")"), "bearer");
  CHECK_EQ(chosen(R"(Bearer scope="y", Basic realm="x")"), "basic");
  CHECK_EQ(chosen(R"(Digest nonce="y", Negotiate)"), "");
}

TEST_CASE("where credentials may go") {
  struct Case {
    const char* realm;
    const char* registry;
    bool ok;
  };
  const Case cases[] = {
      {"https://auth.docker.io/token", "https://registry-1.docker.io/v2/", true},
      {"https://r.example/token", "https://r.example/v2/", true},
      {"http://r.example/token", "https://r.example/v2/", false},
      {"http://localhost:5001/token", "http://localhost:5000/v2/", true},
      {"http://auth.example/token", "http://localhost:5000/v2/", false},
      {"https://169.254.169.254/latest", "https://r.example/v2/", false},
      {"https://[::1]/token", "https://r.example/v2/", false},
      {"https://[::ffff:127.0.0.1]/token", "https://r.example/v2/", false},
      {"https://10.1.2.3/token", "https://r.example/v2/", false},
      {"https://10.1.2.3/token", "https://10.1.2.3/v2/", true},
      {"https://[fd00::1]/token", "https://r.example/v2/", false},
      {"https://0.0.0.0/token", "https://r.example/v2/", false},
      {"https://localhost/token", "https://r.example/v2/", false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.realm);
    CHECK_EQ(oci::fetch::check_realm(url(c.realm), url(c.registry)).has_value(), c.ok);
  }
}

TEST_CASE("token servers on plain HTTP: the registry's own host, and those that the operator has made so") {
  const auto url = [](const char* text) { return *oci::fetch::parse_url(text); };
  const oci::fetch::PlainHosts plain = {"10.0.0.9:80", "169.254.169.254:80"};
  const auto ok = [&](const char* realm, const char* registry) {
    return oci::fetch::check_realm(url(realm), url(registry), plain).has_value();
  };
  CHECK(ok("http://10.0.0.5:8080/t", "http://10.0.0.5:5000/v2/"));
  CHECK(ok("http://10.0.0.9/t", "http://10.0.0.5:5000/v2/"));
  CHECK_FALSE(ok("http://10.0.0.9:81/t", "http://10.0.0.5:5000/v2/"));
  CHECK_FALSE(ok("http://10.0.0.9/t", "https://10.0.0.5:5000/v2/"));  // TLS is not given up for it
  CHECK_FALSE(ok("https://10.0.0.9/t", "https://r.example/v2/"));
  CHECK_FALSE(ok("http://169.254.169.254/t", "http://10.0.0.5:5000/v2/"));
}

TEST_CASE("the token request repeats scopes and escapes what it was told") {
  Challenge challenge{"bearer", {{"realm", "https://a/t?x=1"}, {"service", "s&evil=1"}, {"scope", "one  two"}}};
  CHECK_EQ(oci::fetch::token_url(challenge, "default", {"me", "pw"})->text,
           "https://a/t?x=1&service=s%26evil%3D1&scope=one&scope=two&account=me");
  challenge.parameters = {{"realm", "https://a/t"}};
  CHECK_EQ(oci::fetch::token_url(challenge, "repository:r:pull", {})->text, "https://a/t?scope=repository%3Ar%3Apull");
  challenge.parameters = {{"realm", "file:///etc/passwd"}};
  CHECK_FALSE(oci::fetch::token_url(challenge, "", {}).has_value());
}

TEST_CASE("tokens come under two names, and live 60 s unless told") {
  CHECK_EQ(oci::fetch::parse_token(R"({"token":"t"})")->text, "t");
  CHECK_EQ(oci::fetch::parse_token(R"({"token":"t"})")->life, std::chrono::seconds(60));
  CHECK_EQ(oci::fetch::parse_token(R"({"access_token":"a","expires_in":300})")->life, std::chrono::seconds(300));
  CHECK_EQ(oci::fetch::parse_token(R"({"token":"t","expires_in":-5})")->life, std::chrono::seconds(60));
  // Some say it twice, and leave one of them empty.
  for (const char* twice : {R"({"token":"","access_token":"a"})", R"({"token":null,"access_token":"a"})",
                            R"({"token":"a","access_token":""})", R"({"token":"a","access_token":"b"})",
                            R"({"token":5,"access_token":"a","expires_in":"soon"})"}) {
    CAPTURE(twice);
    const auto token = oci::fetch::parse_token(twice);
    REQUIRE(token.has_value());
    CHECK_EQ(token->text, "a");
    CHECK_EQ(token->life, std::chrono::seconds(60));
  }
  for (const char* bad : {"", "[]", "{}", R"({"token":1})", R"({"token":"","access_token":""})",
                          R"({"token":"a\r\nX: y"})", R"({"token":""})"}) {
    CAPTURE(bad);
    CHECK_EQ(oci::fetch::parse_token(bad).error().code, Code::kUnavailable);
  }
}

TEST_CASE("basic authorization is base64 of user:password") {
  CHECK_EQ(oci::fetch::basic_authorization({"a", ""}), "Basic YTo=");
  CHECK_EQ(oci::fetch::basic_authorization({"Aladdin", "open sesame"}), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
  CHECK_EQ(oci::fetch::basic_authorization({"a", "b"}), "Basic YTpi");
}
