#include "cli/ports.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "cli/network.h"

using driver::PublishedPort;
using Ports = std::vector<PublishedPort>;

TEST_CASE("ports to publish in all their forms") {
  const auto of = [](std::vector<std::string> values) { return *cli::parse_ports(values); };
  CHECK(of({"8080:80"}) == Ports{{"", 8080, 80, "tcp"}});
  CHECK(of({"8080:80/UDP"}) == Ports{{"", 8080, 80, "udp"}});
  CHECK(of({"80"}) == Ports{{"", 0, 80, "tcp"}});
  CHECK(of({":80/sctp"}) == Ports{{"", 0, 80, "sctp"}});
  CHECK(of({"127.0.0.1::80"}) == Ports{{"127.0.0.1", 0, 80, "tcp"}});
  CHECK(of({"127.0.0.2:8080:80/udp"}) == Ports{{"127.0.0.2", 8080, 80, "udp"}});
  CHECK(of({"[::1]:8080:80"}) == Ports{{"::1", 8080, 80, "tcp"}});
  CHECK(of({"8080-8081:80-81", "9:9"}) ==
        Ports{{"", 8080, 80, "tcp"}, {"", 8081, 81, "tcp"}, {"", 9, 9, "tcp"}});
}

TEST_CASE("ports that are none are refused with their value") {
  for (const char* bad : {"", ":", "::", "0:80", "65536:80", "80:0", "80:65536", "-1:80", "a:b", "8080:80/xyz",
                          "80-82:80-81", "82-80:82-80", "1.2.3.4.5:80:80", "300.1.1.1:80:80", "1:2:3:4", "8080:",
                          "8080:80:", "localhost:80:80", " 80:80", "80:80/tcp/udp", "0x50:80", "+80:80", "[::1]80:80",
                          "[1.2.3.4]:80:80", "80/", "80-"}) {
    CAPTURE(bad);
    const auto ports = cli::parse_ports({bad});
    REQUIRE_FALSE(ports);
    CHECK_EQ(ports.error().code, base::Code::kInvalidArgument);
    CHECK(ports.error().message.starts_with("--publish "));
  }
  CHECK_FALSE(cli::parse_ports({"1-2000:1-2000"}));
}

TEST_CASE("what network the flags ask for") {
  const auto apply = [](const cli::NetworkFlags& flags, driver::TaskSpec& spec) {
    base::Json options = base::Json::object();
    return cli::apply_network(flags, options, spec);
  };
  driver::TaskSpec spec;
  cli::NetworkFlags flags;
  CHECK(apply(flags, spec));
  CHECK_FALSE(spec.own_network);
  flags.publish = {"80"};
  CHECK(apply(flags, spec));
  REQUIRE(spec.own_network);
  CHECK_EQ(spec.own_network->name, "bridge");
  for (const char* net : {"host", "none", "container:a", "wibble", "cni"}) {
    flags.net = net;
    CHECK_FALSE(apply(flags, spec));
  }
  flags = {};
  flags.net = "cni/lan";
  flags.ip = "10.0.0.7";
  flags.ip6 = "fd00::7";
  CHECK(apply(flags, spec));
  CHECK(spec.own_network->ips == std::vector<std::string>{"10.0.0.7", "fd00::7"});
  flags.ip = "fd00::7";
  CHECK_FALSE(apply(flags, spec));
  flags = {};
  flags.ip = "10.0.0.7";
  CHECK_FALSE(apply(flags, spec));
}
