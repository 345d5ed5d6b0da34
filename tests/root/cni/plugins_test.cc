// The real plugins, in network namespaces of this test: nothing of the host's network is touched.
#include <doctest/doctest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/dir.h"
#include "base/process.h"
#include "cni/debt.h"
#include "cni/netns.h"
#include "cni/runtime.h"
#include "tests/temp_dir.h"

using base::Context;
using base::str;

namespace {

/// Runs `body` in a thread that stands for a host: with a network of its own. What it starts is in that network, too.
template <typename Body>
void on_a_host(Body body) {
  bool made = false;
  std::jthread([&] {
    made = ::unshare(CLONE_NEWNET) == 0;
    if (made) body();
  }).join();
  REQUIRE(made);
}

std::string output(std::vector<std::string> argv) {
  base::SpawnOptions options;
  options.argv = std::move(argv);
  const auto ran = base::run(Context::cleanup(), options, "", 1u << 20);
  return ran ? ran->stdout_text : ran.error().message;
}

std::string rules() {
  return output({"/usr/sbin/iptables-save"});
}

std::size_t addresses(const tests::TempDir& dir) {
  const auto names = base::list_dir(dir / "ipam/net");
  if (!names) return 0;
  std::size_t count = 0;
  for (const std::string& name : *names) count += name.starts_with("10.") || name.starts_with("fd") ? 1U : 0U;
  return count;
}

struct Host {
  explicit Host(const std::string& version = "0.4.0", const std::string& subnet = "10.77.0.0/24") {
    list = *cni::parse_list(
        str("{\"cniVersion\":\"", version, "\",\"name\":\"net\",\"plugins\":[{\"type\":\"bridge\",\"bridge\":\"br0\",",
            "\"isGateway\":true,\"ipMasq\":true,\"hairpinMode\":true,\"capabilities\":{\"ips\":true},\"ipam\":{",
            "\"type\":\"host-local\",\"dataDir\":\"", dir / "ipam", "\",\"ranges\":[[{\"subnet\":\"", subnet, "\"}]],",
            "\"routes\":[{\"dst\":\"0.0.0.0/0\"}]}},{\"type\":\"firewall\",\"backend\":\"iptables\"},",
            "{\"type\":\"tuning\",\"sysctl\":{\"net.ipv4.conf.all.log_martians\":\"1\"}},",
            "{\"type\":\"portmap\",\"snat\":true,\"capabilities\":{\"portMappings\":true}}]}"),
        "list");
    options.cache_dir = dir / "cache";
  }
  cni::Attachment attachment(const std::string& id) const {
    cni::Attachment made;
    made.container_id = id;
    made.netns = dir / ("netns/" + id);
    REQUIRE(cni::make_netns(made.netns));
    return made;
  }
  tests::TempDir dir;
  cni::NetworkList list;
  cni::RuntimeOptions options;
};

}  // namespace

TEST_CASE("a container is attached, checked and detached, and nothing is left of it") {
  for (const char* version : {"0.4.0", "1.0.0"}) {
    CAPTURE(version);
    on_a_host([&] {
      const Host host(version);
      const cni::Runtime runtime(host.options);
      CHECK(runtime.validate(Context::cleanup(), host.list));
      const std::string before = rules();
      cni::Attachment one = host.attachment("one");
      one.supplied.port_mappings = {{18080, 80, "tcp", ""}, {18080, 80, "udp", ""}};
      one.supplied.ips = {"10.77.0.77"};
      const auto result = runtime.add(Context::cleanup(), host.list, one);
      REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().message));
      CHECK_EQ(result->ips.at(0).address, "10.77.0.77/24");
      CHECK_EQ(result->ips.at(0).gateway, "10.77.0.1");
      const cni::Attachment two = host.attachment("two");
      REQUIRE(runtime.add(Context::cleanup(), host.list, two));
      // (Of one with ports portmap 1.1.1 says that it has no rules of IPv6, though it has no such address.)
      const auto checked = runtime.check(Context::cleanup(), host.list, two);
      CHECK_MESSAGE(checked.has_value(), (checked ? "" : checked.error().message));
      CHECK_EQ(addresses(host.dir), 2);
      CHECK(rules().find("18080") != std::string::npos);
      for (const auto& each : {one, two, one}) {  // a repeated one does no harm
        const auto gone = runtime.del(Context::cleanup(), host.list, each);
        CHECK_MESSAGE(gone.has_value(), (gone ? "" : gone.error().message));
        CHECK(cni::remove_netns(each.netns));
      }
      CHECK_EQ(addresses(host.dir), 0);
      CHECK(rules().find("18080") == std::string::npos);
      CHECK(rules().find("10.77.0.77") == std::string::npos);
      CHECK(output({"/usr/sbin/ip", "-o", "link"}).find("veth") == std::string::npos);
      CHECK(base::list_dir(host.dir / "cache/results")->empty());
    });
  }
}

TEST_CASE("what an ADD that failed half way left is given back by its debt") {
  on_a_host([] {
    Host host;
    const cni::Ledger ledger(host.dir / "owed");
    cni::Debt debt;
    debt.network = host.list.name;
    debt.list_text = str(host.list.text.substr(0, host.list.text.rfind(']')), ",{\"type\":\"no-such\"}]}");
    debt.attachment = host.attachment("one");
    debt.runtime = host.options;
    REQUIRE(ledger.owe(debt));
    const auto list = *cni::parse_list(debt.list_text, "list");
    const auto failed = cni::Runtime(host.options).add(Context::cleanup(), list, debt.attachment);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().message.find("no-such") != std::string::npos);
    CHECK_EQ(addresses(host.dir), 1);
    // The others are asked although one is missing, and the debt stays.
    const auto owed = ledger.all();
    REQUIRE(owed->at(0).debt);
    CHECK_FALSE(ledger.pay(Context::cleanup(), *owed->at(0).debt, debt.attachment.netns));
    CHECK_EQ(addresses(host.dir), 0);
    CHECK_EQ(ledger.all()->size(), 1);
    debt.list_text = host.list.text;
    REQUIRE(ledger.owe(debt));
    CHECK(ledger.pay(Context::cleanup(), *ledger.all()->at(0).debt, debt.attachment.netns));
    CHECK(ledger.all()->empty());
    CHECK_FALSE(*cni::is_netns(debt.attachment.netns));
  });
}

TEST_CASE("what was made before the plugin that failed is undone with its result") {
  on_a_host([] {
    Host host;
    const std::string without = host.list.text;
    host.list = *cni::parse_list(
        str(host.list.text.substr(0, host.list.text.rfind(']')), ",{\"type\":\"host-device\"}]}"), "list");
    const cni::Ledger ledger(host.dir / "owed");
    cni::Debt debt;
    debt.network = host.list.name;
    debt.list_text = host.list.text;
    debt.attachment = host.attachment("one");
    debt.runtime = host.options;
    REQUIRE(ledger.owe(debt));
    int steps = 0;
    const auto note = [&](const cni::AddResult& so_far) {
      ++steps;
      debt.result_text = cni::result_text(so_far, cni::kNewest);
      return ledger.owe(debt);
    };
    CHECK_FALSE(cni::Runtime(host.options).add(Context::cleanup(), host.list, debt.attachment, note));
    CHECK_EQ(steps, 4);
    CHECK(rules().find("CNI-FORWARD -s 10.77.0.2/32") != std::string::npos);
    debt.list_text = without;  // the one that failed has nothing to undo, and would say so
    REQUIRE(ledger.owe(debt));
    const auto paid = ledger.pay(Context::cleanup(), *ledger.all()->at(0).debt, debt.attachment.netns);
    CHECK_MESSAGE(paid.has_value(), (paid ? "" : paid.error().message));
    CHECK(rules().find("10.77.0.2/32") == std::string::npos);
    CHECK_EQ(addresses(host.dir), 0);
  });
}

TEST_CASE("rules of an interface that is gone before its DEL go, too") {
  on_a_host([] {
    const Host host;
    const cni::Ledger ledger(host.dir / "owed");
    for (const bool namespace_too : {false, true}) {
      CAPTURE(namespace_too);
      cni::Debt debt;
      debt.network = host.list.name;
      debt.list_text = host.list.text;
      debt.attachment = host.attachment("one");
      debt.runtime = host.options;
      REQUIRE(ledger.owe(debt));
      REQUIRE(cni::Runtime(host.options).add(Context::cleanup(), host.list, debt.attachment));
      CHECK(rules().find("id: \\\"one\\\"") != std::string::npos);
      CHECK(*cni::has_interface(debt.attachment.netns, "eth0"));
      output({"/usr/bin/nsenter", str("--net=", debt.attachment.netns), "/usr/sbin/ip", "link", "del", "eth0"});
      CHECK_FALSE(*cni::has_interface(debt.attachment.netns, "eth0"));
      if (namespace_too) CHECK(cni::remove_netns(debt.attachment.netns));
      const auto paid = ledger.pay(Context::cleanup(), *ledger.all()->at(0).debt, debt.attachment.netns);
      CHECK_MESSAGE(paid.has_value(), (paid ? "" : paid.error().message));
      CHECK(rules().find("id: \\\"one\\\"") == std::string::npos);
      CHECK_EQ(addresses(host.dir), 0);
    }
  });
}

TEST_CASE("a subnet that is full says so, and one that gives back has room again") {
  on_a_host([] {
    const Host host("0.4.0", "10.77.1.0/30");  // one address beside the gateway
    const cni::Runtime runtime(host.options);
    const cni::Attachment one = host.attachment("one");
    REQUIRE(runtime.add(Context::cleanup(), host.list, one));
    const cni::Attachment two = host.attachment("two");
    const auto full = runtime.add(Context::cleanup(), host.list, two);
    REQUIRE_FALSE(full);
    CHECK(full.error().message.find("network net: plugin bridge: ADD") != std::string::npos);
    CHECK(runtime.del(Context::cleanup(), host.list, two));
    // Its namespace is gone: the address is given back all the same.
    CHECK(cni::remove_netns(one.netns));
    cni::Attachment gone = one;
    gone.netns.clear();
    CHECK(runtime.del(Context::cleanup(), host.list, gone));
    CHECK(runtime.add(Context::cleanup(), host.list, two));
    CHECK(runtime.del(Context::cleanup(), host.list, two));
    CHECK(cni::remove_netns(two.netns));
    CHECK_EQ(addresses(host.dir), 0);
  });
}

TEST_CASE("a namespace has loopback, is found again, and goes") {
  const tests::TempDir dir;
  const std::string path = dir / "netns/a";
  REQUIRE(cni::make_netns(path));
  CHECK(*cni::is_netns(path));
  CHECK(cni::make_netns(path));  // kept
  CHECK(output({"/usr/bin/nsenter", str("--net=", path), "/usr/sbin/ip", "-o", "link", "show", "up"}).find("lo") !=
        std::string::npos);
  CHECK(cni::remove_netns(path));
  CHECK(cni::remove_netns(path));
  CHECK_FALSE(*cni::is_netns(path));
  CHECK_FALSE(std::filesystem::exists(path));
  // A file that a crash, or a reboot, left there.
  REQUIRE(base::write_file_atomic(path, "", 0600, base::Durable::kNo));
  CHECK(cni::make_netns(path));
  CHECK(*cni::is_netns(path));
  CHECK(cni::remove_netns(path));
}
