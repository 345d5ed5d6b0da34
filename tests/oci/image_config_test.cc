#include "oci/image_config.h"

#include <doctest/doctest.h>

#include "base/json.h"

using base::Code;
using base::Json;

namespace {

const std::string kDiffId = "sha256:" + std::string(64, '2');

Json document() {
  return {{"os", "linux"},
          {"architecture", "amd64"},
          {"config",
           {{"Env", {"A=b"}},
            {"Entrypoint", {"/run"}},
            {"Cmd", nullptr},
            {"WorkingDir", "/w"},
            {"User", "1:2"},
            {"StopSignal", "SIGUSR1"},
            {"Volumes", {{"/data", Json::object()}}},
            {"Labels", {{"k", "v"}}}}},
          {"rootfs", {{"type", "layers"}, {"diff_ids", {kDiffId}}}}};
}
auto parse(const Json& json) {
  return oci::parse_config(base::dump_json(json), "config x");
}

}  // namespace

TEST_CASE("a config is read") {
  const auto parsed = parse(document());
  REQUIRE(parsed.has_value());
  const auto& config = parsed->config;
  CHECK_EQ(config.env, std::vector<std::string>{"A=b"});
  CHECK_EQ(config.entrypoint, std::vector<std::string>{"/run"});
  CHECK(config.cmd.empty());
  CHECK_EQ(config.working_dir, "/w");
  CHECK_EQ(config.user, "1:2");
  CHECK_EQ(config.stop_signal, "SIGUSR1");
  CHECK_EQ(config.volumes, std::vector<std::string>{"/data"});
  CHECK_EQ(config.labels.at("k"), "v");
  CHECK_EQ(parsed->diff_ids.size(), 1);
  Json bare = document();
  bare["config"] = nullptr;
  CHECK(parse(bare).has_value());
}

TEST_CASE("a config that is malformed or past a limit is refused") {
  const auto changed = [](const char* pointer, Json value) {
    Json out = document();
    out[Json::json_pointer(pointer)] = std::move(value);
    return out;
  };
  Json too_many = Json::array();
  for (std::size_t i = 0; i <= oci::kLayersMax; ++i) too_many.push_back(kDiffId);
  const Json cases[] = {
      changed("/config/Env", "A=b"),
      changed("/config/Env", {1}),
      changed("/config/User", 0),
      changed("/config/WorkingDir", std::string("/a\0b", 4)),
      changed("/config/Entrypoint", {std::string("a\0", 2)}),
      changed("/config/Volumes", Json::array()),
      changed("/config/Labels/k", 1),
      changed("/rootfs/type", "other"),
      changed("/rootfs/diff_ids", {"sha256:xyz"}),
      changed("/rootfs/diff_ids", too_many),
      Json("text"),
  };
  for (const Json& json : cases) {
    CAPTURE(base::dump_json(json).substr(0, 400));
    const auto parsed = parse(json);
    REQUIRE_FALSE(parsed.has_value());
    CHECK_EQ(parsed.error().code, Code::kInvalidArgument);
  }
}
