#include "driver/options/config.h"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "base/json.h"
#include "driver/values/words.h"

using base::Json;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

/// The message of decoding {"image": "x", key: value}; "" if it decodes.
std::string task_error(const std::string& key, Json value) {
  Json object = {{"image", "busybox"}};
  object[key] = std::move(value);
  const auto decoded = driver::decode_task_options(object);
  if (decoded) return "";
  CHECK(decoded.error().code == base::Code::kInvalidArgument);
  return decoded.error().message;
}

void check_contains(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    CAPTURE(text);
    CAPTURE(word);
    CHECK(text.find(word) != std::string::npos);
  }
}

Json bind_mount(Json more = Json::object()) {
  Json mount = {{"type", "bind"}, {"source", "/a"}, {"target", "/b"}, {"options", {"rbind", "ro"}}};
  mount.update(more);
  return Json::array({mount});
}

}  // namespace

TEST_CASE("missing and nil mean the default") {
  Json all_nil = {{"image", "busybox"}};
  const driver::Schema task = driver::task_schema();
  for (const auto& [name, schema] : task.children) {
    if (name != "image") all_nil[name] = nullptr;
  }
  for (const Json& object : {Json{{"image", "busybox"}}, all_nil}) {
    const auto options = driver::decode_task_options(object);
    REQUIRE(options);
    CHECK(options->image_pull_timeout == 5min);
    CHECK(options->seccomp);
    CHECK_FALSE(options->privileged);
    CHECK_FALSE(options->entrypoint);
    CHECK(options->mounts.empty());
    CHECK(options->auth.empty());
  }
  const auto plugin = driver::decode_plugin_options(Json::object());
  REQUIRE(plugin);
  CHECK(plugin->enabled);
  CHECK_FALSE(plugin->allow_privileged.has_value());
  CHECK_FALSE(plugin->stats_interval);
  CHECK(plugin->data_dir == "/var/lib/containerd-driver");
}

TEST_CASE("what the agent sends for the Go driver's agent file") {
  const auto options = driver::decode_plugin_options({{"enabled", true},
                                                      {"containerd_runtime", "io.containerd.runc.v2"},
                                                      {"stats_interval", "5s"},
                                                      {"allow_privileged", false},
                                                      {"auth", {{"username", "u"}, {"password", "p"}}}});
  REQUIRE(options);
  CHECK(options->stats_interval == 5s);
  CHECK(options->allow_privileged == false);
  CHECK(options->auth.username == "u");
  CHECK(options->auth.password == "p");
}

TEST_CASE("what the agent sends for a job") {
  const auto options = driver::decode_task_options({{"image", "localhost:5443/small:1"},
                                                    {"args", {"-c", "echo up"}},
                                                    {"auth", nullptr},
                                                    {"cap_add", {"CAP_NET_ADMIN"}},
                                                    {"command", "/bin/sh"},
                                                    {"image_pull_timeout", "90s"},
                                                    {"mounts", bind_mount()},
                                                    {"pids_limit", 100},
                                                    {"sysctl", {{{"net.core.somaxconn", "1024"}}}}});
  REQUIRE(options);
  CHECK(options->args == std::vector<std::string>{"-c", "echo up"});
  CHECK(options->image_pull_timeout == 90s);
  CHECK(options->mounts.at(0).options == std::vector<std::string>{"rbind", "ro"});
  CHECK(options->pids_limit == 100);
  CHECK(options->sysctl.at("net.core.somaxconn") == "1024");
}

TEST_CASE("what Go programs send: zero values, blocks as lists, numbers and booleans as text") {
  const auto options = driver::decode_task_options({{"image", "busybox"},
                                                    {"image_pull_timeout", ""},
                                                    {"auth", {{"username", ""}, {"password", ""}}},
                                                    {"privileged", "true"},
                                                    {"pids_limit", "12"},
                                                    {"sysctl", {{{"net.a", "1"}, {"net.b", "1"}}, {{"net.b", "2"}}}},
                                                    {"mounts", bind_mount()[0]}});
  REQUIRE(options);
  CHECK(options->image_pull_timeout == 5min);
  CHECK(options->auth.empty());
  CHECK(options->privileged);
  CHECK(options->pids_limit == 12);
  CHECK(options->sysctl.at("net.b") == "2");  // later ones win
  CHECK(options->mounts.size() == 1);
  const auto merged =
      driver::decode_task_options({{"image", "busybox"}, {"auth", {{{"username", "u"}}, {{"password", "p"}}}}});
  REQUIRE(merged);
  CHECK(merged->auth.username == "u");
  CHECK(driver::decode_task_options({{"image", "busybox"}, {"pids_limit", 12.0}})->pids_limit == 12);
}

TEST_CASE("every mistake names the option, the value and what is allowed") {
  check_contains(task_error("image", ""), {"image is empty", "redis:7"});
  check_contains(task_error("image", nullptr), {"image is missing"});
  check_contains(task_error("image", std::string("a\nb")), {"image", "control character"});
  check_contains(task_error("image", std::string(5000, 'a')), {"image", "5000", "4095"});
  check_contains(task_error("image", 7), {"image = 7", "a string"});
  check_contains(task_error("cap_add", std::string(60, 'a') + "äöüäöüäöüäöüäöüäöü"), {"cap_add", "…"});
  check_contains(task_error("image_pull_timeout", "soon"), {"image_pull_timeout", "soon", "5m"});
  check_contains(task_error("image_pull_timeout", "-5m"), {"image_pull_timeout", "-5m", "negative"});
  check_contains(task_error("image_pull_timeout", "0s"), {"image_pull_timeout", "0s", "1ms or more"});
  check_contains(task_error("image_pull_timeout", 5), {"image_pull_timeout = 5", "duration"});
  check_contains(task_error("args", {"a", 1}), {"args[1] = 1", "a string"});
  check_contains(task_error("args", {std::string("a\0b", 3)}), {"args[0]", "NUL"});
  check_contains(task_error("args", {std::string(200'000, 'a')}), {"args[0]", "200000", "131071"});
  check_contains(task_error("cwd", "srv"), {"cwd", "srv", "absolute"});
  check_contains(task_error("hostname", "a b"), {"hostname", "a b"});
  check_contains(task_error("hostname", std::string(65, 'a')), {"hostname", "64"});
  check_contains(task_error("privileged", "yes"), {"privileged", "yes", "true or false"});
  check_contains(task_error("pids_limit", -2), {"pids_limit = -2", "-1 or more"});
  check_contains(task_error("pids_limit", 1e12), {"pids_limit", "or less"});
  check_contains(task_error("pids_limit", 1.5), {"pids_limit = 1.5", "whole number"});
  check_contains(task_error("pids_limit", "many"), {"pids_limit", "many", "whole number"});
  check_contains(task_error("sysctl", "x"), {"sysctl", "block"});
}

TEST_CASE("all labels of a task have room in its record") {
  const auto decode = [](std::size_t count, const std::string& name, const std::string& value) {
    base::Json labels = base::Json::object();
    for (std::size_t i = 0; i < count; ++i) labels[name + std::to_string(i)] = value;
    const auto options = driver::decode_task_options({{"image", "redis"}, {"labels", labels}});
    return options ? "" : options.error().message;
  };
  CHECK(decode(60, "l", std::string(4096, 'x')) == "");
  const std::string large = decode(300, "l", std::string(4096, 'x'));  // 1.2 MB
  CHECK(large.find("labels have 1231691 bytes in all") != std::string::npos);
  CHECK(large.find("the limit is 262144") != std::string::npos);
  CHECK(decode(4000, std::string(100, 'n'), "").find("the limit is 262144") != std::string::npos);
  // Six bytes each in a record.
  CHECK(decode(60, "l", std::string(4096, '\x01')).find("the limit is 262144") != std::string::npos);
  CHECK(decode(1, "a\nb", "").find("control character") != std::string::npos);
}

TEST_CASE("which images a node takes") {
  const auto refusal = [](const Json& object) {
    const auto options = driver::decode_plugin_options(object);
    return options ? "" : options.error().message;
  };
  const auto options = driver::decode_plugin_options(
      {{"allowed_registries", {"docker.io/library", "oci"}},
       {"require_digest", true},
       {"image_verifier", {{"bin_dir", "/opt/v"}, {"max_verifiers", 3}, {"per_verifier_timeout", "1m"}}}});
  REQUIRE(options.has_value());
  CHECK_EQ(options->allowed_registries->size(), 2);
  CHECK(options->require_digest);
  CHECK_EQ(options->image_verifier.bin_dir, "/opt/v");
  CHECK_EQ(options->image_verifier.max_verifiers, 3);
  CHECK(options->image_verifier.per_verifier_timeout == std::chrono::minutes(1));

  CHECK(driver::decode_plugin_options(Json::object())->image_verifier.bin_dir.empty());
  CHECK(refusal({{"allowed_registries", {"https://docker.io"}}}).find("allowed_registries") != std::string::npos);
  CHECK(refusal({{"allowed_registries", Json::array()}}).find("allowed_registries is empty") != std::string::npos);
  CHECK(refusal({{"image_verifier", {{"max_verifiers", 3}}}}).find("image_verifier.bin_dir is missing") !=
        std::string::npos);
  for (const Json& block :
       {Json{{"bin_dir", "relative"}}, Json{{"bin_dir", "/v"}, {"max_verifiers", 0}},
        Json{{"bin_dir", "/v"}, {"max_verifiers", 101}}, Json{{"bin_dir", "/v"}, {"per_verifier_timeout", "1ms"}}}) {
    CHECK(refusal({{"image_verifier", block}}).find("image_verifier.") != std::string::npos);
  }
}

TEST_CASE("mistakes in mounts name which mount") {
  const auto error = [](Json more) { return task_error("mounts", bind_mount(std::move(more))); };
  CHECK(error(Json::object()).empty());
  check_contains(error({{"type", "nfs"}}), {"mounts[0].type", "nfs", "bind, volume or tmpfs"});
  check_contains(error({{"target", nullptr}}), {"mounts[0].target is missing"});
  check_contains(error({{"target", "b"}}), {"mounts[0].target", "absolute"});
  check_contains(error({{"source", ""}}), {"mounts[0].source is missing"});
  check_contains(error({{"source", "/a\n"}}), {"mounts[0].source", "control character"});
  check_contains(error({{"options", nullptr}}), {"mounts[0].options", "Options cannot be empty for mount type: bind"});
  check_contains(error({{"options", {"rbind", "reallyfast"}}}), {"mounts[0].options[1]", "reallyfast"});
  check_contains(error({{"options", {"size=1m"}}}), {"mounts[0].options", "size=1m", "tmpfs"});
  check_contains(error({{"type", "tmpfs"}}), {"mounts[0].options", "rbind", "tmpfs"});
  check_contains(error({{"options", {"ro,size=1m"}}}), {"ro,size=1m"});
  CHECK(error({{"type", "tmpfs"}, {"source", ""}, {"options", {"size=64m", "mode=1777"}}}).empty());
  CHECK(error({{"type", "tmpfs"}, {"source", ""}, {"options", nullptr}}).empty());
  CHECK(error({{"type", "volume"}}).empty());
  check_contains(task_error("mounts", {"x"}), {"mounts", "block"});
}

TEST_CASE("a password is in no message") {
  for (const Json& password : {Json("hunter2\0x"s), Json(4711), Json(std::string(200'000, 'p'))}) {
    const std::string message = task_error("auth", {{"username", "u"}, {"password", password}});
    CHECK(message.find("auth.password") != std::string::npos);
    CHECK(message.find("hunter2") == std::string::npos);
    CHECK(message.find("4711") == std::string::npos);
    CHECK(message.find("ppp") == std::string::npos);
  }
  CHECK(task_error("auth", "hunter2").find("hunter2") == std::string::npos);
  check_contains(task_error("auth", {{"username", "u"}, {"password", ""}}), {"auth.password is missing"});
}

TEST_CASE("durations as Go writes them") {
  const std::vector<std::pair<const char*, std::chrono::milliseconds>> good = {{"0", 0ms},
                                                                               {"5s", 5s},
                                                                               {"300ms", 300ms},
                                                                               {"1h30m", 90min},
                                                                               {"1.5h", 90min},
                                                                               {"+5s", 5s},
                                                                               {"2h45m30.5s", 9930500ms},
                                                                               {"1500us", 1ms},
                                                                               {"1000000ns", 1ms},
                                                                               {".5s", 500ms},
                                                                               {"1.s", 1s},
                                                                               {"100\u00b5s", 0ms},
                                                                               {"2m0s", 2min}};
  for (const auto& [text, want] : good) {
    const auto& shown = text;  // clang 14 cannot capture a binding
    CAPTURE(shown);
    const auto parsed = driver::parse_duration(text);
    REQUIRE(parsed);
    CHECK(parsed->count() == want.count());
  }
  for (const char* text : {"", "5", "s", "5 s", "5x", "-5s", "5s5", ".s", "1..5s", "99999999999h", "5S", "five", "+"}) {
    CAPTURE(text);
    CHECK_FALSE(driver::parse_duration(text));
  }
}

TEST_CASE("the schema holds every option, with types that hclspec knows") {
  const driver::Schema schema = driver::task_schema();
  CHECK(schema.kind == driver::Schema::Kind::kObject);
  const driver::Schema& image = schema.children.at("image");
  CHECK(image.kind == driver::Schema::Kind::kAttr);
  CHECK(image.required);
  const driver::Schema& timeout = schema.children.at("image_pull_timeout");
  CHECK(timeout.kind == driver::Schema::Kind::kDefault);
  CHECK(timeout.literal == "\"5m\"");
  CHECK(timeout.nested.at(0).type == "string");
  const driver::Schema& mounts = schema.children.at("mounts");
  CHECK(mounts.kind == driver::Schema::Kind::kBlockList);
  CHECK(mounts.nested.at(0).children.at("target").required);
  const driver::Schema plugin = driver::plugin_schema();
  const driver::Schema& auth = plugin.children.at("auth");
  CHECK(auth.kind == driver::Schema::Kind::kBlock);
  CHECK_FALSE(auth.required);
  CHECK(schema.children.at("sysctl").type == "list(map(string))");
}

TEST_CASE("the driver's own network: values, defaults and refusals") {
  const auto options = driver::decode_plugin_options(
      {{"default_network", "bridge"},
       {"bridge_network", {{"name", "br-1"}, {"subnet", "10.88.0.0/16"}, {"mtu", 1400}, {"dns", {"10.0.0.2"}}}},
       {"cni_path", "/opt/a:/opt/b"}});
  REQUIRE(options);
  CHECK(options->default_network == driver::DefaultNetwork::kBridge);
  CHECK_EQ(options->bridge_network.name, "br-1");
  CHECK_EQ(options->bridge_network.mtu, 1400);
  CHECK_EQ(options->bridge_network.subnet_v6, driver::BridgeNetworkOptions().subnet_v6);
  CHECK(driver::decode_plugin_options(Json::object())->default_network == driver::DefaultNetwork::kNone);
  const Json bad[] = {{{"name", "sixteen-bytes-ab"}}, {{"name", "a/b"}},           {{"name", "-a"}},
                      {{"subnet", "10.88.0.0"}},      {{"subnet", "10.88.0.0/30"}}, {{"subnet", "fd00::/64"}},
                      {{"subnet", "10.0.0.0/4"}},     {{"subnet_v6", "10.0.0.0/8"}}, {{"subnet_v6", "fd00::/126"}},
                      {{"mtu", -1}},                  {{"mtu", 70000}},             {{"dns", {"ns.example"}}}};
  for (const Json& block : bad) {
    const auto refused = driver::decode_plugin_options({{"bridge_network", block}});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("bridge_network.") != std::string::npos);
  }
  CHECK_FALSE(driver::decode_plugin_options({{"default_network", "wibble"}}));
  CHECK_FALSE(driver::decode_plugin_options({{"cni_path", "relative"}}));
}

TEST_CASE("docs/options.md is what the table says") {
  std::ifstream file(TEST_DATA_DIR "/../../docs/options.md");
  std::ostringstream text;
  text << file.rdbuf();
  const bool fresh = text.str() == driver::options_markdown();
  CHECK_MESSAGE(fresh, "stale: run `containerd-driver schema --markdown > docs/options.md`");
}

TEST_CASE("every option has a text and an example") {
  const Json all = driver::options_json();
  for (const char* scope : {"plugin", "task"}) {
    for (const Json& option : all.at(scope)) {
      CAPTURE(base::dump_json(option));
      CHECK_FALSE(option["text"].get<std::string>().empty());
      CHECK_FALSE(option["example"].get<std::string>().empty());
    }
  }
}
