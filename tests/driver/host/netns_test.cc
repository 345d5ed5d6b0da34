#include "driver/host/netns.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/base/no_threads.h"
#include "tests/temp_dir.h"

TEST_CASE("the default gateway of a network namespace") {
  const std::string header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  const std::string local = "eth0\t0040630A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
  const std::string route = "eth0\t00000000\t0100630A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
  CHECK(driver::default_gateway(header + local + route, "") == "10.99.0.1");
  CHECK(driver::default_gateway(header + local, "").empty());
  CHECK(driver::default_gateway("", "").empty());
  CHECK(driver::default_gateway("eth0\t00000000\tnonsense\t0003\t0\t0\t0\t00000000\n", "").empty());
  const std::string zero(32, '0');
  const std::string route6 =
      zero + " 00 " + zero + " 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n";
  CHECK(driver::default_gateway(header + local, route6) == "fd00::1");
  CHECK(driver::default_gateway(header + route, route6) == "10.99.0.1");
  CHECK_FALSE(driver::look_into_netns("/no/such/netns"));
}

TEST_CASE("a network namespace for which no thread can be had, or that is a FIFO, is an error") {
  CHECK(tests::without_threads([] {
    const auto facts = driver::look_into_netns("/proc/self/ns/net");
    return !facts && facts.error().code == base::Code::kResourceExhausted;
  }));
  const tests::TempDir dir;
  REQUIRE(::mkfifo((dir / "netns").c_str(), 0600) == 0);
  CHECK_FALSE(driver::look_into_netns(dir / "netns"));
}
