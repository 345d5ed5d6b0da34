#include "oci/fsck.h"

#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include "base/dir.h"
#include "oci/seal.h"
#include "tests/failing_call.h"
#include "tests/oci/image_fixture.h"
#include "tests/temp_dir.h"

namespace {

base::Context soon() {
  return base::Context::cleanup();
}

/// A store with the image r/a:1 of one sealed layer, and an image r/b:1 whose layer has lost a file.
struct Damaged {
  tests::TempDir dir;
  oci::Store store{dir.path()};
  oci::GcUses uses;
  oci::FsckRequest repair;

  Damaged() {
    REQUIRE(store.create().has_value());
    REQUIRE(base::make_dirs(dir / "seals", 0700).has_value());
    for (const char* name : {"a", "b"}) {
      tests::add_image(store, base::str("r/", name, ":1"), {name});
      std::ofstream(layer(name) + "/file") << name;
      const auto seal = oci::seal_layer(soon(), layer(name));
      REQUIRE(seal.has_value());
      std::ofstream(store.seal_path(oci::Digest::of_bytes(name))) << oci::encode(*seal);
    }
    std::filesystem::remove(layer("b") + "/file");
    repair.repair = true;
  }
  std::string layer(const std::string& name) const { return store.layer_path(oci::Digest::of_bytes(name)); }
  base::Result<oci::FsckReport> run() {
    oci::Store fresh(dir.path());  // one that has nothing in memory
    return oci::check_store(soon(), fresh, repair, [this] { return uses; });
  }
  std::set<std::string> files() const {
    std::set<std::string> out;
    for (const char* folder : {"blobs/sha256", "layers", "seals"}) {
      const auto names = *base::list_dir(dir / folder);
      for (const std::string& name : names) out.insert(base::str(folder, "/", name));
    }
    return out;
  }
};

const oci::FsckFinding* finding_of(const oci::FsckReport& report, const std::string& path) {
  for (const oci::FsckFinding& finding : report.findings) {
    if (path.ends_with(finding.path)) return &finding;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("a damaged layer goes with the entry of its image, and nothing else does") {
  Damaged f;
  const auto before = f.files();
  const auto report = f.run();
  REQUIRE(report.has_value());
  CHECK(report->clean());
  REQUIRE_EQ(report->findings.size(), 1);
  CHECK_EQ(report->findings[0].images, std::set<std::string>{"r/b:1"});
  CHECK_FALSE(f.store.record("r/b:1").has_value());
  CHECK(f.store.load(*f.store.record("r/a:1")).has_value());
  CHECK_EQ(f.files().size(), before.size() - 2);  // the layer and its seal
  CHECK(f.run()->findings.empty());
}

TEST_CASE("what cannot be read stays, with the entry of its image, and is told") {
  Damaged f;
  const std::string manifest(f.store.record("r/a:1")->manifest_digest.hex());
  const std::string layer(oci::Digest::of_bytes("a").hex());
  std::filesystem::remove(f.layer("b") + "/file");
  std::ofstream(f.layer("b") + "/file") << "b";  // but for its time, so that nothing good is in the way of nothing
  const auto before = f.files();
  struct Case {
    const char* call;
    std::string path;
    int error;
  };
  std::vector<Case> cases = {{"read", manifest, tests::FailingCall::kShortRead},
                             {"read", "/index.json", tests::FailingCall::kShortRead},
                             {"read", "seals/" + layer, tests::FailingCall::kShortRead}};
  for (const int error : {EMFILE, ENOMEM, EIO, EACCES}) {
    for (const char* call : {"open", "read", "stat"}) {
      cases.push_back({call, manifest, error});
      cases.push_back({call, "/index.json", error});
      cases.push_back({call, "seals/" + layer, error});
    }
    for (const char* call : {"open", "stat", "readdir"}) cases.push_back({call, "layers/" + layer, error});
    for (const char* folder : {"/layers", "/seals", "/blobs/sha256", "/ingest"}) {
      cases.push_back({"open", folder, error});
      cases.push_back({"readdir", folder, error});
    }
    cases.push_back({"open", "/lease", error});
  }
  f.uses.known = {{{f.layer("b")}, "", "container b"}};  // so that only what fails could be removed
  for (const Case& c : cases) {
    CAPTURE(c.call);
    CAPTURE(c.path);
    CAPTURE(c.error);
    {
      const tests::FailingCall failing(c.call, c.path, c.error);
      const auto report = f.run();
      CHECK_GT(failing.times(), 0);
      const bool told = !report || !report->clean();
      CHECK(told);
    }
    CHECK_EQ(f.files(), before);
  }
  CHECK_EQ(f.store.records()->size(), 2);
  CHECK_FALSE(std::filesystem::exists(f.dir / "index.json.damaged"));
}

TEST_CASE("what a check of the boot cannot date is looked at") {
  Damaged f;
  f.repair.recent = {std::chrono::system_clock::now() + std::chrono::hours(1), std::chrono::minutes(5)};
  {
    const tests::FailingCall failing("stat", "/layers/", EIO);
    const auto report = f.run();
    CHECK_GT(failing.times(), 0);
    const bool told = !report || !report->clean();
    CHECK(told);
  }
  CHECK(*f.store.has_layer(oci::Digest::of_bytes("a")) == true);
}

TEST_CASE("one thing that cannot be removed stops nothing else, and says why it stays") {
  Damaged f;
  const auto blob = tests::add_blob(f.store, "right");
  std::ofstream(f.store.blob_path(blob), std::ios::trunc) << "wrong";
  const tests::FailingCall busy("rename", "blobs/sha256/" + std::string(blob.hex()), EBUSY);
  const auto report = f.run();
  REQUIRE(report.has_value());
  CHECK_FALSE(report->clean());
  const auto* stays = finding_of(*report, f.store.blob_path(blob));
  REQUIRE(stays != nullptr);
  CHECK_FALSE(stays->removed);
  CHECK_NE(stays->stays.find("busy"), std::string::npos);
  const auto* gone = finding_of(*report, f.layer("b"));
  REQUIRE(gone != nullptr);
  CHECK(gone->removed);
  CHECK_FALSE(f.store.record("r/b:1").has_value());
}

TEST_CASE("a damaged layer stays while it is in use, or may be") {
  Damaged f;
  SUBCASE("it is") {
    f.uses.known = {{{f.layer("b")}, "", "container b"}};
  }
  SUBCASE("it may be") {
    f.uses.unknown = {"the record of container b cannot be read"};
  }
  const auto report = f.run();
  REQUIRE(report.has_value());
  CHECK_FALSE(report->clean());
  REQUIRE_EQ(report->findings.size(), 1);
  CHECK_NE(report->findings[0].stays.find("container b"), std::string::npos);
  CHECK(*f.store.has_layer(oci::Digest::of_bytes("b")));
  CHECK(f.store.record("r/b:1").has_value());
}

TEST_CASE("an index.json that is not one is set aside, and kept") {
  Damaged f;
  for (const char* text : {"", "{", "[]", "7", R"({"manifests":{}})"}) {
    CAPTURE(text);
    std::ofstream(f.dir / "index.json", std::ios::trunc) << text;
    const auto report = f.run();
    REQUIRE(report.has_value());
    const auto* finding = finding_of(*report, "index.json");
    REQUIRE(finding != nullptr);
    CHECK(finding->removed);
    CHECK_EQ(*base::read_file(f.dir / "index.json.damaged", 100), text);
    CHECK_FALSE(std::filesystem::exists(f.dir / "index.json"));
  }
}

TEST_CASE("a document that a pull is writing is not garbage") {
  Damaged f;
  std::ofstream(f.dir / "blobs/sha256/.tmp-abc-1-0") << "half of a manif";
  const auto report = f.run();
  REQUIRE(report.has_value());
  CHECK(std::filesystem::exists(f.dir / "blobs/sha256/.tmp-abc-1-0"));
}
