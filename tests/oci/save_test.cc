// clang-format off
#include "oci/save.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "base/json.h"

namespace {

std::string field(const std::string& header, std::size_t at, std::size_t bytes) {
  const std::string text = header.substr(at, bytes);
  return text.substr(0, text.find('\0'));
}

oci::SavedImage image(const std::string& reference, const std::string& content) {
  oci::SavedImage out{{reference, std::string(oci::kOciManifestType), oci::Digest::of_bytes(content), 7,
                       oci::Digest::of_bytes("index"), "amd64", 1},
                      {std::string(oci::kOciManifestType), {"config", oci::Digest::of_bytes("c"), 3, {}, false}, {}}};
  out.manifest.layers.push_back({"layer", oci::Digest::of_bytes("l"), 5, {}, false});
  return out;
}

}  // namespace

TEST_CASE("the header of a file in a tar") {
  const std::string header = oci::tar_header("blobs/sha256/ab", 1234);
  REQUIRE(header.size() == 512);
  CHECK(field(header, 0, 100) == "blobs/sha256/ab");
  CHECK(field(header, 124, 12) == "00000002322");
  CHECK(header[156] == '0');
  CHECK(header.substr(257, 8) == std::string("ustar\00000", 8));
  unsigned sum = 0;
  for (std::size_t i = 0; i < header.size(); ++i) {
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
  }
  CHECK(std::stoul(field(header, 148, 8), nullptr, 8) == sum);
  CHECK(oci::tar_header("x", 077777777777).size() == 512);
}

TEST_CASE("a size that a header has no room for stands before it") {
  const std::string header = oci::tar_header("big", 0100000000000);  // 8 GiB
  REQUIRE(header.size() == 3 * 512);
  CHECK(header[156] == 'x');
  CHECK(field(header, 512, 512) == "19 size=8589934592\n");
  CHECK(field(header, 1024, 100) == "big");
  CHECK(field(header, 1024 + 124, 12) == "00000000000");
}

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
