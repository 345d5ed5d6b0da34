#include "oci/store.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>

#include "base/json.h"
#include "tests/failing_call.h"
#include "tests/oci/image_fixture.h"
#include "tests/sanitized.h"
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

TEST_CASE("a pin stays when the image is pulled again, and goes with its name") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto ctx = base::Context::cleanup();
  const auto record = tests::add_image(store, "docker.io/library/a:1", {"one"});
  REQUIRE(store.set_pinned(ctx, record.reference, true).has_value());
  REQUIRE(store.put_record(ctx, record).has_value());
  CHECK(oci::Store(dir.path()).record(record.reference)->pinned);
  REQUIRE(store.set_pinned(ctx, record.reference, false).has_value());
  CHECK_FALSE(store.record(record.reference)->pinned);
  REQUIRE(store.set_pinned(ctx, record.reference, true).has_value());
  REQUIRE(store.remove_records(ctx, {record.reference}).has_value());
  REQUIRE(store.put_record(ctx, record).has_value());
  CHECK_FALSE(store.record(record.reference)->pinned);
  CHECK_EQ(store.set_pinned(ctx, "docker.io/library/none:1", true).error().code, Code::kNotFound);
}

TEST_CASE("what a check refuses is not removed") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto ctx = base::Context::cleanup();
  const auto record = tests::add_image(store, "docker.io/library/a:1", {"one"});
  std::size_t seen = 0;
  const auto refused = store.remove_records(ctx, {record.reference}, [&](const auto& all) -> base::Status {
    seen = all.size();
    return base::Error::failed_precondition("no");
  });
  CHECK_EQ(refused.error().message, "no");
  CHECK_EQ(seen, 1);
  CHECK(store.record(record.reference).has_value());
}

TEST_CASE("entries of other tools are left out, a damaged index.json is an error") {
  CHECK(oci::parse_index_file(R"({"schemaVersion":2})")->empty());
  CHECK(oci::parse_index_file(R"({"manifests":[{"mediaType":"x","digest":"sha256:1","size":1},{},7]})")->empty());
  for (const char* text : {"", "{", "[]", "7", R"({"manifests":{}})"}) {
    CAPTURE(text);
    REQUIRE_FALSE(oci::parse_index_file(text).has_value());
    CHECK_EQ(oci::parse_index_file(text).error().code, Code::kDataLoss);
  }
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

TEST_CASE("what cannot be read is neither missing nor damaged, and is not written over") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto record = tests::add_image(store, "docker.io/library/a:1", {"one"});
  const std::string manifest(record.manifest_digest.hex());
  const std::string layer(oci::Digest::of_bytes("one").hex());
  const std::string before = *base::read_file(dir / "index.json", 10'000);
  const auto ctx = base::Context::cleanup();
  auto other = record;
  other.reference = "docker.io/library/b:1";
  const auto unreadable = [](const auto& result) { return !result && oci::is_unreadable(result.error()); };

  for (const int error : {EMFILE, ENOMEM, EIO, EACCES, tests::FailingCall::kShortRead}) {
    CAPTURE(error);
    for (const char* call : {"open", "read"}) {
      if (error == tests::FailingCall::kShortRead && std::string(call) != "read") continue;
      CAPTURE(call);
      const tests::FailingCall failing(call, "/index.json", error);
      CHECK(unreadable(oci::Store(dir.path()).records()));
      CHECK(unreadable(oci::Store(dir.path()).record(record.reference)));
      CHECK(unreadable(oci::Store(dir.path()).check_room(other.reference)));
      CHECK(unreadable(store.put_record(ctx, other)));
      CHECK(unreadable(store.remove_records(ctx, {record.reference})));
      CHECK(unreadable(store.put_verdict(ctx, record.reference, record.manifest_digest, {"v", "w", 1})));
    }
    {
      const tests::FailingCall failing("read", manifest, error);
      CHECK(unreadable(store.load(record)));
      CHECK(unreadable(store.content(record)));
    }
    if (error == tests::FailingCall::kShortRead) continue;
    {
      const tests::FailingCall failing("stat", "/index.json", error);
      CHECK(unreadable(oci::Store(dir.path()).records()));
    }
    {
      const tests::FailingCall failing("stat", "layers/" + layer, error);
      CHECK(unreadable(store.has_layer(oci::Digest::of_bytes("one"))));
      CHECK(unreadable(store.load(record)));
    }
    {
      const tests::FailingCall failing("stat", "oci-layout", error);
      CHECK(unreadable(store.create()));
    }
    {
      const tests::FailingCall failing("open", "/lock", error);
      CHECK(unreadable(store.put_record(ctx, other)));
    }
    const tests::FailingCall failing("lock", "/lock", error);
    CHECK(unreadable(store.put_record(ctx, other)));
  }
  CHECK_EQ(*base::read_file(dir / "index.json", 10'000), before);
}

TEST_CASE("an index.json that is not one is not written over") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto record = tests::add_image(store, "docker.io/library/a:1", {"one"});
  for (const char* text : {"", "{", "[]", R"({"manifests":7})"}) {
    CAPTURE(text);
    std::ofstream(dir / "index.json", std::ios::trunc) << text;
    CHECK_EQ(store.put_record(base::Context::cleanup(), record).error().code, Code::kDataLoss);
    CHECK_EQ(store.record(record.reference).error().code, Code::kDataLoss);
    CHECK_EQ(*base::read_file(dir / "index.json", 100), text);
  }
}

namespace {

std::vector<oci::ImageRecord> many_records(std::size_t count) {
  const auto digest = oci::Digest::of_bytes("x");
  std::vector<oci::ImageRecord> records;
  for (std::size_t i = 0; i < count; ++i) {
    records.push_back({base::str("registry.example.com/team/application:ci-2026-11-27-", 1'000'000 + i),
                       std::string(oci::kOciManifestType), digest, 500, digest, "amd64", 1'700'000'000,
                       std::string(oci::kOciIndexType), 1'000});
  }
  return records;
}

void write_index(const tests::TempDir& dir, const std::vector<oci::ImageRecord>& records) {
  std::ofstream(dir / "index.json", std::ios::trunc) << oci::format_index_file(records);
}

/// What is long because of its size alone: a sanitizer sees the same lines in the tests before.
const auto kOfSize = doctest::skip(tests::kSanitized);

}  // namespace

TEST_CASE("index.json at its limit refuses the next image with a sentence, and nothing else" * kOfSize) {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto ctx = base::Context::cleanup();
  const std::size_t entry =
      (oci::format_index_file(many_records(3)).size() - oci::format_index_file(many_records(2)).size());
  const std::size_t fits = (oci::kIndexFileBytesMax - oci::format_index_file({}).size() + 1) / entry;
  CHECK_GT(fits, 5000);
  auto records = many_records(fits + 1);
  const auto next = records.back();
  records.pop_back();
  write_index(dir, records);

  const auto& known = records[7];
  for (const auto& refused : {store.check_room(next.reference), store.put_record(ctx, next)}) {
    REQUIRE_FALSE(refused.has_value());
    CHECK_EQ(refused.error().code, Code::kResourceExhausted);
    CHECK_NE(refused.error().message.find("containerd-driver rmi"), std::string::npos);
  }
  CHECK(store.check_room(known.reference).has_value());
  CHECK(store.put_record(ctx, known).has_value());  // pulled again
  CHECK(store.put_verdict(ctx, known.reference, known.manifest_digest, {"v", std::string(500, 'w'), 1}).has_value());
  CHECK_EQ(store.records()->size(), records.size());
  CHECK(store.record(known.reference)->verdict.has_value());
  REQUIRE(store.remove_records(ctx, {records[0].reference, records[1].reference, records[2].reference}).has_value());
  CHECK(store.check_room(next.reference).has_value());
  CHECK(store.put_record(ctx, next).has_value());
}

TEST_CASE("a store that an earlier version has filled past the limit can be listed and emptied" * kOfSize) {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto records = many_records(10'000);
  write_index(dir, records);
  CHECK_GT(std::filesystem::file_size(dir / "index.json"), oci::kIndexFileBytesMax);
  CHECK_EQ(store.records()->size(), records.size());
  CHECK(store.remove_records(base::Context::cleanup(), {records[0].reference}).has_value());
  CHECK_EQ(store.records()->size(), records.size() - 1);
}

TEST_CASE("what would block or do something when it is opened is not opened") {
  const tests::TempDir dir;
  oci::Store store(dir / "data");
  REQUIRE(store.create().has_value());
  const auto ctx = base::Context::background().with_timeout(std::chrono::seconds(10));
  const auto put = [&](const char* name, mode_t kind) {
    std::filesystem::remove(dir / base::str("data/", name));
    return ::mknod((dir / base::str("data/", name)).c_str(), kind | 0600, makedev(1, 5)) == 0;
  };
  const mode_t kinds[] = {S_IFIFO, S_IFCHR, S_IFSOCK};
  for (const mode_t kind : kinds) {
    CAPTURE(kind);
    if (kind == S_IFCHR && ::geteuid() != 0) continue;
    REQUIRE(put("lease", kind));
    CHECK_EQ(store.lease(ctx, oci::Store::Lease::kShared).error().code, Code::kDataLoss);
    REQUIRE(put("lock", kind));
    CHECK_EQ(store.remove_records(ctx, {"a"}).error().code, Code::kDataLoss);
    REQUIRE(put("index.json", kind));
    CHECK_EQ(store.records().error().code, Code::kDataLoss);
  }
}

TEST_CASE("whatever may be written to index.json can be read" * kOfSize) {
  // The most values for their bytes, and what is noted about each image, up to the limit for notes.
  const auto digest = oci::Digest::of_bytes("x");
  std::vector<oci::ImageRecord> records;
  oci::ImageRecord record{"a", "m", digest, 1, digest, "", 1, "i", 1, oci::Verdict{"v", "w", 1}, "p"};
  const std::size_t entry = oci::format_index_file({record, record}).size() - oci::format_index_file({record}).size();
  records.assign(oci::kIndexNotesBytesMax / entry, record);
  const auto text = oci::format_index_file(records);
  CHECK_GT(text.size(), oci::kIndexNotesBytesMax - 2 * entry);
  const auto read = oci::parse_index_file(text);
  REQUIRE(read.has_value());
  CHECK_EQ(read->size(), records.size());
}
