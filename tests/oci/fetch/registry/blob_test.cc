#include "oci/fetch/registry/blob.h"

#include <doctest/doctest.h>
#include <sys/file.h>

#include <fstream>
#include <thread>

#include "base/file.h"
#include "oci/fetch/staging.h"
#include "oci/fetch/unpack/blob_reader.h"
#include "tests/temp_dir.h"

using base::Code;
using base::Context;
using oci::fetch::Blob;
using oci::fetch::BlobReader;

namespace {

struct BlobFixture {
  BlobFixture() : store(dir.path()) { REQUIRE(store.create().has_value()); }
  oci::Descriptor descriptor(const std::string& content) const {
    return {"application/octet-stream", oci::Digest::of_bytes(content), content.size(), {}, false};
  }
  std::string ingest(const std::string& content) const {
    return store.path(base::str("ingest/", oci::Digest::of_bytes(content).hex()));
  }
  bool has(const std::string& content) const {
    return std::filesystem::exists(store.blob_path(oci::Digest::of_bytes(content)));
  }
  BlobReader reader(Blob& blob) const {
    const auto view = *base::open_dir(store.path(""));
    auto fds = blob.open_for_reader(view.get());
    REQUIRE(fds.has_value());
    return {std::move(fds->file), std::move(fds->growth), blob.descriptor().size};
  }
  tests::TempDir dir;
  oci::Store store;
};

std::string read_all(BlobReader& reader) {
  std::string out;
  char chunk[1000];
  for (;;) {
    const auto size = reader.read(Context::cleanup(), chunk);
    REQUIRE(size.has_value());
    if (*size == 0) return out;
    out.append(chunk, *size);
  }
}

std::ptrdiff_t entries_of(const std::string& path) {
  return std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator());
}

const std::string kContent(700'000, 'c');

}  // namespace

TEST_CASE("a blob can be read while it arrives, and is stored when it is right") {
  BlobFixture f;
  Blob blob(f.store, f.descriptor(kContent));
  REQUIRE_EQ(*blob.begin(Context::cleanup()), Blob::Begin::kMissing);
  std::string seen;
  BlobReader early = f.reader(blob);
  BlobReader second = f.reader(blob);
  std::jthread reader([&] { seen = read_all(early); });
  for (std::size_t at = 0; at < kContent.size(); at += 7000) {
    REQUIRE(blob.append(std::string_view(kContent).substr(at, 7000)).has_value());
  }
  REQUIRE(blob.commit().has_value());
  reader.join();
  CHECK_EQ(seen, kContent);
  CHECK_EQ(read_all(second), kContent);
  CHECK_EQ(second.taken(), kContent.size());
  CHECK(f.has(kContent));
  CHECK_FALSE(std::filesystem::exists(f.ingest(kContent)));

  Blob again(f.store, f.descriptor(kContent));
  CHECK_EQ(*again.begin(Context::cleanup()), Blob::Begin::kPresent);
  BlobReader late = f.reader(again);
  CHECK_EQ(read_all(late), kContent);
}

TEST_CASE("wrong content is not kept; too much is refused at once") {
  BlobFixture f;
  Blob blob(f.store, f.descriptor(kContent));
  REQUIRE(blob.begin(Context::cleanup()).has_value());
  REQUIRE(blob.append(std::string(kContent.size(), 'x')).has_value());
  CHECK_EQ(blob.append("y").error().code, Code::kDataLoss);
  CHECK_EQ(blob.commit().error().code, Code::kDataLoss);
  CHECK_FALSE(f.has(kContent));
  CHECK_FALSE(std::filesystem::exists(f.ingest(kContent)));
}

TEST_CASE("a broken download goes on where it stopped, unless it may not") {
  BlobFixture f;
  {
    Blob blob(f.store, f.descriptor(kContent));
    REQUIRE(blob.begin(Context::cleanup()).has_value());
    REQUIRE(blob.append(kContent.substr(0, 300'001)).has_value());
    BlobReader reader = f.reader(blob);
    blob.fail(true);
    std::string all(kContent.size(), '\0');
    CHECK_EQ(*reader.read(Context::cleanup(), all), 300'001);
    CHECK_EQ(reader.read(Context::cleanup(), all).error().code, Code::kCancelled);
  }
  {
    Blob blob(f.store, f.descriptor(kContent));
    REQUIRE(blob.begin(Context::cleanup()).has_value());
    CHECK_EQ(blob.offset(), 300'001);
    REQUIRE(blob.append(kContent.substr(300'001)).has_value());
    CHECK(blob.commit().has_value());
  }
  CHECK(f.has(kContent));
  const std::string other(1000, 'o');
  Blob blob(f.store, f.descriptor(other));
  REQUIRE(blob.begin(Context::cleanup()).has_value());
  REQUIRE(blob.append("oo").has_value());
  blob.fail(false);
  CHECK_FALSE(std::filesystem::exists(f.ingest(other)));
}

TEST_CASE("an ingest file that is too long is thrown away, a stored blob of the wrong size replaced") {
  BlobFixture f;
  std::ofstream(f.ingest(kContent)) << kContent << "more";
  std::ofstream(f.store.blob_path(oci::Digest::of_bytes(kContent))) << "short";
  Blob blob(f.store, f.descriptor(kContent));
  REQUIRE_EQ(*blob.begin(Context::cleanup()), Blob::Begin::kMissing);
  CHECK_EQ(blob.offset(), 0);
  REQUIRE(blob.append(kContent).has_value());
  REQUIRE(blob.commit().has_value());
  CHECK_EQ(std::filesystem::file_size(f.store.blob_path(oci::Digest::of_bytes(kContent))), kContent.size());
}

TEST_CASE("two downloads of one blob: the second waits and finds it") {
  BlobFixture f;
  Blob first(f.store, f.descriptor(kContent));
  REQUIRE(first.begin(Context::cleanup()).has_value());
  Blob second(f.store, f.descriptor(kContent));
  CHECK_EQ(second.begin(Context::background().with_timeout(std::chrono::milliseconds(100))).error().code,
           Code::kDeadlineExceeded);
  Blob third(f.store, f.descriptor(kContent));
  std::jthread waiter([&] { CHECK_EQ(*third.begin(Context::cleanup()), Blob::Begin::kPresent); });
  REQUIRE(first.append(kContent).has_value());
  REQUIRE(first.commit().has_value());
  waiter.join();
  CHECK_EQ(entries_of(f.store.path("ingest")), 0);
}

TEST_CASE("a damaged stored blob is recognised and removed") {
  BlobFixture f;
  std::string damaged = kContent;
  damaged[5] = 'X';
  std::ofstream(f.store.blob_path(oci::Digest::of_bytes(kContent))) << damaged;
  Blob blob(f.store, f.descriptor(kContent));
  REQUIRE_EQ(*blob.begin(Context::cleanup()), Blob::Begin::kPresent);
  CHECK(*blob.remove_if_damaged());
  CHECK_FALSE(f.has(kContent));
}

TEST_CASE("staging folders vanish, are committed, or are cleared away when their owner is gone") {
  BlobFixture f;
  {
    auto staging = *oci::fetch::Staging::create(Context::cleanup(), f.store);
    const std::string folder = f.store.path("ingest/" + staging->name());
    REQUIRE(staging->add(3).has_value());
    CHECK(std::filesystem::exists(folder + "/3"));
    oci::fetch::remove_leftovers(Context::cleanup(), f.store);
    CHECK(std::filesystem::exists(folder + "/3"));  // its owner lives
    auto other = *oci::fetch::Staging::create(Context::cleanup(), f.store);
    REQUIRE(other->add(0).has_value());
    REQUIRE(staging->commit(3, f.dir / "layers/x", f.dir / "seals/x").has_value());
    std::ofstream(f.dir / "layers/x/file") << "1";
    CHECK(other->commit(0, f.dir / "layers/x", f.dir / "seals/x").has_value());  // somebody was first: fine
  }
  CHECK_EQ(entries_of(f.store.path("ingest")), 0);
  CHECK_EQ(entries_of(f.store.path("layers")), 1);

  REQUIRE(base::make_dirs(f.store.path("ingest/layers-1-1/deep/er"), 0755).has_value());
  std::ofstream(f.ingest(kContent)) << "partial";
  oci::fetch::remove_leftovers(Context::cleanup(), f.store);
  CHECK_EQ(entries_of(f.store.path("ingest")), 1);
  std::filesystem::last_write_time(f.ingest(kContent),
                                   std::filesystem::file_time_type::clock::now() - std::chrono::hours(25));
  oci::fetch::remove_leftovers(Context::cleanup(), f.store);
  CHECK_EQ(entries_of(f.store.path("ingest")), 0);
}

TEST_CASE("what was exchanged in a staging folder is not committed") {
  BlobFixture f;
  for (const bool by_link : {true, false}) {
    auto staging = *oci::fetch::Staging::create(Context::cleanup(), f.store);
    REQUIRE(staging->add(0).has_value());
    const std::string folder = f.store.path("ingest/" + staging->name() + "/0");
    std::filesystem::remove(folder);
    if (by_link) {
      std::filesystem::create_symlink("/", folder);
    } else {
      std::filesystem::create_directory(f.dir / "evil");
      std::filesystem::rename(f.dir / "evil", folder);
    }
    CHECK_EQ(staging->commit(0, f.dir / "layers/x", f.dir / "seals/x").error().code, Code::kInternal);
    CHECK_EQ(entries_of(f.store.path("layers")), 0);
  }
}
