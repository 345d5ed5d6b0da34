#include "cni/runtime.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/cni/lists.h"
#include "tests/cni/scripts.h"

using base::Code;
using base::Context;
using Calls = std::vector<std::string>;

namespace {

constexpr char kFirst[] =
    R"({"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.0.0.7/24","interface":0}]})";
constexpr char kSecond[] = R"({"cniVersion":"0.4.0","ips":[{"address":"10.0.0.8/24","version":"4"}]})";

cni::Attachment attached(const std::string& id = "c1") {
  cni::Attachment made;
  made.container_id = id;
  made.netns = "/n";
  return made;
}

Context soon() {
  return Context::background().with_timeout(std::chrono::seconds(20));
}

/// Two plugins, of which one declares port mappings, and a runtime over them.
struct TwoPlugins {
  explicit TwoPlugins(const std::string& version = "1.0.0", const std::string& more = "")
      : list(tests::list_of({R"({"type":"one"})", R"({"type":"two","capabilities":{"portMappings":true}})"}, version,
                            more)),
        runtime(scripts.options()) {
    scripts.add_good("one", kFirst);
    scripts.add_good("two", kSecond);
  }
  std::string cached(const std::string& id = "c1") const {
    return scripts.text("cache/results/net-" + id + "-eth0");
  }
  tests::Scripts scripts;
  cni::NetworkList list;
  cni::Runtime runtime;
};

}  // namespace

TEST_CASE("ADD asks the plugins in order, each with the result of the one before, and caches the last") {
  const TwoPlugins two;
  cni::Attachment made = attached();
  made.supplied.port_mappings = {{8080, 80, "tcp", ""}};
  const auto result = two.runtime.add(soon(), two.list, made);
  REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().message));
  CHECK_EQ(result->ips[0].ip(), "10.0.0.8");
  CHECK(two.scripts.calls() == Calls{"one ADD", "two ADD"});
  CHECK_FALSE(two.scripts.input("one.ADD").contains("prevResult"));
  CHECK_FALSE(two.scripts.input("one.ADD").contains("runtimeConfig"));
  const auto second = two.scripts.input("two.ADD");
  CHECK_EQ(second["prevResult"]["ips"][0]["address"], "10.0.0.7/24");
  CHECK_EQ(second["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
  const auto cache = *base::parse_json(two.cached(), "cache");
  CHECK_EQ(cache["kind"], "cniCacheV1");
  CHECK_EQ(cache["containerId"], "c1");
  CHECK_EQ(cache["networkName"], "net");
  CHECK_EQ(cache["ifName"], "eth0");
  CHECK_EQ(cache["result"]["cniVersion"], "1.0.0");
  CHECK_FALSE(cache["result"]["ips"][0].contains("version"));
  const auto again = two.runtime.add(soon(), two.list, made);
  REQUIRE_FALSE(again);
  CHECK_EQ(again.error().code, Code::kAlreadyExists);
  CHECK(two.runtime.add(soon(), two.list, attached("c2")));
}

TEST_CASE("an ADD that fails half way leaves no cache, and its DEL goes to all in reverse") {
  const TwoPlugins two;
  two.scripts.add("two", R"([ $CNI_COMMAND = ADD ] && { echo '{"code":100,"msg":"no"}'; exit 1; }; exit 0)");
  const auto result = two.runtime.add(soon(), two.list, attached());
  REQUIRE_FALSE(result);
  CHECK(result.error().message.starts_with("network net: plugin two: ADD: "));
  CHECK(two.cached().empty());
  two.scripts.forget_calls();
  CHECK(two.runtime.del(soon(), two.list, attached()));
  CHECK(two.scripts.calls() == Calls{"two DEL", "one DEL"});
}

TEST_CASE("a plugin's answer to ADD that is no result is an error; null changes nothing") {
  const TwoPlugins two;
  for (const char* bad : {"exit 0", "echo this is no JSON", R"(echo '{"ips":[{"address":"x"}]}')"}) {
    two.scripts.add("two", std::string("[ $CNI_COMMAND = ADD ] || exit 0\n") + bad);
    const auto result = two.runtime.add(soon(), two.list, attached());
    REQUIRE_FALSE(result);
    CHECK(result.error().message.starts_with("network net: plugin two: ADD: "));
    CHECK(two.cached().empty());
  }
  two.scripts.add("two", "echo null");
  CHECK_EQ(two.runtime.add(soon(), two.list, attached())->ips.at(0).ip(), "10.0.0.7");
}

TEST_CASE("DEL brings the cached result, removes it, and may be repeated") {
  for (const char* version : {"0.3.1", "0.4.0", "1.0.0"}) {
    CAPTURE(version);
    const TwoPlugins two(version);
    REQUIRE(two.runtime.add(soon(), two.list, attached()));
    CHECK(two.runtime.del(soon(), two.list, attached()));
    for (const char* input : {"one.DEL", "two.DEL"}) {
      const auto sent = two.scripts.input(input);
      CHECK_EQ(sent.contains("prevResult"), std::string(version) != "0.3.1");
      if (sent.contains("prevResult")) CHECK_EQ(sent["prevResult"]["cniVersion"], version);
    }
    CHECK(two.cached().empty());
    CHECK(two.runtime.del(soon(), two.list, attached()));
    CHECK_FALSE(two.scripts.input("one.DEL").contains("prevResult"));
  }
}

TEST_CASE("a cache that is damaged keeps nobody from DEL, and a CHECK is told") {
  const TwoPlugins two;
  REQUIRE(two.runtime.add(soon(), two.list, attached()));
  for (const char* damage : {"", "{", "[]", R"({"kind":"other"})", R"({"kind":"cniCacheV1","containerId":"c1"})"}) {
    std::ofstream(two.scripts.dir() / "cache/results/net-c1-eth0") << damage;
    const auto checked = two.runtime.check(soon(), two.list, attached());
    REQUIRE_FALSE(checked);
    CHECK_EQ(checked.error().code, Code::kDataLoss);
  }
  CHECK(two.runtime.del(soon(), two.list, attached()));
  CHECK_FALSE(std::filesystem::exists(two.scripts.dir() / "cache/results/net-c1-eth0"));
}

TEST_CASE("a DEL that fails in one plugin is made in the others, keeps the cache, and succeeds later") {
  const TwoPlugins two;
  REQUIRE(two.runtime.add(soon(), two.list, attached()));
  std::filesystem::remove(two.scripts.bin() + "/two");
  two.scripts.forget_calls();
  const auto failed = two.runtime.del(soon(), two.list, attached());
  REQUIRE_FALSE(failed);
  CHECK(failed.error().message.starts_with("network net: plugin two: DEL: there is no plugin \"two\""));
  CHECK(two.scripts.calls() == Calls{"one DEL"});
  CHECK_FALSE(two.cached().empty());
  two.scripts.add_good("two", kSecond);
  CHECK(two.runtime.del(soon(), two.list, attached()));
  CHECK(two.cached().empty());
}

TEST_CASE("a container that a plugin does not know is a container detached") {
  const TwoPlugins two;
  two.scripts.add("two", R"(echo '{"code":3,"msg":"unknown"}'; exit 1)");
  CHECK(two.runtime.del(soon(), two.list, attached()));
}

TEST_CASE("CHECK asks all with the cached result, where the list's version and the list allow it") {
  const TwoPlugins two("0.4.0");
  const auto early = two.runtime.check(soon(), two.list, attached());
  REQUIRE_FALSE(early);
  CHECK_EQ(early.error().code, Code::kFailedPrecondition);
  REQUIRE(two.runtime.add(soon(), two.list, attached()));
  two.scripts.forget_calls();
  CHECK(two.runtime.check(soon(), two.list, attached()));
  CHECK(two.scripts.calls() == Calls{"one CHECK", "two CHECK"});
  for (const char* input : {"one.CHECK", "two.CHECK"}) {
    CHECK_EQ(two.scripts.input(input)["prevResult"]["ips"][0]["address"], "10.0.0.8/24");
  }
  const TwoPlugins old("0.3.1");
  CHECK_FALSE(old.runtime.check(soon(), old.list, attached()));
  const TwoPlugins silent("1.0.0", R"("disableCheck":true,)");
  CHECK(silent.runtime.check(soon(), silent.list, attached()));
  CHECK(silent.scripts.calls().empty());
}

TEST_CASE("GC detaches who is not valid and tells the plugins who is") {
  const TwoPlugins two("1.1.0");
  REQUIRE(two.runtime.add(soon(), two.list, attached("stays")));
  REQUIRE(two.runtime.add(soon(), two.list, attached("goes")));
  two.scripts.forget_calls();
  CHECK(two.runtime.gc(soon(), two.list, {attached("stays")}));
  CHECK(two.scripts.calls() == Calls{"two DEL", "one DEL", "one GC", "two GC"});
  CHECK_EQ(two.scripts.input("one.GC")["cni.dev/valid-attachments"].size(), 1);
  CHECK(two.cached("goes").empty());
  CHECK_FALSE(two.cached("stays").empty());
  const TwoPlugins disabled("1.1.0", R"("disableGC":true,)");
  CHECK(disabled.runtime.gc(soon(), disabled.list, {}));
  CHECK(disabled.scripts.calls().empty());
  const TwoPlugins old("1.0.0");
  CHECK_FALSE(old.runtime.gc(soon(), old.list, {}));
}

TEST_CASE("STATUS takes the first error, and lists that cannot be asked count as ready") {
  const TwoPlugins two("1.1.0");
  CHECK(two.runtime.status(soon(), two.list));
  two.scripts.add("one", R"(echo '{"code":50,"msg":"no uplink"}'; exit 1)");
  const auto status = two.runtime.status(soon(), two.list);
  REQUIRE_FALSE(status);
  CHECK_EQ(status.error().code, Code::kUnavailable);
  CHECK(status.error().message.find("no uplink") != std::string::npos);
  const TwoPlugins old("1.0.0");
  CHECK(old.runtime.status(soon(), old.list));
  CHECK(old.scripts.calls().empty());
}

TEST_CASE("VERSION, and whether a list's plugins speak its version") {
  const TwoPlugins two;
  for (const char* type : {"one", "two"}) {
    two.scripts.add(type, R"(echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}')");
  }
  CHECK_EQ(two.runtime.versions(soon(), "one")->size(), 2);
  CHECK(two.runtime.validate(soon(), two.list));
  const auto newer = two.runtime.validate(soon(), tests::list_of({R"({"type":"one"})"}, "1.1.0"));
  REQUIRE_FALSE(newer);
  CHECK(newer.error().message.find("1.1.0") != std::string::npos);
  CHECK_FALSE(two.runtime.validate(soon(), tests::list_of({R"({"type":"missing"})"})));
  CHECK_FALSE(two.runtime.versions(soon(), "missing"));
}

TEST_CASE("every command has its time") {
  TwoPlugins two("1.1.0");
  REQUIRE(two.runtime.add(soon(), two.list, attached()));
  cni::RuntimeOptions options = two.scripts.options();
  options.add_timeout = std::chrono::milliseconds(300);
  options.del_timeout = std::chrono::milliseconds(300);
  const cni::Runtime hasty(options);
  two.scripts.add("one", "exec sleep 60");
  const auto late = [](const base::Status& status) {
    return !status && status.error().code == Code::kDeadlineExceeded;
  };
  CHECK_EQ(hasty.add(soon(), two.list, attached("c2")).error().code, Code::kDeadlineExceeded);
  CHECK(late(hasty.check(soon(), two.list, attached())));
  CHECK(late(hasty.status(soon(), two.list)));
  CHECK(late(hasty.gc(soon(), two.list, {attached()})));
  CHECK_EQ(hasty.versions(soon(), "one").error().code, Code::kDeadlineExceeded);
  CHECK(late(hasty.del(soon(), two.list, attached())));
}

TEST_CASE("attachments that cannot be reach no plugin") {
  const TwoPlugins two;
  cni::Attachment bad = attached("../c1");
  CHECK_FALSE(two.runtime.add(soon(), two.list, bad));
  CHECK_FALSE(two.runtime.del(soon(), two.list, bad));
  CHECK_FALSE(two.runtime.check(soon(), two.list, bad));
  CHECK(two.scripts.calls().empty());
}

TEST_CASE("a cache that cannot be written fails the ADD") {
  const TwoPlugins two;
  std::ofstream(two.scripts.dir() / "cache") << "a file";
  CHECK_FALSE(two.runtime.add(soon(), two.list, attached()));
}
