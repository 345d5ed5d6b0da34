#include "oci/fetch/registry/hosts_file.h"

#include <doctest/doctest.h>

using oci::fetch::HostsFile;
using oci::fetch::parse_hosts_file;

namespace {

base::Result<HostsFile> parse(std::string_view text) {
  static const auto own = *oci::fetch::parse_url("https://registry-1.docker.io/v2/");
  return parse_hosts_file(text, "/etc/certs.d/docker.io/hosts.toml", own);
}

std::string error_of(std::string_view text) {
  const auto file = parse(text);
  if (file) return "";
  CHECK_EQ(file.error().code, base::Code::kFailedPrecondition);
  return file.error().message;
}

}  // namespace

TEST_CASE("a file with everything") {
  const auto file = parse(R"(
server = "https://registry-1.docker.io"
header = { X-Node = "a" }

[host."https://z.example:5000/prefix"]
  capabilities = ["pull"]
  ca = "ca.crt"
  client = [["client.cert", "/keys/client.key"]]
  dial_timeout = "2s"
  [host."https://z.example:5000/prefix".header]
    x-one = "1"
    x-two = ["2", "3"]

[host."http://a.example"]
  capabilities = ["pull", "resolve", "push"]
  skip_verify = true
  ca = ["/ca1.pem", "../ca2.pem"]
  client = "both.pem"

[host."m.example/v2/"]
[host."https://o.example/odd"]
  override_path = true
)");
  REQUIRE(file.has_value());
  CHECK(file->ignored_keys.empty());
  REQUIRE_EQ(file->mirrors.size(), 4);

  const auto& z = file->mirrors[0];  // as in the file, not by name
  CHECK_EQ(z.base.text, "https://z.example:5000/prefix/v2/");
  CHECK(z.pull);
  CHECK_FALSE(z.resolve);
  CHECK_EQ(z.ca_files, std::vector<std::string>{"/etc/certs.d/docker.io/ca.crt"});
  CHECK_EQ(z.client_cert, "/etc/certs.d/docker.io/client.cert");
  CHECK_EQ(z.client_key, "/keys/client.key");
  CHECK_EQ(z.headers, std::vector<std::string>{"x-one: 1", "x-two: 2", "x-two: 3"});
  CHECK_EQ(z.dial_timeout, std::chrono::seconds(2));
  CHECK_FALSE(z.skip_verify);

  const auto& a = file->mirrors[1];
  CHECK_EQ(a.base.text, "http://a.example/v2/");
  CHECK(a.resolve);
  CHECK(a.skip_verify);
  CHECK_EQ(a.ca_files, std::vector<std::string>{"/ca1.pem", "/etc/certs.d/ca2.pem"});
  CHECK_EQ(a.client_cert, "/etc/certs.d/docker.io/both.pem");
  CHECK_EQ(a.client_key, "");
  CHECK_EQ(a.dial_timeout, std::chrono::seconds(30));

  CHECK_EQ(file->mirrors[2].base.text, "https://m.example/v2/");
  CHECK_EQ(file->mirrors[3].base.text, "https://o.example/odd/");
  CHECK_EQ(file->server.base.text, "https://registry-1.docker.io/v2/");
  CHECK_EQ(file->server.headers, std::vector<std::string>{"X-Node: a"});
}

TEST_CASE("without a server it is the registry itself") {
  const auto file = parse("capabilities = [\"pull\"]\nca = []\n");
  REQUIRE(file.has_value());
  CHECK(file->mirrors.empty());
  CHECK_EQ(file->server.base.text, "https://registry-1.docker.io/v2/");
  CHECK_FALSE(file->server.resolve);
  CHECK_EQ(parse("")->server.base.text, "https://registry-1.docker.io/v2/");
}

TEST_CASE("unknown keys are told, not refused") {
  const auto file = parse("surver = \"x\"\n[host.\"https://a\"]\nskip_verfy = true\n");
  REQUIRE(file.has_value());
  CHECK_EQ(file->ignored_keys, std::vector<std::string>{"surver", "skip_verfy of https://a"});
}

TEST_CASE("mistakes name the file, the line and what is allowed") {
  const std::string path = "/etc/certs.d/docker.io/hosts.toml line ";
  struct Row {
    std::string text;
    std::string line;
    std::string words;
  };
  const std::string host = "[host.\"https://a\"]\n";
  const Row rows[] = {
      {"server = [", "1", "a value is missing"},
      {"\n\nserver = 5", "3", "server must be a quoted URL"},
      {"server = \"ftp://a\"", "1", "only http and https"},
      {"server = \"https://user:hunter2@a\"", "1", "user or password"},
      {"server = \"https://a?token=hunter2\"", "1", "has a query"},
      {"server = \"\"", "1", "malformed"},
      {"host = 1", "1", "[host.\"https://mirror\"]"},
      {"[host]\n\"https://a\" = 1", "2", "is not a table"},
      {"[[host]]\nx = 1", "1", "arrays of tables"},
      {host + "capabilities = [\"read\"]", "2", "\"read\" is not a valid capability; these are: pull"},
      {host + "capabilities = 1", "2", "capabilities must be a string"},
      {host + "capabilities = [1]", "2", "capabilities must be a list of strings"},
      {host + "skip_verify = \"yes\"", "2", "skip_verify must be true or false"},
      {host + "override_path = 1", "2", "override_path must be true or false"},
      {host + "ca = 1", "2", "ca must be"},
      {host + "ca = \"a\\u0000b\"", "2", "ca must be"},
      {host + "client = [\"a\", \"b\"]", "2", "more than one certificate"},
      {host + "client = [[\"a\", \"b\", \"c\"]]", "2", "[certificate, key]"},
      {host + "client = [[]]", "2", "[certificate, key]"},
      {host + "client = \"\"", "2", "[certificate, key]"},
      {host + "header = 1", "2", "header must be a table"},
      {host + "header = { \"a b\" = \"hunter2\" }", "2", "the name of a header"},
      {host + "header = { a = \"hunter2\\r\\nHost: b\" }", "2", "header a has control characters"},
      {host + "header = { a = 1 }", "2", "header a must be"},
      {host + "dial_timeout = 5", "2", "dial_timeout must be a quoted duration"},
      {host + "dial_timeout = \"soon\"", "2", "dial_timeout \"soon\""},
      {host + "dial_timeout = \"11m\"", "2", "dial_timeout \"11m\""},
      {host + "dial_timeout = \"-1s\"", "2", "dial_timeout \"-1s\""},
      {"\xff\xfe", "1", "a key is missing"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const std::string message = error_of(row.text);
    CAPTURE(message);
    CHECK(message.starts_with(path + row.line + ": "));
    CHECK(message.find(row.words) != std::string::npos);
    CHECK(message.find("hunter2") == std::string::npos);
  }
}

TEST_CASE("limits") {
  CHECK(error_of(std::string(oci::fetch::kHostsFileBytesMax + 1, '#')).find("limit") != std::string::npos);
  std::string many;
  for (std::size_t i = 0; i <= oci::fetch::kMirrorsMax; ++i) many += base::str("[host.\"https://m", i, "\"]\n");
  CHECK(error_of(many).find("more than 32 hosts") != std::string::npos);
  CHECK_FALSE(error_of("a = " + std::string(100000, '[')).empty());  // not by a stack overflow
  std::string headers = "[header]\n";
  for (std::size_t i = 0; i <= oci::fetch::kHostHeadersMax; ++i) headers += base::str("a", i, " = \"\"\n");
  CHECK(error_of(headers).find("more than 64 headers") != std::string::npos);
}
