#include "driver/spec/network.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using driver::NetworkMode;
using driver::NetworkPlan;
using driver::TaskSpec;

namespace {
TaskSpec with(std::optional<driver::NetworkIsolation> isolation, bool host_network = false) {
  TaskSpec spec;
  spec.network = std::move(isolation);
  spec.options.host_network = host_network;
  return spec;
}
driver::NetworkIsolation group(std::string path) {
  driver::NetworkIsolation isolation;
  isolation.mode = NetworkMode::kGroup;
  isolation.path = std::move(path);
  return isolation;
}
}  // namespace

TEST_CASE("which namespace a task lives in") {
  CHECK(driver::plan_network(with({}))->kind == NetworkPlan::Kind::kPrivate);
  CHECK(driver::plan_network(with({}, true))->kind == NetworkPlan::Kind::kHost);
  const auto joined = driver::plan_network(with(group("/var/run/netns/a")));
  CHECK(joined->kind == NetworkPlan::Kind::kJoin);
  CHECK_EQ(joined->netns_path, "/var/run/netns/a");
  CHECK(driver::plan_network(with(group("")))->kind == NetworkPlan::Kind::kPrivate);
}

TEST_CASE("ports without a namespace of their own mean the host's network") {
  TaskSpec spec = with({});
  spec.ports.push_back({"http", 8080, 0, ""});
  CHECK(driver::plan_network(spec)->kind == NetworkPlan::Kind::kHost);
}

TEST_CASE("host_network in a bridge group is refused with the Go driver's sentence") {
  const auto refused = driver::plan_network(with(group("/var/run/netns/a"), true));
  REQUIRE_FALSE(refused.has_value());
  CHECK_EQ(refused.error().code, base::Code::kInvalidArgument);
  CHECK_EQ(refused.error().message,
           "host_network and bridge network mode are mutually exclusive, and only one of them should be set");
}

TEST_CASE("network_mode is taken when the group says the same") {
  TaskSpec spec = with(group("/var/run/netns/a"));
  spec.options.network_mode = "bridge";
  CHECK(driver::plan_network(spec)->kind == NetworkPlan::Kind::kJoin);
  spec.options.network_mode = "none";
  CHECK_FALSE(driver::plan_network(spec));
  spec = with({});
  CHECK(driver::plan_network(spec)->kind == NetworkPlan::Kind::kPrivate);
  spec.options.network_mode = "bridge";
  const auto refused = driver::plan_network(spec);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("network { mode = \"bridge\" }") != std::string::npos);
  spec.options.network_mode = "none";
  spec.ports.push_back({"http", 8080, 0, ""});
  CHECK(driver::plan_network(spec)->kind == NetworkPlan::Kind::kPrivate);
}

TEST_CASE("ports name what the group has mapped") {
  TaskSpec spec = with(group("/var/run/netns/a"));
  spec.options.ports = {"http"};
  CHECK_FALSE(driver::plan_network(spec));  // no such label
  spec.ports.push_back({"http", 20000, 80, ""});
  CHECK(driver::plan_network(spec));
  spec.network.reset();
  spec.options.host_network = true;
  CHECK_FALSE(driver::plan_network(spec));  // the host's network maps nothing
  spec.options.host_network = false;
  spec.ports[0].to = 0;
  CHECK(driver::plan_network(spec)->kind == NetworkPlan::Kind::kHost);
  spec.options.network_mode = "none";
  CHECK_FALSE(driver::plan_network(spec));
}

TEST_CASE("what a job may not expect of its network is told, and only that") {
  struct Row {
    const char* what;
    std::vector<std::string> listed;
    std::vector<driver::PortMapping> ports;
    bool host_network;
    NetworkPlan::Kind kind;
    const char* note;
  };
  const auto host = NetworkPlan::Kind::kHost;
  const auto own = NetworkPlan::Kind::kPrivate;
  for (const Row& row : {
           Row{"nothing", {}, {}, false, own, "loopback"},
           Row{"host_network", {}, {}, true, host, ""},
           Row{"ports of the group alone", {}, {{"db", 8080, 0, ""}}, false, host, ""},
           Row{"Docker's ports", {"db"}, {{"db", 8080, 0, ""}}, false, host, "host's network"},
           Row{"Docker's ports, the same on both sides", {"db"}, {{"db", 80, 80, ""}}, false, host, "host's network"},
           Row{"nomad job init -short", {"db"}, {{"db", 21000, 6379, ""}}, false, own, "from 21000 to 6379"},
           Row{"one of two mapped", {"a", "b"}, {{"a", 80, 0, ""}, {"b", 81, 82, ""}}, false, own, "\"b\""},
           Row{"mapped, not listed", {"a"}, {{"a", 80, 0, ""}, {"b", 81, 82, ""}}, false, host, "host's network"},
       }) {
    CAPTURE(row.what);
    TaskSpec spec = with({}, row.host_network);
    spec.options.ports = row.listed;
    spec.ports = row.ports;
    const auto plan = driver::plan_network(spec);
    REQUIRE(plan.has_value());
    CHECK(plan->kind == row.kind);
    CHECK_EQ(plan->note.empty(), *row.note == '\0');
    CHECK(plan->note.find(row.note) != std::string::npos);
  }
}

TEST_CASE("a node may have another default, for tasks that ask for nothing") {
  CHECK(driver::plan_network(with({}), NetworkPlan::Kind::kHost)->kind == NetworkPlan::Kind::kHost);
  TaskSpec spec = with({});
  spec.options.network_mode = "none";
  CHECK(driver::plan_network(spec, NetworkPlan::Kind::kHost)->kind == NetworkPlan::Kind::kPrivate);
  spec = with(group("/var/run/netns/a"));
  CHECK(driver::plan_network(spec, NetworkPlan::Kind::kHost)->kind == NetworkPlan::Kind::kJoin);
  spec = with({});
  spec.options.sysctl["net.core.somaxconn"] = "4096";
  CHECK(driver::plan_network(spec, NetworkPlan::Kind::kHost)->kind == NetworkPlan::Kind::kPrivate);
}

TEST_CASE("a network of the driver's own, asked for or the node's default") {
  TaskSpec spec = with({});
  CHECK(driver::plan_network(spec, NetworkPlan::Kind::kOwn)->kind == NetworkPlan::Kind::kOwn);
  CHECK_EQ(driver::plan_network(spec, NetworkPlan::Kind::kOwn)->own.name, "bridge");
  CHECK(driver::plan_network(with(group("/n")), NetworkPlan::Kind::kOwn)->kind == NetworkPlan::Kind::kJoin);
  spec.own_network = driver::OwnNetwork{"cni/lan", {}, {}, {}};
  CHECK_EQ(driver::plan_network(spec)->own.name, "cni/lan");
}
