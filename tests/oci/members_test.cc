#include "oci/members.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "oci/image_config.h"
#include "oci/manifest.h"

using base::Json;

namespace {

const std::string kDigest = "sha256:" + std::string(64, '1');
constexpr char kConfigType[] = "application/vnd.oci.image.config.v1+json";
constexpr char kLayerType[] = "application/vnd.oci.image.layer.v1.tar+gzip";

Json descriptor(const char* type) {
  return {{"mediaType", type}, {"digest", kDigest}, {"size", 10}};
}
Json manifest() {
  return {{"schemaVersion", 2},
          {"mediaType", oci::kOciManifestType},
          {"config", descriptor(kConfigType)},
          {"layers", Json::array({descriptor(kLayerType)})},
          {"annotations", {{"a", "b"}}}};
}
Json index() {
  Json entry = descriptor("application/vnd.oci.image.manifest.v1+json");
  entry["platform"] = {{"os", "linux"}, {"architecture", "amd64"}, {"variant", "v1"}, {"os.features", Json::array()}};
  entry["annotations"] = {{"a", "b"}};
  return {{"schemaVersion", 2}, {"mediaType", oci::kOciIndexType}, {"manifests", Json::array({entry})}};
}
Json config() {
  return {{"os", "linux"},
          {"architecture", "amd64"},
          {"variant", "v1"},
          {"created", "2020-01-01T00:00:00Z"},
          {"history", Json::array({Json::object()})},
          {"config",
           {{"Env", {"A=b"}},
            {"Entrypoint", {"/run"}},
            {"Cmd", {"x"}},
            {"WorkingDir", "/w"},
            {"User", "1:2"},
            {"StopSignal", "SIGUSR1"},
            {"Volumes", {{"/data", Json::object()}}},
            {"ExposedPorts", {{"80/tcp", Json::object()}}},
            {"Labels", {{"k", "v"}}}}},
          {"rootfs", {{"type", "layers"}, {"diff_ids", {kDigest}}}}};
}

/// What is seen of a document, so that rows can say what a member was taken for.
std::string seen_in_config(const Json& json) {
  const auto parsed = oci::parse_config(base::dump_json(json), "x");
  if (!parsed) return "refused";
  const auto& c = parsed->config;
  const auto list = [](const std::vector<std::string>& items) {
    std::string out;
    for (const auto& item : items) out += "[" + item + "]";
    return out;
  };
  std::string labels;
  for (const auto& [key, value] : c.labels) labels += key + "=" + value;
  return base::str(c.os, "/", c.architecture, " ", list(c.env), " ", list(c.entrypoint), " ", list(c.cmd), " ",
                   c.working_dir, " ", c.user, " ", c.stop_signal, " ", list(c.volumes), " ", labels, " ",
                   parsed->diff_ids.size());
}
std::string seen_in_manifest(const Json& json) {
  const auto parsed = oci::parse_manifest(base::dump_json(json), "", "x");
  if (!parsed) return "refused";
  const auto* m = std::get_if<oci::Manifest>(&*parsed);
  return m == nullptr ? "index" : base::str("manifest ", m->layers.size());
}
std::string seen_in_index(const Json& json) {
  const auto parsed = oci::parse_manifest(base::dump_json(json), "", "x");
  if (!parsed) return "refused";
  const auto* i = std::get_if<oci::Index>(&*parsed);
  if (i == nullptr) return "manifest";
  const auto found = oci::candidates(*i, {"linux", "amd64", "", {}}, "x");
  if (!found) return "none fits";
  const auto& platform = found->front().platform;
  return platform ? oci::to_string(*platform) : "its config tells";
}

struct Row {
  const char* member;  ///< a pointer into the document
  const char* absent;
  const char* null;
  const char* empty;  ///< "" of a text, [] of a list, {} of an object, 0 of a number
  const char* wrong;  ///< of another type
};

void check_rows(const Json& document, std::string (*seen)(const Json&), const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    CAPTURE(row.member);
    const Json::json_pointer pointer(row.member);
    const auto with = [&](Json value) {
      Json out = document;
      out[pointer] = std::move(value);
      return seen(out);
    };
    const Json& usual = document[pointer];
    Json absent = document;
    absent[pointer.parent_pointer()].erase(pointer.back());
    CHECK_EQ(seen(absent), row.absent);
    CHECK_EQ(with(nullptr), row.null);
    CHECK_EQ(with(usual.is_string()   ? Json("")
                  : usual.is_array()  ? Json::array()
                  : usual.is_object() ? Json::object()
                                      : Json(0)),
             row.empty);
    CHECK_EQ(with(usual.is_string() || usual.is_object() ? Json(5) : Json("text")), row.wrong);
  }
}

}  // namespace

TEST_CASE("each member of a config: absent, null, empty, of another type") {
  const char* const same = "linux/amd64 [A=b] [/run] [x] /w 1:2 SIGUSR1 [/data] k=v 1";
  REQUIRE_EQ(seen_in_config(config()), same);
  const char* const no_arch = "linux/ [A=b] [/run] [x] /w 1:2 SIGUSR1 [/data] k=v 1";
  const char* const no_layers = "linux/amd64 [A=b] [/run] [x] /w 1:2 SIGUSR1 [/data] k=v 0";
  const char* const no_run = "linux/amd64         1";
  const char* const no_env = "linux/amd64  [/run] [x] /w 1:2 SIGUSR1 [/data] k=v 1";
  const char* const no_entry = "linux/amd64 [A=b]  [x] /w 1:2 SIGUSR1 [/data] k=v 1";
  const char* const no_cmd = "linux/amd64 [A=b] [/run]  /w 1:2 SIGUSR1 [/data] k=v 1";
  const char* const no_dir = "linux/amd64 [A=b] [/run] [x]  1:2 SIGUSR1 [/data] k=v 1";
  const char* const no_user = "linux/amd64 [A=b] [/run] [x] /w  SIGUSR1 [/data] k=v 1";
  const char* const no_signal = "linux/amd64 [A=b] [/run] [x] /w 1:2  [/data] k=v 1";
  const char* const no_volumes = "linux/amd64 [A=b] [/run] [x] /w 1:2 SIGUSR1  k=v 1";
  const char* const no_labels = "linux/amd64 [A=b] [/run] [x] /w 1:2 SIGUSR1 [/data]  1";
  check_rows(
      config(), seen_in_config,
      {
          {"/os", same, same, same, "refused"},
          {"/architecture", no_arch, no_arch, no_arch, "refused"},
          {"/variant", same, same, same, "refused"},
          {"/created", same, same, same, same},  // nobody here reads these two
          {"/history", same, same, same, same},
          {"/config", no_run, no_run, no_run, "refused"},
          {"/config/Env", no_env, no_env, no_env, "refused"},
          {"/config/Entrypoint", no_entry, no_entry, no_entry,
           "linux/amd64 [A=b] [text] [x] /w 1:2 SIGUSR1 [/data] k=v 1"},
          {"/config/Cmd", no_cmd, no_cmd, no_cmd, "linux/amd64 [A=b] [/run] [text] /w 1:2 SIGUSR1 [/data] k=v 1"},
          {"/config/WorkingDir", no_dir, no_dir, no_dir, "refused"},
          {"/config/User", no_user, no_user, no_user, "refused"},
          {"/config/StopSignal", no_signal, no_signal, no_signal, "refused"},
          {"/config/Volumes", no_volumes, no_volumes, no_volumes, "refused"},
          {"/config/ExposedPorts", same, same, same, same},
          {"/config/Labels", no_labels, no_labels, no_labels, "refused"},
          {"/config/Labels/k", no_labels, "linux/amd64 [A=b] [/run] [x] /w 1:2 SIGUSR1 [/data] k= 1",
           "linux/amd64 [A=b] [/run] [x] /w 1:2 SIGUSR1 [/data] k= 1", "refused"},
          {"/rootfs", no_layers, no_layers, no_layers, "refused"},
          {"/rootfs/type", same, same, same, "refused"},
          {"/rootfs/diff_ids", no_layers, no_layers, no_layers, "refused"},
      });
  Json nulls = config();
  nulls["config"]["Cmd"] = {nullptr, "x"};
  CHECK_EQ(seen_in_config(nulls), "linux/amd64 [A=b] [/run] [][x] /w 1:2 SIGUSR1 [/data] k=v 1");
  nulls["config"]["Cmd"] = {1};
  CHECK_EQ(seen_in_config(nulls), "refused");
  Json other = config();
  other["rootfs"]["type"] = "tree";
  CHECK_EQ(seen_in_config(other), "refused");
}

TEST_CASE("each member of a manifest: absent, null, empty, of another type") {
  check_rows(manifest(), seen_in_manifest,
             {
                 {"/schemaVersion", "manifest 1", "manifest 1", "manifest 1", "refused"},
                 {"/mediaType", "manifest 1", "manifest 1", "manifest 1", "refused"},
                 {"/config", "refused", "refused", "refused", "refused"},
                 {"/config/mediaType", "manifest 1", "manifest 1", "manifest 1", "refused"},
                 {"/config/digest", "refused", "refused", "refused", "refused"},
                 {"/config/size", "refused", "refused", "refused", "refused"},
                 {"/layers", "manifest 0", "manifest 0", "manifest 0", "refused"},
                 {"/layers/0/mediaType", "manifest 1", "manifest 1", "manifest 1", "refused"},
                 {"/layers/0/digest", "refused", "refused", "refused", "refused"},
                 {"/layers/0/size", "refused", "refused", "refused", "refused"},
                 {"/annotations", "manifest 1", "manifest 1", "manifest 1", "manifest 1"},
             });
  for (const char* type : {"application/octet-stream", "application/json", "text/plain"}) {
    Json old = manifest();
    old["config"]["mediaType"] = type;
    CHECK_EQ(seen_in_manifest(old), "manifest 1");
    old["artifactType"] = "application/vnd.example+type";
    CHECK_EQ(seen_in_manifest(old), "refused");
  }
}

TEST_CASE("each member of an index: absent, null, empty, of another type") {
  const char* const fits = "linux/amd64";
  const char* const config_tells = "its config tells";
  check_rows(index(), seen_in_index,
             {
                 {"/schemaVersion", fits, fits, fits, "refused"},
                 {"/mediaType", fits, fits, fits, "refused"},
                 {"/manifests", "refused", "refused", "none fits", "refused"},
                 {"/manifests/0/mediaType", fits, fits, fits, "refused"},
                 {"/manifests/0/digest", "refused", "refused", "refused", "refused"},
                 {"/manifests/0/size", "refused", "refused", "refused", "refused"},
                 {"/manifests/0/annotations", fits, fits, fits, "refused"},
                 {"/manifests/0/platform", config_tells, config_tells, config_tells, "refused"},
                 {"/manifests/0/platform/os", fits, fits, fits, "refused"},
                 {"/manifests/0/platform/architecture", config_tells, config_tells, config_tells, "refused"},
                 {"/manifests/0/platform/variant", fits, fits, fits, "refused"},
                 {"/manifests/0/platform/os.features", fits, fits, fits, "refused"},
             });
  Json windows = index();
  windows["manifests"][0]["platform"] = {{"os", "windows"}};
  CHECK_EQ(seen_in_index(windows), "none fits");
}

TEST_CASE("a type that an answer is given with: what says nothing is left to the document") {
  for (const char* type : {"", "application/json; charset=utf-8", "Text/Plain", "application/octet-stream"}) {
    CHECK_EQ(oci::announced_type(type), "");
  }
  CHECK_EQ(oci::announced_type("application/vnd.oci.image.index.v1+json"), oci::kOciIndexType);
  CHECK_EQ(oci::announced_type("text/html"), "text/html");
  CHECK_EQ(oci::media_type_in(base::dump_json(manifest())), oci::kOciManifestType);
  Json untyped = index();
  untyped.erase("mediaType");
  CHECK_EQ(oci::media_type_in(base::dump_json(untyped)), oci::kOciIndexType);
  CHECK_EQ(oci::media_type_in("{}"), "");
  CHECK_EQ(oci::media_type_in("<html>"), "");
}
