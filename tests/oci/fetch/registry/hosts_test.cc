#include "oci/fetch/registry/hosts.h"

#include <doctest/doctest.h>

#include "base/file.h"
#include "tests/temp_dir.h"

using oci::Reference;
using oci::fetch::Host;
using oci::fetch::hosts_of;

namespace {

struct Fixture {
  tests::TempDir dir;
  std::vector<std::string> warnings;

  void write(const std::string& name, std::string_view text) {
    const std::filesystem::path path = dir.path() / name;
    REQUIRE(base::make_dirs(path.parent_path(), 0755).has_value());
    REQUIRE(base::write_file_atomic(path, text, 0644, base::Durable::kNo).has_value());
  }
  base::Result<std::vector<Host>> hosts(const std::string& reference, const std::string& dirs) {
    return hosts_of(*Reference::parse(reference), dirs, [this](const std::string& text) { warnings.push_back(text); });
  }
  base::Result<std::vector<Host>> hosts(const std::string& reference) { return hosts(reference, dir.path().string()); }
  /// "URL" of each, with a "*" behind those that credentials may go to.
  std::string urls(const std::string& reference) {
    const auto found = hosts(reference);
    if (!found) return found.error().message;
    std::string out;
    for (const Host& host : *found) {
      out += base::str(out.empty() ? "" : " ", host.base.text, host.own ? "*" : "", host.query.empty() ? "" : "?",
                       host.query, host.plain ? " or " + host.plain->text : "");
    }
    return out;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "without a folder a registry is asked itself") {
  CHECK_EQ(urls("redis"), "https://registry-1.docker.io/v2/*");
  CHECK_EQ(urls("r.example:5000/a"), "https://r.example:5000/v2/*");
  CHECK_EQ(urls("127.0.0.1:443/a"), "https://127.0.0.1:443/v2/*");
  CHECK_EQ(hosts("redis", "").value()[0].name(), "registry-1.docker.io");
}

TEST_CASE_FIXTURE(Fixture, "on loopback TLS is tried, and plain HTTP if none is spoken; what a file says is followed") {
  CHECK_EQ(urls("localhost:5000/a"), "https://localhost:5000/v2/* or http://localhost:5000/v2/");
  CHECK_EQ(urls("[::1]:5000/a"), "https://[::1]:5000/v2/* or http://[::1]:5000/v2/");
  CHECK_EQ(urls("127.0.0.1:80/a"), "http://127.0.0.1:80/v2/*");
  CHECK(hosts("localhost:5000/a").value()[0].transport.skip_verify);
  CHECK_FALSE(hosts("127.0.0.1:443/a").value()[0].transport.skip_verify);
  CHECK_FALSE(hosts("r.example:5000/a").value()[0].plain.has_value());

  write("localhost_5000_/hosts.toml", "dial_timeout = \"1s\"\n");
  CHECK_EQ(urls("localhost:5000/a"), "https://localhost:5000/v2/* or http://localhost:5000/v2/");
  write("localhost_5000_/hosts.toml", "server = \"http://localhost:5000\"\n");
  CHECK_EQ(urls("localhost:5000/a"), "http://localhost:5000/v2/*");
  write("localhost_5000_/hosts.toml", "server = \"https://localhost:5000\"\n");
  CHECK_EQ(urls("localhost:5000/a"), "https://localhost:5000/v2/*");
  CHECK_FALSE(hosts("localhost:5000/a").value()[0].transport.skip_verify);
  write("localhost_5000_/ca.crt", "pem");
  write("localhost_5000_/hosts.toml", "ca = \"ca.crt\"\n");
  CHECK_EQ(urls("localhost:5000/a"), "https://localhost:5000/v2/*");
  CHECK_FALSE(hosts("localhost:5000/a").value()[0].transport.skip_verify);
}

TEST_CASE_FIXTURE(Fixture, "where a plain-HTTP registry may send us by plain HTTP: where an operator says so") {
  const auto plain = [&](const std::string& reference) {
    std::string out;
    const auto found = hosts(reference);
    REQUIRE(found.has_value());
    for (const auto& name : found->back().plain_hosts) out += name + " ";
    return out;
  };
  write("10.0.0.5_5000_/hosts.toml", "server = \"http://10.0.0.5:5000\"\n[host.\"http://10.0.0.6\"]\n");
  write("10.0.0.7:9000/hosts.toml", "server = \"http://10.0.0.7:9000\"\n");
  write("s.example/hosts.toml", "server = \"https://s.example\"\n");
  write("broken.example/hosts.toml", "server = \n");
  CHECK_EQ(plain("10.0.0.5:5000/a"), "10.0.0.5:5000 10.0.0.6:80 10.0.0.7:9000 ");
  CHECK_EQ(plain("s.example/a"), "");  // TLS stays TLS
  CHECK_EQ(plain("redis"), "");
}

TEST_CASE_FIXTURE(Fixture, "mirrors come first, and only the registry itself gets credentials") {
  write("docker.io/hosts.toml", "[host.\"https://m.example\"]\n[host.\"http://127.0.0.1:5000\"]\n");
  CHECK_EQ(
      urls("redis"),
      "https://m.example/v2/?ns=docker.io http://127.0.0.1:5000/v2/?ns=docker.io https://registry-1.docker.io/v2/*");
  write("docker.io/hosts.toml", "server = \"https://proxy.example/hub\"\n");
  CHECK_EQ(urls("redis"), "https://proxy.example/hub/v2/?ns=docker.io");
  write("r.example/hosts.toml", "server = \"http://r.example:443\"\n");  // an operator may say so
  CHECK_EQ(urls("r.example/a"), "http://r.example:443/v2/*");
  write("r.example/hosts.toml", "server = \"http://r.example:80\"\n");
  CHECK_EQ(urls("r.example/a"), "http://r.example:80/v2/?ns=r.example");
}

TEST_CASE_FIXTURE(Fixture, "which folder counts") {
  write("_default/hosts.toml", "server = \"https://default\"\n");
  CHECK_EQ(urls("r.example:5000/a"), "https://default/v2/?ns=r.example%3A5000");
  write("r.example:5000/hosts.toml", "server = \"https://colon\"\n");
  CHECK_EQ(urls("r.example:5000/a"), "https://colon/v2/?ns=r.example%3A5000");
  write("r.example_5000_/hosts.toml", "server = \"https://underscore\"\n");
  CHECK_EQ(urls("r.example:5000/a"), "https://underscore/v2/?ns=r.example%3A5000");
  CHECK_EQ(urls("r.example/a"), "https://default/v2/?ns=r.example");
  write("other/r.example/hosts.toml", "server = \"https://other\"\n");
  const std::string both =
      (dir.path() / "none").string() + ":" + (dir.path() / "other").string() + ":" + dir.path().string();
  CHECK_EQ(hosts("r.example/a", both).value()[0].base.host, "other");
  CHECK_EQ(hosts("q.example/a", both).value()[0].base.host, "default");
}

TEST_CASE_FIXTURE(Fixture, "capabilities") {
  write("docker.io/hosts.toml",
        "[host.\"https://pull\"]\ncapabilities=[\"pull\"]\n[host.\"https://push\"]\ncapabilities=[\"push\"]\n");
  const auto found = hosts("redis");
  REQUIRE(found.has_value());
  REQUIRE_EQ(found->size(), 2);
  CHECK_FALSE((*found)[0].resolve);
  CHECK((*found)[1].resolve);
  write("docker.io/hosts.toml", "capabilities = [\"push\"]\n");
  CHECK(hosts("redis").error().message.find("none has the capability pull") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "certificates in Docker's manner") {
  write("r.example/a.crt", "one");
  write("r.example/b.crt", "two");
  write("r.example/c.cert", "cert");
  CHECK(hosts("r.example/a").error().message.find("c.key is missing") != std::string::npos);
  write("r.example/c.key", "key");
  const auto found = hosts("r.example/a");
  REQUIRE(found.has_value());
  CHECK((*found)[0].transport.ca_pem.starts_with("one\ntwo\n"));  // then what SSL_CERT_FILE names
  CHECK_EQ((*found)[0].transport.client_cert, (dir.path() / "r.example/c.cert").string());
  CHECK_EQ((*found)[0].transport.client_key, (dir.path() / "r.example/c.key").string());
  write("r.example/d.cert", "cert");
  write("r.example/d.key", "key");
  CHECK(hosts("r.example/a").error().message.find("several client certificates") != std::string::npos);
  write("r.example/hosts.toml", "");  // it alone counts
  CHECK_EQ(hosts("r.example/a").value()[0].transport.ca_pem, "");
}

TEST_CASE_FIXTURE(Fixture, "what cannot be read is an error and not left out") {
  write("r.example/hosts.toml", "ca = \"none.crt\"\n");
  CHECK(hosts("r.example/a").error().message.find("none.crt") != std::string::npos);
  write("r.example/hosts.toml", "client = \"none.pem\"\n");
  CHECK(hosts("r.example/a").error().message.find("none.pem") != std::string::npos);
  write("r.example/hosts.toml", "server = \n");
  CHECK(hosts("r.example/a").error().message.find("hosts.toml line ") != std::string::npos);
  CHECK(warnings.empty());
  write("r.example/hosts.toml", "colour = \"red\"\n");
  CHECK(hosts("r.example/a").has_value());
  REQUIRE_EQ(warnings.size(), 1);
  CHECK(warnings[0].find("colour") != std::string::npos);
}
