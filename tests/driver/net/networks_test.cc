#include "driver/net/networks.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "cni/types.h"
#include "driver/net/bridge.h"
#include "driver/net/ports.h"
#include "tests/temp_dir.h"

using driver::PublishedPort;

TEST_CASE("the list of the driver's own network") {
  driver::BridgeNetworkOptions options;
  const auto list = cni::parse_list(driver::bridge_conflist(options, true, true), "ours");
  REQUIRE(list);
  CHECK_EQ(list->name, "cdnet0");
  REQUIRE_EQ(list->plugins.size(), 2);
  const auto bridge = *base::parse_json(list->plugins[0].json, "bridge");
  CHECK_EQ(bridge["ipam"]["ranges"][0][0]["subnet"], "172.31.240.0/20");
  CHECK_EQ(bridge["ipam"]["ranges"][1][0]["subnet"], options.subnet_v6);
  CHECK_FALSE(bridge.contains("mtu"));
  CHECK(list->plugins[0].capabilities.contains("ips"));
  CHECK(list->plugins[1].capabilities.contains("portMappings"));
  options.mtu = 1400;
  options.dns = {"10.0.0.2"};
  const auto other = cni::parse_list(driver::bridge_conflist(options, false, false), "ours");
  REQUIRE_EQ(other->plugins.size(), 1);
  const auto changed = *base::parse_json(other->plugins[0].json, "bridge");
  CHECK_EQ(changed["mtu"], 1400);
  CHECK_EQ(changed["ipam"]["ranges"].size(), 1);
  CHECK_EQ(changed["dns"]["nameservers"][0], "10.0.0.2");
}

TEST_CASE("a route of the host into the subnet is told, the bridge's own and the default are not") {
  const driver::BridgeNetworkOptions options;  // 172.31.240.0/20
  const std::string header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  const auto route = [](const char* interface, const char* to, const char* mask) {
    return base::str(interface, "\t", to, "\t00000000\t0001\t0\t0\t0\t", mask, "\t0\t0\t0\n");
  };
  CHECK(driver::check_routes(options, header + route("eth0", "00000000", "00000000")));
  CHECK(driver::check_routes(options, header + route("cdnet0", "00F01FAC", "00F0FFFF")));
  CHECK(driver::check_routes(options, header + route("eth0", "00001FAC", "00F0FFFF")));  // 172.31.0.0/20
  for (const auto& [to, mask] : {std::pair{"00001FAC", "0000FFFF"}, {"07F01FAC", "FFFFFFFF"}}) {
    const auto told = driver::check_routes(options, header + route("eth0", to, mask));
    REQUIRE_FALSE(told);
    CHECK_EQ(told.error().code, base::Code::kFailedPrecondition);
    CHECK(told.error().message.find("by eth0: give bridge_network { subnet }") != std::string::npos);
  }
  CHECK(driver::check_routes(options, "nonsense\n\n"));
}

TEST_CASE("ports are free, taken by a process, by another container, or anybody's") {
  const base::Fd holder(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(holder.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(holder.get(), 1) == 0);
  REQUIRE(::getsockname(holder.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const std::uint16_t held = ntohs(address.sin_port);
  const auto taken = driver::settle_ports({{"", held, 80, "tcp"}}, {});
  REQUIRE_FALSE(taken);
  CHECK(taken.error().message.find(base::str(held, "/tcp of this host is taken by a process")) != std::string::npos);
  CHECK(driver::settle_ports({{"127.0.0.2", held, 80, "tcp"}}, {}));

  const auto picked =
      driver::settle_ports({{"", 0, 80, "tcp"}, {"", 0, 81, "tcp"}, {"", 0, 53, "udp"}, {"", 0, 7, "sctp"}}, {});
  REQUIRE(picked);
  for (const PublishedPort& port : *picked) CHECK(port.host_port > 1023);
  CHECK(picked->at(0).host_port != picked->at(1).host_port);

  const PublishedPort one = picked->at(0);
  CHECK_FALSE(driver::settle_ports({one}, {one}));
  CHECK_FALSE(driver::settle_ports({{"127.0.0.1", one.host_port, 1, "tcp"}}, {one}));
  CHECK(driver::settle_ports({{"", one.host_port, 1, "udp"}}, {one}));
  CHECK_EQ(driver::settle_ports({one, one}, {}).error().code, base::Code::kInvalidArgument);
  const auto elsewhere = driver::settle_ports({{"198.51.100.77", one.host_port, 80, "tcp"}}, {});
  REQUIRE_FALSE(elsewhere);
  CHECK(elsewhere.error().message.starts_with("198.51.100.77 is not an address of this host"));
}

TEST_CASE("networks that are not there, or cannot do what is wanted, are told before anything is made") {
  const tests::TempDir dir;
  driver::PluginOptions options;
  options.data_dir = dir / "data";
  options.state_dir = dir / "state";
  options.cni_config_dir = dir / "net.d";
  const auto attach = [&](driver::OwnNetwork wanted) {
    const auto attached = driver::attach_network(base::Context::cleanup(),
                                                 {options, "c1", dir / "state/netns/c1", std::move(wanted), {}});
    REQUIRE_FALSE(attached);
    return attached.error();
  };
  CHECK_EQ(attach({"cni/none", {}, {}, {}}).code, base::Code::kNotFound);
  CHECK_EQ(attach({"cni/../../etc", {}, {}, {}}).code, base::Code::kInvalidArgument);
  CHECK_EQ(attach({"wibble", {}, {}, {}}).code, base::Code::kInvalidArgument);
  REQUIRE(base::make_dirs(options.cni_config_dir, 0755));
  REQUIRE(base::write_file_atomic(options.cni_config_dir + "/plain.conflist",
                                  R"({"cniVersion":"0.4.0","name":"plain","plugins":[{"type":"bridge"}]})", 0644,
                                  base::Durable::kNo));
  CHECK(attach({"cni/plain", {{"", 0, 80, "tcp"}}, {}, {}}).message.find("cannot publish ports") != std::string::npos);
  CHECK(attach({"cni/plain", {}, {"10.0.0.1"}, {}}).message.find("\"ips\"") != std::string::npos);
  CHECK(driver::attached_networks(options.data_dir, "").empty());
  CHECK(driver::give_back_network(base::Context::cleanup(), options.data_dir, "c1"));
  const auto all = driver::list_networks(options);
  REQUIRE_EQ(all->size(), 2);
  CHECK_EQ(all->at(0).name, "bridge");
  CHECK_EQ(all->at(1).name, "cni/plain");
}

TEST_CASE("networks of the node are those of its folders") {
  const tests::TempDir dir;
  REQUIRE(base::write_file_atomic(dir / "lan.conflist",
                                  R"({"cniVersion":"0.4.0","name":"lan","plugins":[{"type":"ptp"}]})", 0644,
                                  base::Durable::kNo));
  REQUIRE(base::write_file_atomic(dir / "bad.conflist", "{", 0644, base::Durable::kNo));
  driver::PluginOptions options;
  options.cni_config_dir = base::str(dir / "none", ":", dir.path().string());
  const auto all = driver::list_networks(options);
  REQUIRE(all);
  REQUIRE_EQ(all->size(), 3);
  CHECK_EQ(all->at(0).name, "bridge");
  CHECK(all->at(1).problem.find("bad.conflist") != std::string::npos);
  CHECK_EQ(all->at(2).name, "cni/lan");
  CHECK_EQ(all->at(2).plugins, "ptp");
}
