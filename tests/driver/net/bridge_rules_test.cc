#include "driver/net/bridge_rules.h"

#include <doctest/doctest.h>

using driver::IpFamily;
using driver::missing_rules;

namespace {

constexpr char kNatJump[] =
    "-A POSTROUTING -m comment --comment \"containerd-driver: 172.31.240.0/20\" -j CD-NAT-cdnet0\n";
constexpr char kForwardJump[] =
    "-A FORWARD -m comment --comment \"containerd-driver: 172.31.240.0/20\" -j CD-FORWARD-cdnet0\n";

}  // namespace

TEST_CASE("the rules of the driver's own network are made where there are none") {
  const driver::BridgeNetworkOptions options;
  CHECK_EQ(
      missing_rules(options, IpFamily::kV4, {"-P POSTROUTING ACCEPT\n", "-P FORWARD DROP\n-N DOCKER\n"}),
      "*nat\n"
      ":CD-NAT-cdnet0 - [0:0]\n"
      "-A CD-NAT-cdnet0 ! -s 172.31.240.0/20 -j RETURN\n"
      "-A CD-NAT-cdnet0 -d 172.31.240.0/20 -j RETURN\n"
      "-A CD-NAT-cdnet0 -d 224.0.0.0/4 -j RETURN\n"
      "-A CD-NAT-cdnet0 -j MASQUERADE\n"
      "-A POSTROUTING -m comment --comment \"containerd-driver: 172.31.240.0/20\" -j CD-NAT-cdnet0\n"
      "COMMIT\n"
      "*filter\n"
      ":CD-FORWARD-cdnet0 - [0:0]\n"
      "-A CD-FORWARD-cdnet0 -o cdnet0 -d 172.31.240.0/20 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT\n"
      "-A CD-FORWARD-cdnet0 -i cdnet0 -s 172.31.240.0/20 -j ACCEPT\n"
      "-I FORWARD -m comment --comment \"containerd-driver: 172.31.240.0/20\" -j CD-FORWARD-cdnet0\n"
      "COMMIT\n");
}

TEST_CASE("IPv6 has a subnet and multicast addresses of its own") {
  driver::BridgeNetworkOptions options;
  options.subnet_v6 = "fd00:95::/64";
  const std::string update = missing_rules(options, IpFamily::kV6, {});
  CHECK_NE(update.find("-A CD-NAT-cdnet0 ! -s fd00:95::/64 -j RETURN\n"), std::string::npos);
  CHECK_NE(update.find("-d ff00::/8 -j RETURN\n"), std::string::npos);
  CHECK_EQ(update.find("172."), std::string::npos);
}

TEST_CASE("rules that are there are left alone, each table for itself") {
  driver::BridgeNetworkOptions options;
  const std::string others = "-P FORWARD DROP\n-A FORWARD -j DOCKER\n";
  CHECK_EQ(missing_rules(options, IpFamily::kV4, {kNatJump, others + kForwardJump}), "");
  CHECK_EQ(missing_rules(options, IpFamily::kV4, {kNatJump, others}).find("*nat"), std::string::npos);
  CHECK_EQ(missing_rules(options, IpFamily::kV4, {"", others + kForwardJump}).find("*filter"), std::string::npos);
  options.firewall = false;
  CHECK_EQ(missing_rules(options, IpFamily::kV4, {kNatJump, ""}), "");
  CHECK_NE(
      missing_rules(options, IpFamily::kV4, {kNatJump, kForwardJump})
          .find("-D FORWARD -m comment --comment \"containerd-driver: 172.31.240.0/20\" -j CD-FORWARD-cdnet0\nCOMMIT"),
      std::string::npos);
}

TEST_CASE("rules that stand twice, or were made for another subnet, are replaced; other networks' are not touched") {
  driver::BridgeNetworkOptions options;
  options.firewall = false;
  const std::string twice = missing_rules(options, IpFamily::kV4, {std::string(kNatJump) + kNatJump, ""});
  CHECK_NE(twice.find("-D POSTROUTING -m comment --comment \"containerd-driver: 172.31.240.0/20\" -j CD-NAT-cdnet0\n"),
           std::string::npos);
  CHECK_EQ(twice.find("-A POSTROUTING"), std::string::npos);

  options.subnet = "10.95.0.0/24";
  const std::string moved = missing_rules(
      options, IpFamily::kV4, {std::string(kNatJump) + "-A POSTROUTING -s 10.9.0.0/24 -j CD-NAT-cdnet01\n", ""});
  CHECK_NE(moved.find("-D POSTROUTING -m comment --comment \"containerd-driver: 172.31.240.0/20\" -j CD-NAT-cdnet0\n"
                      "-A POSTROUTING -m comment --comment \"containerd-driver: 10.95.0.0/24\" -j CD-NAT-cdnet0\n"),
           std::string::npos);
  CHECK_EQ(moved.find("10.9.0.0"), std::string::npos);
  CHECK_EQ(moved.find("cdnet01"), std::string::npos);
}
