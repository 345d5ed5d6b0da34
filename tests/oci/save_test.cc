// clang-format off
#include "oci/save.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "base/json.h"

namespace {

oci::SavedImage image(const std::string& reference, const std::string& content) {
  oci::SavedImage out{{reference, std::string(oci::kOciManifestType), oci::Digest::of_bytes(content), 7,
                       oci::Digest::of_bytes("index"), "amd64", 1},
                      {std::string(oci::kOciManifestType), {"config", oci::Digest::of_bytes("c"), 3, {}, false}, {}}};
  out.manifest.layers.push_back({"layer", oci::Digest::of_bytes("l"), 5, {}, false});
  return out;
}

}  // namespace

TEST_CASE("the documents of an archive") {
  const std::vector<oci::SavedImage> images = {image("docker.io/library/a:1", "x"), image("example.com/b:2", "x"),
                                               image("example.com/b@" + oci::Digest::of_bytes("x").text(), "x"),
                                               image("docker.io/library/c:1", "y")};
  const auto index = *base::parse_json(oci::saved_index(images), "index.json");
  REQUIRE(index["manifests"].size() == 4);
  CHECK(index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"] == "example.com/b:2");
  CHECK(index["manifests"][1]["digest"] == oci::Digest::of_bytes("x").text());
  const auto docker = *base::parse_json(oci::saved_docker_manifest(images), "manifest.json");
  REQUIRE(docker.size() == 2);
  CHECK(docker[0]["RepoTags"] == base::Json{"docker.io/library/a:1", "example.com/b:2"});
  CHECK(docker[0]["Config"] == "blobs/sha256/" + std::string(oci::Digest::of_bytes("c").hex()));
  CHECK(docker[0]["Layers"].size() == 1);
  CHECK(docker[1]["RepoTags"] == base::Json{"docker.io/library/c:1"});
}
