#include "oci/hold.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "oci/gc.h"
#include "tests/oci/image_fixture.h"
#include "tests/temp_dir.h"

using namespace std::chrono_literals;

namespace {

const base::Context kCtx = base::Context::cleanup();

struct Fixture {
  tests::TempDir dir;
  oci::Store store{dir.path()};
  oci::Collector collector{store, [] { return std::vector<oci::GcUse>(); }};
  Fixture() { REQUIRE(store.create().has_value()); }

  std::unique_ptr<oci::Hold> hold() {
    auto made = oci::Hold::create(kCtx, store, "a pull of r/b:1");
    REQUIRE(made.has_value());
    return *std::move(made);
  }
  void collect_all() {
    oci::GcRequest request;
    request.all = true;
    REQUIRE(collector.run(kCtx, request).has_value());
  }
};

oci::Digest digest_of(const std::string& text) {
  return oci::Digest::of_bytes(text);
}

}  // namespace

TEST_CASE("what a pull holds is not collected with its image, and is once the pull has ended") {
  Fixture f;
  tests::add_image(f.store, "r/a:1", {"base", "a"});
  const auto chain = oci::chain_ids({digest_of("base"), digest_of("a")});
  const auto blob = tests::add_blob(f.store, "a blob that both have");
  auto hold = f.hold();
  REQUIRE(hold->add_layers(kCtx, {chain[0]}).has_value());
  REQUIRE(hold->add_blobs(kCtx, {blob, digest_of("not here yet")}).has_value());
  f.collect_all();
  CHECK(f.store.records()->empty());
  CHECK(f.store.has_layer(chain[0]));
  CHECK_FALSE(f.store.has_layer(chain[1]));
  CHECK(std::filesystem::exists(f.store.blob_path(blob)));

  hold.reset();
  CHECK(std::filesystem::is_empty(f.dir / "ingest"));
  tests::add_image(f.store, "r/a:1", {"base", "a"});
  f.collect_all();
  CHECK_FALSE(f.store.has_layer(chain[0]));
}

TEST_CASE("each pull's hold is read, with its name") {
  Fixture f;
  const auto one = f.hold();
  const auto two = f.hold();
  REQUIRE(two->add_blobs(kCtx, {digest_of("x")}).has_value());
  const auto holds = oci::read_holds(f.store);
  REQUIRE_EQ(holds.size(), 2);
  CHECK_EQ(holds[0].paths.size() + holds[1].paths.size(), 1);
  for (const auto& held : holds) CHECK_EQ(held.who, "a pull of r/b:1");
}

TEST_CASE("without a lock, or without sense, a file holds nothing") {
  Fixture f;
  std::ofstream(f.dir / "ingest/hold-1-0") << "a pull that was killed\nlayers/" << std::string(64, 'a') << "\n";
  std::filesystem::create_directory(f.dir / "ingest/hold-1-1");
  CHECK(oci::read_holds(f.store).empty());
  const auto hold = f.hold();
  REQUIRE_EQ(oci::read_holds(f.store).size(), 1);
  for (const auto& entry : std::filesystem::directory_iterator(f.dir / "ingest")) {
    if (entry.is_regular_file()) std::filesystem::resize_file(entry.path(), oci::kHoldFileBytesMax + 1);
  }
  CHECK(oci::read_holds(f.store).empty());
}

TEST_CASE("adding waits for a collection that is under way") {
  Fixture f;
  auto hold = f.hold();
  {
    const auto collection = f.store.lease(kCtx, oci::Store::Lease::kExclusive);
    REQUIRE(collection.has_value());
    const auto refused = hold->add_blobs(base::Context::background().with_timeout(20ms), {digest_of("x")});
    REQUIRE_FALSE(refused.has_value());
    CHECK_EQ(refused.error().code, base::Code::kDeadlineExceeded);
  }
  CHECK(hold->add_blobs(kCtx, {digest_of("x")}).has_value());
}
