#include "oci/store.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>

#include "base/json.h"
#include "tests/oci/image_fixture.h"
#include "tests/temp_dir.h"

using base::Code;

TEST_CASE("a new store is an OCI layout that only its owner can enter") {
  const tests::TempDir dir;
  const oci::Store store(dir / "data");
  REQUIRE(store.create().has_value());
  REQUIRE(store.create().has_value());
  CHECK_EQ(*base::read_file(dir / "data/oci-layout", 100), R"({"imageLayoutVersion":"1.0.0"})");
  struct stat info {};
  REQUIRE_EQ(::stat((dir / "data").c_str(), &info), 0);
  CHECK_EQ(info.st_mode & 07777, 0700);
}

TEST_CASE("records are kept by reference, replaced, and seen by other stores at once") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  CHECK(store.records()->empty());
  CHECK_EQ(store.record("a").error().code, Code::kNotFound);

  oci::Store reader(dir.path());
  CHECK(reader.records()->empty());
  auto record = tests::add_image(store, "docker.io/library/a:1", {"one"});
  tests::add_image(store, "docker.io/library/b:1", {"one", "two"});
  CHECK_EQ(reader.records()->size(), 2);
  record.pulled_at_unix = 77;
  REQUIRE(store.put_record(base::Context::cleanup(), record).has_value());
  const auto records = *reader.records();
  REQUIRE_EQ(records.size(), 2);
  CHECK_EQ(records[1].reference, "docker.io/library/a:1");
  CHECK_EQ(records[1].pulled_at_unix, 77);
  CHECK_EQ(records[1].resolved_digest, record.resolved_digest);
}

TEST_CASE("where an image came from and what was said of it is kept, for as long as it is that image") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto ctx = base::Context::cleanup();
  auto record = tests::add_image(store, "docker.io/library/a:1", {"one"});
  const auto index = oci::Digest::of_bytes("index");
  record.resolved_digest = index;
  record.resolved_media_type = std::string(oci::kOciIndexType);
  record.resolved_bytes = 1234;
  REQUIRE(store.put_record(ctx, record).has_value());
  const oci::Verdict verdict{"sha256:programs", "10-ci: \"signed\" \xff", 1'700'000'000};
  REQUIRE(store.put_verdict(ctx, record.reference, index, verdict).has_value());
  const auto back = *oci::Store(dir.path()).record(record.reference);
  CHECK_EQ(back.resolved_media_type, oci::kOciIndexType);
  CHECK_EQ(back.resolved_bytes, 1234);
  REQUIRE(back.verdict.has_value());
  CHECK_EQ(back.verdict->verifiers, verdict.verifiers);
  CHECK_EQ(back.verdict->word, "10-ci: \"signed\" \ufffd");
  CHECK_EQ(back.verdict->at_unix, verdict.at_unix);
  CHECK_EQ(store.load(back)->verdict, back.verdict);
  CHECK(
      store.put_verdict(ctx, record.reference, record.manifest_digest, verdict).has_value());  // what the index led to

  CHECK_EQ(store.put_verdict(ctx, "docker.io/library/b:1", index, verdict).error().code, Code::kNotFound);
  CHECK_EQ(store.put_verdict(ctx, record.reference, oci::Digest::of_bytes("x"), verdict).error().code, Code::kNotFound);
  REQUIRE(store.put_record(ctx, record).has_value());  // pulled again, and nobody asked
  CHECK_FALSE(store.record(record.reference)->verdict.has_value());
}

TEST_CASE("entries of other tools are left out, a damaged index.json is an error") {
  CHECK(oci::parse_index_file(R"({"schemaVersion":2})")->empty());
  CHECK(oci::parse_index_file(R"({"manifests":[{"mediaType":"x","digest":"sha256:1","size":1},{},7]})")->empty());
  CHECK_FALSE(oci::parse_index_file("{").has_value());
}

TEST_CASE("load gives layers bottom first, and says what is missing") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto record = tests::add_image(store, "docker.io/library/b:1", {"one", "two"});
  const auto image = store.load(record);
  REQUIRE(image.has_value());
  REQUIRE_EQ(image->layer_dirs.size(), 2);
  CHECK_EQ(image->layer_dirs[0], store.layer_path(oci::Digest::of_bytes("one")));
  CHECK_EQ(image->config.cmd, std::vector<std::string>{"sh"});

  ::rmdir(image->layer_dirs[1].c_str());
  CHECK_EQ(store.load(record).error().code, Code::kNotFound);
}

TEST_CASE("a document is checked against its digest when it is read") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto digest = oci::Digest::of_bytes("content");
  CHECK_EQ(store.read_document(digest, 100).error().code, Code::kNotFound);
  std::ofstream(store.blob_path(digest)) << "content";
  CHECK_EQ(*store.read_document(digest, 7), "content");
  CHECK_EQ(store.read_document(digest, 6).error().code, Code::kInvalidArgument);
  std::ofstream(store.blob_path(digest)) << "c0ntent";
  CHECK_EQ(store.read_document(digest, 100).error().code, Code::kDataLoss);
  ::unlink(store.blob_path(digest).c_str());
  REQUIRE_EQ(::mkfifo(store.blob_path(digest).c_str(), 0600), 0);
  CHECK_EQ(store.read_document(digest, 100).error().code, Code::kDataLoss);
  ::unlink(store.blob_path(digest).c_str());
  REQUIRE_EQ(::symlink("/etc/passwd", store.blob_path(digest).c_str()), 0);
  CHECK_FALSE(store.read_document(digest, 1 << 20).has_value());
}
