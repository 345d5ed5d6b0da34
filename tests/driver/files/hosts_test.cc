#include "driver/files/hosts.h"

#include <doctest/doctest.h>

#include "base/file.h"
#include "tests/temp_dir.h"

namespace {

constexpr const char* kDefaultLines =
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n";

std::string read(const std::string& path) {
  return base::read_file(path, 1 << 20).value_or(std::string("(none)"));
}

}  // namespace

TEST_CASE("/etc/hosts") {
  CHECK(driver::hosts_text({}) == kDefaultLines);
  CHECK(driver::hosts_text({.base_text = "", .hostname = "web", .address = "", .extra = {}}) ==
        std::string(kDefaultLines) + "127.0.1.1\tweb\n");
  CHECK(driver::hosts_text({.base_text = "1.2.3.4 a",
                            .hostname = "web",
                            .address = "172.26.64.6",
                            .extra = {{"127.0.1.1", "postgres"}}}) ==
        "1.2.3.4 a\n172.26.64.6\tweb\n127.0.1.1\tpostgres\n");
}

TEST_CASE("/etc/resolv.conf takes what Nomad's dns block leaves out from the host") {
  const char* host =
      "# made by hand\nnameserver 10.0.0.53\nnameserver 10.0.0.54\nsearch host.corp\noptions timeout:1\n";
  CHECK(*driver::resolv_conf_text(std::nullopt, host) == host);
  const driver::Dns all = {{"127.0.0.1", "127.0.0.2"}, {"internal.corp"}, {"ndots:2"}};
  CHECK(*driver::resolv_conf_text(all, host) ==
        "search internal.corp\nnameserver 127.0.0.1\nnameserver 127.0.0.2\noptions ndots:2\n");
  CHECK(*driver::resolv_conf_text(driver::Dns{{"::1"}, {}, {}}, host) ==
        "search host.corp\nnameserver ::1\noptions timeout:1\n");
  CHECK(*driver::resolv_conf_text(driver::Dns{}, host) ==
        "search host.corp\nnameserver 10.0.0.53\nnameserver 10.0.0.54\noptions timeout:1\n");
  CHECK(driver::resolv_conf_text(driver::Dns{{"::1"}, {"."}, {"ndots:2"}}, host).value_or("error") ==
        "nameserver ::1\noptions ndots:2\n");
  CHECK(driver::resolv_conf_text(driver::Dns{}, "")->empty());
  for (const driver::Dns& bad : {driver::Dns{{"one.one"}, {}, {}}, driver::Dns{{"1.1.1.1\nnameserver 6.6.6.6"}, {}, {}},
                                 driver::Dns{{}, {"a b"}, {}}, driver::Dns{{}, {}, {"x\ny"}}}) {
    const auto text = driver::resolv_conf_text(bad, host);
    REQUIRE_FALSE(text);
    CHECK(text.error().code == base::Code::kInvalidArgument);
  }
}

TEST_CASE("a stub resolver of the host is replaced by the servers behind it") {
  const tests::TempDir dir;
  const auto write = [&](const std::string& name, const std::string& text) {
    REQUIRE(base::write_file_atomic(dir / name, text, 0644, base::Durable::kNo));
    return dir / name;
  };
  const std::string stub = write("stub", "nameserver 127.0.0.53\noptions edns0\n");
  const std::string real = write("real", "nameserver 192.0.2.1\n");
  const std::string plain = write("plain", "nameserver 192.0.2.9\n");
  const std::string both = write("both", "nameserver 127.0.0.53\nnameserver 192.0.2.9\n");
  CHECK(driver::read_host_resolv_conf(stub, {real}).value_or("error") == "nameserver 192.0.2.1\n");
  CHECK(driver::read_host_resolv_conf(stub, {dir / "none"}).value_or("error") == "options edns0\n");
  CHECK(driver::read_host_resolv_conf(plain, {real}).value_or("error") == read(plain));
  CHECK(driver::read_host_resolv_conf(both, {real}).value_or("error") == read(both));
  CHECK(driver::read_host_resolv_conf(dir / "none", {real}).value_or("error").empty());
  // What cannot be read is not taken for empty: the task would be without names.
  REQUIRE(base::write_file_atomic(dir / "large", std::string(65537, '#'), 0644, base::Durable::kNo));
  CHECK_FALSE(driver::read_host_resolv_conf(dir / "large", {}));
  CHECK_FALSE(driver::read_host_resolv_conf(dir.path().string(), {}));
}

TEST_CASE("the three files are written, again and again") {
  const tests::TempDir dir;
  driver::TaskSpec spec;
  spec.dns = driver::Dns{{"192.0.2.1"}, {}, {"ndots:1"}};
  spec.network = driver::NetworkIsolation{};
  spec.network->hosts_address = "172.26.64.6";
  for (int i = 0; i < 2; ++i) {
    const auto files =
        driver::write_etc_files(dir / "etc", spec, {"web", driver::HostNetwork::kNo, "172.26.64.6", "172.26.64.1"});
    REQUIRE(files);
    CHECK(read(files->hosts) == std::string(kDefaultLines) + "172.26.64.6\tweb\n");
    CHECK(read(files->hostname) == "web\n");
    CHECK(read(files->resolv_conf).find("nameserver 192.0.2.1\n") != std::string::npos);
  }
  const auto shared = driver::write_etc_files(dir / "etc", spec, {"web", driver::HostNetwork::kYes, "", ""});
  REQUIRE(shared);
  CHECK(read(shared->hosts).starts_with(read("/etc/hosts").substr(0, 9)));
  spec.dns->servers = {"nonsense"};
  CHECK_FALSE(
      driver::write_etc_files(dir / "etc", spec, {"web", driver::HostNetwork::kNo, "172.26.64.6", "172.26.64.1"}));
}

TEST_CASE("extra hosts, host-gateway and host_dns") {
  const tests::TempDir dir;
  driver::TaskSpec spec;
  spec.options.extra_hosts = {"db:10.0.0.5", "host.docker.internal:host-gateway"};
  spec.options.host_dns = false;
  auto files = driver::write_etc_files(dir / "etc", spec, {"web", driver::HostNetwork::kNo, "", "172.26.64.1"});
  REQUIRE(files);
  CHECK(read(files->hosts).ends_with("127.0.1.1\tweb\n10.0.0.5\tdb\n172.26.64.1\thost.docker.internal\n"));
  CHECK(files->resolv_conf.empty());
  files = driver::write_etc_files(dir / "etc", spec, {"web", driver::HostNetwork::kYes, "", ""});
  REQUIRE(files);
  CHECK(read(files->hosts).find("127.0.0.1\thost.docker.internal\n") != std::string::npos);
  const auto nowhere = driver::write_etc_files(dir / "etc", spec, {"web", driver::HostNetwork::kNo, "", ""});
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().message.find("host-gateway") != std::string::npos);
  spec.options.extra_hosts.clear();
  spec.options.dns_servers = {"192.0.2.2"};  // said by the task itself
  CHECK_FALSE(
      driver::write_etc_files(dir / "etc", spec, {"web", driver::HostNetwork::kNo, "", ""})->resolv_conf.empty());
}
