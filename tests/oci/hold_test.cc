#include "oci/hold.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "oci/gc.h"
#include "tests/failing_call.h"
#include "tests/oci/image_fixture.h"
#include "tests/temp_dir.h"

using namespace std::chrono_literals;

namespace {

base::Context soon() {
  return base::Context::cleanup();
}

struct Fixture {
  tests::TempDir dir;
  oci::Store store{dir.path()};
  oci::Collector collector{store, [] { return oci::GcUses(); }};
  Fixture() { REQUIRE(store.create().has_value()); }

  std::unique_ptr<oci::Hold> hold() {
    auto made = oci::Hold::create(soon(), store, "a pull of r/b:1");
    REQUIRE(made.has_value());
    return *std::move(made);
  }
  void collect_all() {
    oci::GcRequest request;
    request.all = true;
    REQUIRE(collector.run(soon(), request).has_value());
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
  REQUIRE(hold->add_layers(soon(), {chain[0]}).has_value());
  REQUIRE(hold->add_blobs(soon(), {blob, digest_of("not here yet")}).has_value());
  f.collect_all();
  CHECK(f.store.records()->empty());
  CHECK(*f.store.has_layer(chain[0]));
  CHECK_FALSE(*f.store.has_layer(chain[1]));
  CHECK(std::filesystem::exists(f.store.blob_path(blob)));

  hold.reset();
  CHECK(std::filesystem::is_empty(f.dir / "ingest"));
  tests::add_image(f.store, "r/a:1", {"base", "a"});
  f.collect_all();
  CHECK_FALSE(*f.store.has_layer(chain[0]));
}

TEST_CASE("each pull's hold is read, with its name") {
  Fixture f;
  const auto one = f.hold();
  const auto two = f.hold();
  REQUIRE(two->add_blobs(soon(), {digest_of("x")}).has_value());
  const auto held = oci::read_holds(f.store);
  CHECK(held.unreadable.empty());
  REQUIRE_EQ(held.holders.size(), 2);
  CHECK_EQ(held.holders[0].paths.size() + held.holders[1].paths.size(), 1);
  for (const auto& holder : held.holders) CHECK_EQ(holder.who, "a pull of r/b:1");
}

TEST_CASE("without a lock, or not a file: nobody's") {
  Fixture f;
  std::ofstream(f.dir / "ingest/hold-1-0") << "a pull that was killed\nlayers/" << std::string(64, 'a') << "\n";
  std::filesystem::create_directory(f.dir / "ingest/hold-1-1");
  std::filesystem::create_symlink("/etc/passwd", f.dir / "ingest/hold-1-2");
  const auto held = oci::read_holds(f.store);
  CHECK(held.holders.empty());
  CHECK(held.unreadable.empty());
}

TEST_CASE("a hold is not written larger than it is read") {
  Fixture f;
  const auto hold = f.hold();
  const std::vector<oci::Digest> many(oci::kHoldFileBytesMax / 80, digest_of("x"));
  REQUIRE(hold->add_blobs(soon(), many).has_value());
  const auto refused = hold->add_blobs(soon(), many);
  REQUIRE_FALSE(refused.has_value());
  CHECK_EQ(refused.error().code, base::Code::kResourceExhausted);
  const auto held = oci::read_holds(f.store);
  CHECK(held.unreadable.empty());
  CHECK_EQ(held.holders.size(), 1);
}

TEST_CASE("while a hold that is locked cannot be read, nothing is collected") {
  Fixture f;
  tests::add_image(f.store, "r/a:1", {"base", "a"});
  const auto chain = oci::chain_ids({digest_of("base"), digest_of("a")});
  const auto hold = f.hold();
  REQUIRE(hold->add_layers(soon(), {chain[0]}).has_value());
  oci::GcRequest request;
  request.all = true;
  struct Case {
    const char* call;
    const char* path;
    int error;
  };
  const Case cases[] = {
      {"open", "/hold-", EMFILE},  {"open", "/hold-", EACCES},  {"stat", "/hold-", ENOMEM},
      {"lock", "/hold-", ENOLCK},  {"read", "/hold-", EIO},     {"read", "/hold-", tests::FailingCall::kShortRead},
      {"open", "/ingest", EMFILE}, {"readdir", "/ingest", EIO},
  };
  for (const Case& c : cases) {
    CAPTURE(c.call);
    CAPTURE(c.path);
    CAPTURE(c.error);
    const tests::FailingCall failing(c.call, c.path, c.error);
    const auto report = f.collector.run(soon(), request);
    CHECK_GT(failing.times(), 0);
    REQUIRE(report.has_value());
    CHECK_FALSE(report->problems.empty());
    CHECK(f.store.record("r/a:1").has_value());
    CHECK(*f.store.has_layer(chain[0]));
  }
  SUBCASE("it is larger than any that we write") {
    for (const auto& entry : std::filesystem::directory_iterator(f.dir / "ingest")) {
      std::filesystem::resize_file(entry.path(), oci::kHoldFileBytesMax + 1);
    }
    const auto report = f.collector.run(soon(), request);
    REQUIRE(report.has_value());
    CHECK_FALSE(report->problems.empty());
    CHECK(f.store.record("r/a:1").has_value());
  }
}

TEST_CASE("adding waits for a collection that is under way") {
  Fixture f;
  auto hold = f.hold();
  {
    const auto collection = f.store.lease(soon(), oci::Store::Lease::kExclusive);
    REQUIRE(collection.has_value());
    const auto refused = hold->add_blobs(base::Context::background().with_timeout(20ms), {digest_of("x")});
    REQUIRE_FALSE(refused.has_value());
    CHECK_EQ(refused.error().code, base::Code::kDeadlineExceeded);
  }
  CHECK(hold->add_blobs(soon(), {digest_of("x")}).has_value());
}
