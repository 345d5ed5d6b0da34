#include "cni/attachment.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "tests/cni/lists.h"

namespace {

cni::Attachment attachment() {
  cni::Attachment made;
  made.container_id = "c1";
  made.netns = "/run/netns/c1";
  return made;
}

base::Json input(const cni::NetworkList& list, std::size_t plugin, const cni::Attachment& made, std::string prev = "") {
  return *base::parse_json(cni::input_text({list, list.plugins[plugin], &made, prev, nullptr}), "input");
}

}  // namespace

TEST_CASE("attachments that cannot be") {
  CHECK(cni::check_attachment(attachment()));
  const auto refused = [](auto change) {
    cni::Attachment made = attachment();
    change(made);
    const auto checked = cni::check_attachment(made);
    return !checked && checked.error().code == base::Code::kInvalidArgument;
  };
  for (const char* id : {"", "a/b", "../x", "a b"}) CHECK(refused([&](auto& made) { made.container_id = id; }));
  for (const char* name : {"", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-ab"}) {
    CHECK(refused([&](auto& made) { made.ifname = name; }));
  }
  CHECK(refused([](auto& made) { made.netns = "netns/relative"; }));
  CHECK(refused([](auto& made) { made.supplied.ips = {"10.0.0"}; }));
}

TEST_CASE("a plugin gets its own object, and of what is supplied what it declares") {
  const auto list = tests::list_of({R"({"type":"bridge","bridge":"b0","capabilities":{"ips":true,"mac":true}})",
                                    R"({"type":"portmap","snat":true,"capabilities":{"portMappings":true}})",
                                    R"({"type":"tuning"})"},
                                   "0.4.0");
  cni::Attachment made = attachment();
  made.supplied.port_mappings = {{8080, 80, "tcp", ""}, {5353, 53, "udp", "127.0.0.1"}};
  made.supplied.ips = {"10.0.0.7"};
  const auto bridge = input(list, 0, made);
  CHECK_EQ(bridge["name"], "net");
  CHECK_EQ(bridge["cniVersion"], "0.4.0");
  CHECK_EQ(bridge["bridge"], "b0");
  CHECK_EQ(bridge["runtimeConfig"], base::Json{{"ips", {"10.0.0.7"}}});
  CHECK_FALSE(bridge.contains("prevResult"));
  const auto portmap = input(list, 1, made, R"({"cniVersion":"0.4.0","ips":[]})");
  CHECK_EQ(portmap["runtimeConfig"]["portMappings"],
           *base::parse_json(R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"},
                                 {"hostPort":5353,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}])",
                             "x"));
  CHECK_EQ(portmap["prevResult"]["cniVersion"], "0.4.0");
  CHECK_FALSE(input(list, 2, made).contains("runtimeConfig"));
  CHECK_FALSE(input(list, 1, attachment()).contains("runtimeConfig"));
  CHECK(cni::undeclared(list, made.supplied).empty());
  made.supplied.aliases = {"db"};
  CHECK(cni::undeclared(list, made.supplied) == std::vector<std::string>{"aliases"});
}

TEST_CASE("GC tells which attachments are valid, under both of its names") {
  const auto list = tests::list_of({R"({"type":"bridge"})"}, "1.1.0");
  const std::vector<cni::Attachment> valid = {attachment()};
  const auto told = *base::parse_json(cni::input_text({list, list.plugins[0], nullptr, {}, &valid}), "input");
  const auto expected = *base::parse_json(R"([{"containerID":"c1","ifname":"eth0"}])", "x");
  CHECK_EQ(told["cni.dev/valid-attachments"], expected);
  CHECK_EQ(told["cni.dev/attachments"], expected);
}

TEST_CASE("what is supplied survives its form on disk") {
  cni::Supplied supplied;
  supplied.port_mappings = {{1, 65535, "sctp", "::1"}};
  supplied.ips = {"10.0.0.7/24", "fd00::7"};
  supplied.mac = "02:00:00:00:00:01";
  supplied.aliases = {"a"};
  supplied.dns = cni::Dns{{"10.0.0.1"}, "", {"lan"}, {"ndots:1"}};
  supplied.bandwidth = cni::Bandwidth{1, 2, 3, 4};
  const auto json = cni::capability_args(supplied);
  const auto again = cni::parse_capability_args(json);
  REQUIRE(again);
  CHECK_EQ(cni::capability_args(*again), json);
  CHECK(again->port_mappings == supplied.port_mappings);
  CHECK(cni::capability_args({}).empty());
  for (const char* bad : {R"({"portMappings":[{"hostPort":65536,"containerPort":1}]})", R"({"portMappings":[7]})",
                          R"({"portMappings":[{"hostPort":1}]})", R"({"ips":"x"})", R"({"dns":[]})"}) {
    CHECK_FALSE(cni::parse_capability_args(*base::parse_json(bad, "x")));
  }
}

TEST_CASE("arguments that would be taken for others are left out") {
  cni::Attachment made = attachment();
  made.args = {{"IgnoreUnknown", "true"}, {"JOB", "a;b=c"}, {"", "x"}, {"GROUP", "g"}};
  CHECK_EQ(cni::args_text(made), "IgnoreUnknown=true;GROUP=g");
}
