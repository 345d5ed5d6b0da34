// Options of Docker's and Podman's driver: what asks for nothing, what a job can do without, what would run
// differently.
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "driver/options/config.h"

using base::Json;
using driver::decode_task_options;

namespace {

Json with(const Json& more) {
  Json object = {{"image", "redis:7"}};
  object.update(more);
  return object;
}

std::string error_of(const Json& more) {
  const auto decoded = decode_task_options(with(more));
  return decoded ? "" : decoded.error().message;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("every option may be written with the value that asks for nothing") {
  const Json options = driver::options_json();
  for (const Json& option : options["task"]) {
    const std::string name = option["name"];
    if (option.value("required", false)) continue;
    CAPTURE(name);
    const std::string type = option.value("hcl_type", "");
    std::vector<Json> nothing;
    if (type == "string") nothing = {""};
    if (type == "bool") nothing = {false};
    if (type == "number") nothing = {0};
    if (type == "list(string)") nothing = {Json::array(), ""};
    if (type == "list(map(string))") nothing = {Json::array(), Json::object(), Json::array({Json::object()})};
    if (type == "any") nothing = {"", Json::array()};
    if (type.empty()) nothing = {Json::array(), Json::object(), Json::array({Json::object()})};
    for (const Json& value : nothing) {
      CAPTURE(value);
      const auto decoded = decode_task_options(with({{name, value}}));
      CHECK_MESSAGE(decoded.has_value(), (decoded ? "" : decoded.error().message));
      if (decoded) CHECK(decoded->without_effect.empty());
    }
  }
}

TEST_CASE("what a job can do without is taken, and noted") {
  struct Row {
    Json option;
    Strings noted;
  };
  for (const Row& row : {
           Row{{{"logging", {{"type", "json-file"}, {"config", {{{"max-size", "10m"}}}}}}}, {"logging"}},
           Row{{{"logging", Json::array({{{"driver", "nomad"}}})}}, {"logging"}},
           Row{{{"logging", {{"config", {{"max-file", "2"}}}}}}, {"logging"}},
           Row{{{"healthchecks", {{"disable", true}}}}, {"healthchecks"}},
           Row{{{"healthchecks", Json::array({{{"disable", false}}})}}, {}},
           Row{{{"container_exists_attempts", 10}}, {"container_exists_attempts"}},
           Row{{{"auth", {{"username", "u"}, {"password", "p"}, {"email", "a@b.c"}}}}, {"auth.email"}},
           Row{{{"auth", {{"config", "/root/.docker/config.json"}}}}, {"auth.config"}},
           Row{{{"auth", {{"tls_verify", true}}}}, {"auth.tls_verify"}},
           Row{{{"auth", {{"tls_verify", false}}}}, {"auth.tls_verify"}},
           Row{{{"socket", "default"}, {"init_path", "/usr/bin/catatonit"}}, {"init_path", "socket"}},
           Row{{{"windows_allow_insecure_container_admin", true}}, {"windows_allow_insecure_container_admin"}},
           Row{{{"mount",
                 {{"type", "volume"},
                  {"source", "local/a"},
                  {"target", "/a"},
                  {"volume_options", {{"no_copy", true}}}}}},
               {"mount[0].volume_options"}},
       }) {
    CAPTURE(row.option);
    const auto decoded = decode_task_options(with(row.option));
    REQUIRE_MESSAGE(decoded.has_value(), (decoded ? "" : decoded.error().message));
    CHECK_EQ(decoded->without_effect, row.noted);
  }
}

TEST_CASE("what would run differently is refused") {
  for (const auto& [option, words] : std::vector<std::pair<Json, std::string>>{
           {{{"logging", {{"type", "gelf"}}}}, "logging.type = \"gelf\" is not supported"},
           {{{"logging", {{"driver", "journald"}}}}, "logging.driver"},
           {{{"logging", Json::array({{{"type", "none"}}})}}, "logging.type"},
           {{{"isolation", "hyperv"}}, "isolation is not supported"},
           {{{"interactive", true}}, "nomad alloc exec"},
           {{{"publish_all_ports", true}}, "group's `network` block"},
           {{{"volume_driver", "rexray"}}, "volume_driver"},
           {{{"devices", {"nvidia.com/gpu=all"}}}, "CDI"},
           {{{"devices", {"vendor.example/class=0"}}}, "CDI"},
           {{{"devices", {"dev/fuse"}}}, "absolute path"},
           {{{"mount", {{"type", "volume"}, {"source", "data"}, {"target", "/a"}}}}, "volume block"},
           {{{"mount",
              {{"type", "volume"},
               {"source", "local/a"},
               {"target", "/a"},
               {"volume_options", {{"driver_config", {{"name", "nfs"}}}}}}}},
            "driver_config"},
       }) {
    const Json& given = option;  // clang 14 cannot capture a binding
    CAPTURE(given);
    const std::string error = error_of(option);
    CHECK_MESSAGE(error.find(words) != std::string::npos, error);
  }
}

TEST_CASE("all mistakes of a job are told at once") {
  const std::string error = error_of({{"network_mode", "weave"},
                                      {"interactive", true},
                                      {"cap_add", {"NET_ADMIN"}},
                                      {"pids_limit", -7},
                                      {"volumes", {"a", "b"}},
                                      {"devices", {"x", "nvidia.com/gpu=0"}},
                                      {"ulimit", {{"nosuch", "1"}}},
                                      {"sysctl", {{"vm.swappiness", "1"}}}});
  for (const std::string part : {"network_mode", "interactive", "pids_limit", "volumes[0]", "volumes[1]", "devices[0]",
                                 "devices[1]", "nosuch", "vm.swappiness", "; also: "}) {
    CHECK_MESSAGE(error.find(part) != std::string::npos, part);
  }
  CHECK(error.find("cap_add") == std::string::npos);
  CHECK(error_of({{"auth", {{"username", 1}, {"password", Json::array()}}}}).find("(secret)") != std::string::npos);
}

TEST_CASE("an entry point that is empty clears the image's, one that is \"\" is not given") {
  CHECK_EQ(decode_task_options(with({{"entrypoint", Json::array()}}))->entrypoint, Strings{});
  CHECK_EQ(decode_task_options(with({{"entrypoint", {""}}, {"command", "x"}}))->entrypoint, Strings{});
  CHECK_FALSE(decode_task_options(with({{"entrypoint", ""}}))->entrypoint.has_value());
  CHECK_EQ(decode_task_options(with({{"entrypoint", {"", "a"}}}))->entrypoint, Strings{"", "a"});
}
