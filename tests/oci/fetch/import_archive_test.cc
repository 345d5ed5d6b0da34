#include "oci/fetch/import_archive.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "oci/manifest.h"
#include "tests/oci/fetch/tar_builder.h"
#include "tests/temp_dir.h"

using base::Code;
using oci::Digest;
using oci::fetch::archive_key;
using oci::fetch::ArchivedImage;
using tests::TarBuilder;

namespace {

struct Fixture {
  tests::TempDir dir;
  oci::Store store{dir / "store"};

  base::Result<std::vector<ArchivedImage>> import(const std::string& bytes) {
    std::ofstream(dir / "archive") << bytes;
    const auto fd = base::open_file(dir / "archive", O_RDONLY);
    const auto ctx = base::Context::cleanup();
    TRY_VOID(store.create());
    TRY(const auto hold, oci::Hold::create(ctx, store, "a test"));
    return oci::fetch::import_archive(ctx, store, *hold, fd->get());
  }
  std::size_t litter() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(dir / "store/ingest"),
                                                  std::filesystem::directory_iterator()));
  }
  bool has_blob(const std::string& bytes) const {
    return std::filesystem::exists(store.blob_path(Digest::of_bytes(bytes)));
  }
};

const std::string kConfig = R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[]}})";

std::string docker_manifest(const std::vector<std::string>& layers, const std::vector<std::string>& names = {"app:1"}) {
  return base::dump_json(base::Json::array({{{"Config", "config.json"}, {"RepoTags", names}, {"Layers", layers}}}));
}

std::string descriptor(const std::string& type, const std::string& bytes) {
  return base::dump_json({{"mediaType", type}, {"digest", Digest::of_bytes(bytes).text()}, {"size", bytes.size()}});
}

}  // namespace

TEST_CASE("paths in an archive are keys that stay inside") {
  CHECK_EQ(archive_key("./a//b/../c"), "a/c");
  CHECK_EQ(archive_key("/etc/passwd"), "etc/passwd");
  CHECK_EQ(archive_key("a/.."), "");
  CHECK_EQ(archive_key("a/../../b"), "");
  CHECK_EQ(archive_key(""), "");
}

TEST_CASE("what docker save writes") {
  Fixture f;
  TarBuilder tar;
  tar.dir("1/").file("1/layer.tar", "first").file("2/layer.tar", "\x1f\x8bsecond");
  tar.symlink("3/layer.tar", "../1/layer.tar").hardlink("4/layer.tar", "./2/layer.tar");
  tar.file("config.json", kConfig).file("repositories", "{}").file("1/VERSION", "1.0");
  tar.file("manifest.json",
           docker_manifest({"1/layer.tar", "2/layer.tar", "3/layer.tar", "4/layer.tar"}, {"app:1", "app:latest"}));
  const auto images = f.import(tar.done());
  REQUIRE(images.has_value());
  REQUIRE_EQ(images->size(), 2);
  CHECK_EQ((*images)[0].name, "app:1");
  CHECK_EQ((*images)[1].name, "app:latest");
  CHECK_EQ((*images)[0].digest, Digest::of_bytes((*images)[0].document));
  const auto parsed = oci::parse_manifest((*images)[0].document, (*images)[0].media_type, "manifest");
  REQUIRE(parsed.has_value());
  const auto& manifest = std::get<oci::Manifest>(*parsed);
  REQUIRE_EQ(manifest.layers.size(), 4);
  CHECK_EQ(manifest.layers[2].digest, manifest.layers[0].digest);
  CHECK_EQ(manifest.layers[3].digest, manifest.layers[1].digest);
  CHECK(manifest.layers[0].media_type.ends_with("tar"));
  CHECK(manifest.layers[1].media_type.ends_with("tar+gzip"));
  CHECK(f.has_blob("first"));
  CHECK(f.has_blob(kConfig));
  CHECK(f.has_blob((*images)[0].document));
  CHECK_FALSE(f.has_blob("1.0"));  // packaging
  CHECK_EQ(f.litter(), 0);
}

TEST_CASE("an OCI layout in a tar") {
  Fixture f;
  const std::string manifest =
      "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":" +
      descriptor("application/vnd.oci.image.config.v1+json", kConfig) + ",\"layers\":[" +
      descriptor("application/vnd.oci.image.layer.v1.tar", "layer") + "]}";
  const auto blob = [](const std::string& bytes) {
    return "blobs/sha256/" + std::string(Digest::of_bytes(bytes).hex());
  };
  const std::string index = base::dump_json({{"schemaVersion", 2},
                                             {"manifests",
                                              {{{"mediaType", oci::kOciManifestType},
                                                {"digest", Digest::of_bytes(manifest).text()},
                                                {"size", manifest.size()},
                                                {"annotations", {{"org.opencontainers.image.ref.name", "v2"}}}}}}});
  TarBuilder tar;
  tar.file("index.json", index).file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  tar.file(blob("layer"), "layer").file(blob(kConfig), kConfig).file(blob(manifest), manifest);
  const auto images = f.import(tar.done());
  REQUIRE(images.has_value());
  REQUIRE_EQ(images->size(), 1);
  CHECK_EQ((*images)[0].name, "v2");
  CHECK(f.has_blob("layer"));
  CHECK_EQ(f.litter(), 0);

  TarBuilder damaged;
  damaged.file("oci-layout", "{}").file("index.json", index).file(blob("layer"), "other bytes");
  CHECK_EQ(f.import(damaged.done()).error().code, Code::kDataLoss);
  TarBuilder incomplete;
  incomplete.file("oci-layout", "{}").file("index.json", index);
  CHECK_EQ(f.import(incomplete.done()).error().code, Code::kInvalidArgument);
  CHECK_EQ(f.litter(), 0);
}

TEST_CASE("an entry that is no image, or not whole, has a problem, and the others none") {
  Fixture f;
  const auto blob = [](const std::string& bytes) {
    return "blobs/sha256/" + std::string(Digest::of_bytes(bytes).hex());
  };
  const auto manifest_with = [&](const char* config_type) {
    return "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":" +
           descriptor(config_type, kConfig) + ",\"layers\":[]}";
  };
  const std::string good = manifest_with("application/vnd.oci.image.config.v1+json");
  const std::string signature = manifest_with("application/vnd.dev.cosign.config.v1+json");
  const auto entry = [](const std::string& bytes, const char* name, const char* os = "linux") {
    return base::Json({{"mediaType", oci::kOciManifestType},
                       {"digest", Digest::of_bytes(bytes).text()},
                       {"size", bytes.size()},
                       {"platform", {{"os", os}, {"architecture", "amd64"}}},
                       {"annotations", {{"org.opencontainers.image.ref.name", name}}}});
  };
  base::Json bad = entry(good, "bad");
  bad["digest"] = "sha256:1";
  const base::Json index = {{"schemaVersion", 2},
                            {"manifests",
                             {entry(signature, "a.sig"), entry(good, "q/app:1"), entry("nowhere", "gone"), bad,
                              entry(good, "x", "unknown")}}};
  TarBuilder tar;
  tar.file("oci-layout", "{}").file("index.json", base::dump_json(index)).file(blob(kConfig), kConfig);
  const auto images = f.import(tar.file(blob(good), good).file(blob(signature), signature).done());
  REQUIRE(images.has_value());
  REQUIRE_EQ(images->size(), 5);
  CHECK_EQ((*images)[0].problem->code, Code::kFailedPrecondition);
  CHECK_FALSE((*images)[1].problem.has_value());
  CHECK_EQ((*images)[1].name, "q/app:1");
  CHECK_FALSE((*images)[1].only_tag);
  CHECK((*images)[2].problem.has_value());
  CHECK_EQ((*images)[2].name, "gone");
  CHECK((*images)[3].problem.has_value());
  CHECK((*images)[4].is_attestation);

  Fixture docker;
  const auto two =
      base::dump_json(base::Json::array({{{"Config", "none.json"}, {"RepoTags", {"broken"}}, {"Layers", nullptr}},
                                         {{"Config", "config.json"}, {"RepoTags", nullptr}, {"Layers", nullptr}},
                                         {{"Config", "config.json"}, {"RepoTags", {"app"}}}}));
  const auto loaded = docker.import(TarBuilder().file("manifest.json", two).file("config.json", kConfig).done());
  REQUIRE(loaded.has_value());
  REQUIRE_EQ(loaded->size(), 3);
  CHECK((*loaded)[0].problem.has_value());
  CHECK_EQ((*loaded)[0].name, "broken");
  CHECK_EQ((*loaded)[1].name, "");
  CHECK_EQ((*loaded)[2].name, "app");
  CHECK_FALSE((*loaded)[2].only_tag);  // docker's names are of repositories
}

TEST_CASE("too many entries are refused before they are stored, and links claim no content") {
  Fixture f;
  TarBuilder many;
  for (std::size_t i = 0; i <= oci::fetch::kArchiveEntriesMax; ++i) many.file("f" + std::to_string(i), "x");
  const auto begin = base::Clock::now();
  CHECK_EQ(f.import(many.done()).error().code, Code::kInvalidArgument);
  CHECK(base::Clock::now() - begin < std::chrono::seconds(5));

  tests::TarEntry link;
  link.name = "l";
  link.type = '1';
  link.link = "config.json";
  link.claimed_size = 600;
  link.pax["comment"] = "hello";
  TarBuilder tar;
  tar.file("config.json", kConfig).add(link).file("manifest.json", docker_manifest({}));
  CHECK(f.import(tar.done()).has_value());
}

TEST_CASE("what is not an image archive is refused and leaves nothing") {
  Fixture f;
  const std::string whole = TarBuilder().file("manifest.json", docker_manifest({"layer"})).done();
  const std::vector<std::pair<const char*, std::string>> cases = {
      {"empty", ""},
      {"noise", std::string(5000, 'x')},
      {"no manifest", TarBuilder().file("a", "b").done()},
      {"no config", whole},
      {"no layer", TarBuilder().file("config.json", kConfig).file("manifest.json", docker_manifest({"l"})).done()},
      {"not a list", TarBuilder().file("manifest.json", "{}").done()},
      {"bad JSON", TarBuilder().file("manifest.json", "[{").done()},
      {"no image", TarBuilder().file("manifest.json", "[]").done()},
      {"a layer outside",
       TarBuilder().file("config.json", kConfig).file("manifest.json", docker_manifest({"../../etc/passwd"})).done()},
      {"links in a circle", TarBuilder()
                                .file("config.json", kConfig)
                                .symlink("l", "m")
                                .symlink("m", "l")
                                .file("manifest.json", docker_manifest({"l"}))
                                .done()},
      {"cut off", whole.substr(0, 700)},
  };
  for (const auto& c : cases) {
    CAPTURE(c.first);
    const auto images = f.import(c.second);
    REQUIRE_FALSE(images.has_value());
    CHECK_EQ(images.error().code, Code::kInvalidArgument);
    CHECK_EQ(f.litter(), 0);
  }
}
