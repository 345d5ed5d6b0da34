#include "oci/manifest.h"

#include <doctest/doctest.h>

#include <variant>

#include "base/json.h"

using base::Code;
using base::Json;

namespace {

const std::string kDigest = "sha256:" + std::string(64, '1');
constexpr char kConfigType[] = "application/vnd.oci.image.config.v1+json";
constexpr char kLayerType[] = "application/vnd.oci.image.layer.v1.tar+gzip";

Json descriptor(const std::string& type, std::int64_t size = 10) {
  return {{"mediaType", type}, {"digest", kDigest}, {"size", size}};
}
Json manifest() {
  return {{"schemaVersion", 2},
          {"mediaType", oci::kOciManifestType},
          {"config", descriptor(kConfigType)},
          {"layers", Json::array({descriptor(kLayerType)})}};
}
Json index(const Json& entries) {
  return {{"schemaVersion", 2}, {"mediaType", oci::kOciIndexType}, {"manifests", entries}};
}
Json entry(const std::string& os, const std::string& architecture, std::int64_t size) {
  Json out = descriptor(std::string(oci::kOciManifestType), size);
  out["platform"] = {{"os", os}, {"architecture", architecture}};
  return out;
}
auto parse(const Json& document, std::string_view type = "") {
  return oci::parse_manifest(base::dump_json(document), type, "manifest x");
}
Json with(Json document, const char* key, Json value) {
  document[key] = std::move(value);
  return document;
}
Json without(Json document, const char* key) {
  document.erase(key);
  return document;
}

}  // namespace

TEST_CASE("a manifest and an index are read, with or without their type") {
  const auto parsed = parse(manifest(), oci::kOciManifestType);
  REQUIRE(parsed.has_value());
  const auto& m = std::get<oci::Manifest>(*parsed);
  CHECK_EQ(m.layers.size(), 1);
  CHECK_EQ(m.config.size, 10);
  CHECK(std::holds_alternative<oci::Manifest>(*parse(without(manifest(), "mediaType"))));
  CHECK(std::holds_alternative<oci::Index>(*parse(index(Json::array()))));
  CHECK(std::holds_alternative<oci::Index>(*parse(without(index(Json::array()), "mediaType"))));
  Json docker = manifest();
  docker["mediaType"] = oci::kDockerManifestType;
  docker["config"]["mediaType"] = "application/octet-stream";  // very old pushes
  docker["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip";
  CHECK(parse(docker, oci::kDockerManifestType).has_value());
}

TEST_CASE("documents that are ambiguous, malformed or no image are refused") {
  struct Case {
    const char* name;
    Json document;
    std::string_view type;
    Code code;
  };
  Json bad_digest = manifest();
  bad_digest["layers"][0]["digest"] = "sha256:../../x";
  const Case cases[] = {
      {"manifest with manifests", with(manifest(), "manifests", Json::array()), "", Code::kInvalidArgument},
      {"manifest with fsLayers", with(manifest(), "fsLayers", Json::array()), "", Code::kInvalidArgument},
      {"index with layers", with(index(Json::array()), "layers", Json::array()), "", Code::kInvalidArgument},
      {"index with config", with(index(Json::array()), "config", Json::object()), "", Code::kInvalidArgument},
      {"untyped with both", with(without(manifest(), "mediaType"), "manifests", Json::array()), "",
       Code::kInvalidArgument},
      {"announced as another", manifest(), oci::kOciIndexType, Code::kInvalidArgument},
      {"schema 1 by version", with(manifest(), "schemaVersion", 1), "", Code::kFailedPrecondition},
      {"schema 1 by type", without(manifest(), "mediaType"),
       "application/vnd.docker.distribution.manifest.v1+prettyjws", Code::kFailedPrecondition},
      {"schema 3", with(manifest(), "schemaVersion", 3), "", Code::kInvalidArgument},
      {"unknown type", without(manifest(), "mediaType"), "text/html", Code::kFailedPrecondition},
      {"no config", without(manifest(), "config"), "", Code::kInvalidArgument},
      {"artifact", with(manifest(), "config", descriptor("application/vnd.oci.empty.v1+json")), "",
       Code::kFailedPrecondition},
      {"encrypted layer", with(manifest(), "layers", Json::array({descriptor(std::string(kLayerType) + "+encrypted")})),
       "", Code::kFailedPrecondition},
      {"attestation layer", with(manifest(), "layers", Json::array({descriptor("application/vnd.in-toto+json")})), "",
       Code::kFailedPrecondition},
      {"bad digest", bad_digest, "", Code::kInvalidArgument},
      {"zero size", with(manifest(), "config", descriptor(kConfigType, 0)), "", Code::kInvalidArgument},
      {"negative size", with(manifest(), "config", descriptor(kConfigType, -1)), "", Code::kInvalidArgument},
      {"huge config", with(manifest(), "config", descriptor(kConfigType, (4 << 20) + 1)), "", Code::kInvalidArgument},
      {"not an object", Json::array(), "", Code::kInvalidArgument},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const auto parsed = parse(c.document, c.type);
    REQUIRE_FALSE(parsed.has_value());
    CHECK_EQ(parsed.error().code, c.code);
    CHECK_NE(parsed.error().message.find("manifest x"), std::string::npos);
  }
  CHECK_EQ(oci::parse_manifest(R"({"schemaVersion":2,"schemaVersion":2})", "", "x").error().code,
           Code::kInvalidArgument);
  CHECK_EQ(oci::parse_manifest("{", "", "x").error().code, Code::kInvalidArgument);
  CHECK_EQ(oci::parse_manifest(std::string(oci::kManifestBytesMax + 1, ' '), "", "x").error().code,
           Code::kInvalidArgument);
}

TEST_CASE("layers are counted") {
  Json many = Json::array();
  for (std::size_t i = 0; i < oci::kLayersMax; ++i) many.push_back(descriptor(kLayerType));
  CHECK(parse(with(manifest(), "layers", many)).has_value());
  many.push_back(descriptor(kLayerType));
  CHECK_EQ(parse(with(manifest(), "layers", many)).error().code, Code::kInvalidArgument);
}

TEST_CASE("candidates of an index: best fit first, attestations and other kinds never") {
  const oci::Platform host{"linux", "arm64", "", {}};
  Json attestation = entry("unknown", "unknown", 7);
  Json annotated = entry("linux", "arm64", 8);
  annotated["annotations"] = {{"vnd.docker.reference.type", "attestation-manifest"}};
  Json sha512 = entry("linux", "arm64", 9);
  sha512["digest"] = "sha512:" + std::string(128, '1');
  const Json entries =
      Json::array({descriptor(std::string(oci::kOciManifestType), 1), entry("linux", "arm", 2), attestation, annotated,
                   sha512, descriptor("application/x-unknown", 10), entry("linux", "arm64", 3),
                   entry("linux", "amd64", 4), entry("linux", "arm64", 5)});
  const auto parsed = parse(index(entries));
  REQUIRE(parsed.has_value());
  const auto found = oci::candidates(std::get<oci::Index>(*parsed), host, "x");
  REQUIRE(found.has_value());
  std::vector<std::uint64_t> sizes;
  for (const auto& d : *found) sizes.push_back(d.size);
  CHECK_EQ(sizes, std::vector<std::uint64_t>{3, 5, 2, 1});
}

TEST_CASE("an index without our platform says what it offers") {
  const auto parsed = parse(index(Json::array({entry("windows", "amd64", 1), entry("linux", "s390x", 2)})));
  const auto found = oci::candidates(std::get<oci::Index>(*parsed), {"linux", "amd64", "", {}}, "redis:7");
  REQUIRE_FALSE(found.has_value());
  CHECK_EQ(found.error().code, Code::kFailedPrecondition);
  CHECK_EQ(found.error().message, "redis:7 has no image for linux/amd64; it offers linux/s390x, windows/amd64");
}

TEST_CASE("content types lose their parameters") {
  CHECK_EQ(oci::strip_media_parameters("Application/JSON; charset=utf-8"), "application/json");
  CHECK_EQ(oci::strip_media_parameters(""), "");
}
