#include "oci/gc.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/dir.h"
#include "base/file.h"
#include "tests/failing_call.h"
#include "tests/oci/image_fixture.h"
#include "tests/temp_dir.h"

using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kMB = 1'000'000;

/// Three images, the older the further to the left; b and c share a layer; and one item that nothing leads to.
oci::GcInventory inventory() {
  oci::GcInventory out;
  out.now = oci::GcTime(std::chrono::hours(1000));
  const auto ago = [&](std::chrono::minutes age) { return out.now - age; };
  out.images = {{"r/c:1", "sha256:c", ago(10min), {"/c", "/shared"}},
                {"r/a:1", "sha256:a", ago(3000min), {"/a"}},
                {"r/b:1", "sha256:b", ago(200min), {"/b", "/shared"}}};
  for (const char* path : {"/a", "/b", "/c", "/shared", "/garbage"}) {
    out.items[path] = {100 * kMB, 10, ago(3000min)};
  }
  out.disk = {10'000 * kMB, 5'000 * kMB, 1000, 500};
  return out;
}

std::vector<std::string> removed(const oci::GcPlan& plan) {
  std::vector<std::string> out = plan.items;
  out.insert(out.end(), plan.garbage.begin(), plan.garbage.end());
  std::sort(out.begin(), out.end());
  return out;
}

std::string reason_of(const oci::GcPlan& plan, const std::string& reference) {
  for (const oci::GcDecision& decision : plan.report.images) {
    if (decision.reference == reference) return decision.reason;
  }
  return "not listed";
}

using Paths = std::vector<std::string>;

}  // namespace

TEST_CASE("a tree is measured by descriptors") {
  const tests::TempDir dir;
  CHECK_EQ(oci::measure_tree(dir / "none").error().code, base::Code::kNotFound);
  std::ofstream(dir / "file") << "x";
  std::filesystem::create_directory_symlink("/", dir / "link");
  CHECK_EQ(oci::measure_tree(dir / "link")->inodes, 1);
  CHECK_EQ(oci::measure_tree(dir / "file")->inodes, 1);
  CHECK_EQ(oci::measure_tree(dir.path())->inodes, 3);
  // Longer than a path may be, and then too deep.
  base::Fd at = *base::open_dir(dir.path());
  const auto dig = [&](std::size_t levels, const std::string& name) {
    for (std::size_t i = 0; i < levels; ++i) {
      REQUIRE(::mkdirat(at.get(), name.c_str(), 0700) == 0);
      at = *base::open_at(at.get(), name, O_PATH | O_DIRECTORY);
    }
  };
  dig(30, std::string(200, 'd'));
  CHECK_EQ(oci::measure_tree(dir.path())->inodes, 33);
  dig(500, "d");
  CHECK_EQ(oci::measure_tree(dir.path()).error().code, base::Code::kResourceExhausted);
}

TEST_CASE("what is pinned goes by its name only") {
  auto all = inventory();
  all.images[1].pinned = true;
  oci::GcRequest request;
  request.all = true;
  const auto plan = oci::plan_gc(all, request);
  CHECK_EQ(reason_of(plan, "r/a:1"), "pinned");
  CHECK_EQ(plan.references, Paths{"r/b:1", "r/c:1"});
  request.references = {"r/a:1"};
  CHECK_EQ(oci::plan_gc(all, request).references, Paths{"r/a:1"});
}

TEST_CASE("without pressure only garbage goes") {
  const auto plan = oci::plan_gc(inventory(), {});
  CHECK(plan.references.empty());
  CHECK_EQ(removed(plan), Paths{"/garbage"});
  CHECK_EQ(plan.report.garbage_items, 1);
  CHECK_EQ(plan.report.garbage_bytes, 100 * kMB);
  CHECK_EQ(plan.report.store_bytes, 400 * kMB);
  CHECK_EQ(reason_of(plan, "r/b:1"), "within all limits");
}

TEST_CASE("garbage that came lately may belong to a pull that is under way") {
  oci::GcRequest request;
  request.policy.keep_at_least = 100h;
  CHECK(oci::plan_gc(inventory(), request).items.empty());
  auto fresh = inventory();
  fresh.items["/garbage"].changed = fresh.now - 59min;
  CHECK(oci::plan_gc(fresh, {}).items.empty());
  fresh.items["/garbage"].changed = fresh.now - 61min;
  CHECK_EQ(removed(oci::plan_gc(fresh, {})), Paths{"/garbage"});
}

TEST_CASE("the least recently used images go until the store fits, shared layers with the last that needs them") {
  oci::GcRequest request;
  struct Case {
    std::uint64_t max;
    Paths references;
    Paths items;
  };
  const std::vector<Case> cases = {{500 * kMB, {}, {"/garbage"}},  // full, but not of images
                                   {400 * kMB, {"r/a:1"}, {"/a", "/garbage"}},
                                   {300 * kMB, {"r/a:1", "r/b:1"}, {"/a", "/b", "/garbage"}},
                                   {200 * kMB, {"r/a:1", "r/b:1", "r/c:1"}, {"/a", "/b", "/c", "/garbage", "/shared"}}};
  for (const Case& c : cases) {
    CAPTURE(c.max);
    request.policy.store_bytes_max = c.max;
    const auto plan = oci::plan_gc(inventory(), request);
    CHECK_EQ(plan.references, c.references);
    CHECK_EQ(removed(plan), c.items);
  }
  request.policy.store_bytes_max = 400 * kMB;
  CHECK_EQ(reason_of(oci::plan_gc(inventory(), request), "r/a:1"), "the store holds 500.0 MB of 400.0 MB");
}

TEST_CASE("what is in use, pinned or fresh stays under any pressure, and says why") {
  oci::GcRequest request;
  request.policy.store_bytes_max = 1;
  request.policy.pins = {"r/b:*"};
  request.policy.keep_at_least = 15min;
  auto all = inventory();
  all.uses.known = {{{"/elsewhere"}, "sha256:a", "task web"}};
  const auto plan = oci::plan_gc(all, request);
  CHECK(plan.references.empty());
  CHECK_EQ(removed(plan), Paths{"/garbage"});
  CHECK_EQ(reason_of(plan, "r/a:1"), "in use: task web");
  CHECK_EQ(reason_of(plan, "r/b:1"), "pinned by \"r/b:*\"");
  CHECK_EQ(reason_of(plan, "r/c:1"), "used 10 minutes ago");
}

TEST_CASE("layers of a task outlive the entry of its image, which a tag may have moved from") {
  auto all = inventory();
  all.uses.known = {{{"/garbage"}, "sha256:old", "task web"}};
  CHECK(oci::plan_gc(all, {}).items.empty());
}

TEST_CASE("old images go at their age, not before") {
  oci::GcRequest request;
  request.policy.unused_max = std::chrono::minutes(2999);
  const auto plan = oci::plan_gc(inventory(), request);
  CHECK_EQ(plan.references, Paths{"r/a:1"});
  CHECK_EQ(reason_of(plan, "r/a:1"), "unused for 2 days, which is more than 2 days");
  request.policy.unused_max = std::chrono::minutes(3001);
  CHECK(oci::plan_gc(inventory(), request).references.empty());
}

TEST_CASE("a full file system, or one without inodes, is brought down to the low mark") {
  auto full = inventory();
  full.disk.bytes_free = 1'400 * kMB;  // 86 %
  oci::GcRequest request;
  request.policy.high_percent = 85;
  request.policy.low_percent = 84;  // 1,600 free: garbage and one image
  auto plan = oci::plan_gc(full, request);
  CHECK_EQ(plan.references, Paths{"r/a:1"});
  CHECK_EQ(reason_of(plan, "r/a:1"), "the file system is 86 % full");
  auto few = inventory();
  few.disk.inodes_free = 140;
  plan = oci::plan_gc(few, request);
  CHECK_EQ(plan.references, Paths{"r/a:1"});
  CHECK_EQ(reason_of(plan, "r/a:1"), "86 % of all inodes are used");
  few.disk.inodes_total = few.disk.inodes_free = 0;  // a file system that does not count them
  CHECK(oci::plan_gc(few, request).references.empty());
}

TEST_CASE("room is made for a pull") {
  oci::GcRequest request;
  request.room_bytes = 5'150 * kMB;  // 5,000 are free; garbage gives 100, one image the rest
  auto plan = oci::plan_gc(inventory(), request);
  CHECK_EQ(plan.references, Paths{"r/a:1"});
  CHECK_EQ(reason_of(plan, "r/a:1"), "5150.0 MB of free space are needed");
}

TEST_CASE("room is made within the store's limit, too") {
  oci::GcRequest request;
  request.policy.store_bytes_max = 600 * kMB;
  CHECK(oci::plan_gc(inventory(), request).references.empty());
  request.room_bytes = 150 * kMB;  // 540 are the mark: 400 without garbage, so one image has to go
  CHECK_EQ(oci::plan_gc(inventory(), request).references, Paths{"r/a:1"});
}

TEST_CASE("single images, and all of them") {
  oci::GcRequest request;
  request.references = {"r/b:1"};
  auto plan = oci::plan_gc(inventory(), request);
  CHECK_EQ(plan.references, Paths{"r/b:1"});
  CHECK_EQ(removed(plan), Paths{"/b"});
  CHECK_EQ(plan.report.freed_bytes, 100 * kMB);
  request = {};
  request.all = true;
  request.policy.keep_at_least = 1000h;
  CHECK_EQ(oci::plan_gc(inventory(), request).references.size(), 3);
}

TEST_CASE("pins") {
  CHECK(oci::matches_pin("docker.io/library/redis:7", "docker.io/library/redis:7"));
  CHECK_FALSE(oci::matches_pin("docker.io/library/redis", "docker.io/library/redis:7"));
  CHECK(oci::matches_pin("docker.io/library/*", "docker.io/library/redis:7"));
  CHECK(oci::matches_pin("*/redis:*", "docker.io/library/redis:7"));
  CHECK(oci::matches_pin("*", ""));
  CHECK_FALSE(oci::matches_pin("*/redis:8", "docker.io/library/redis:7"));
}

TEST_CASE("while a user's needs are unknown nothing that it might need goes") {
  auto all = inventory();
  all.uses.known = {{{"/a"}, "sha256:a", "task web"}};
  all.uses.unknown = {"the record of task db cannot be read"};
  oci::GcRequest request;
  request.all = true;
  SUBCASE("everything was asked for") {}
  SUBCASE("the disk is full") {
    request.all = false;
    all.disk.bytes_free = 0;
  }
  SUBCASE("one image was asked for") {
    request.references = {"r/b:1"};
  }
  const auto plan = oci::plan_gc(all, request);
  CHECK(plan.references.empty());
  CHECK(removed(plan).empty());
  CHECK_EQ(plan.report.freed_bytes, 0);
  CHECK_EQ(reason_of(plan, "r/b:1"), "may be in use: the record of task db cannot be read");
  REQUIRE_EQ(plan.report.problems.size(), 1);
  CHECK_NE(plan.report.problems[0].find("the record of task db cannot be read"), std::string::npos);
}

TEST_CASE("an image that cannot be read might need any layer, and can be removed by its name") {
  auto all = inventory();
  all.images.push_back({"r/x:1", "sha256:x", all.now, {}, "Input/output error"});
  oci::GcRequest request;
  request.all = true;
  auto plan = oci::plan_gc(all, request);
  CHECK(plan.references.empty());
  CHECK(removed(plan).empty());
  CHECK_EQ(reason_of(plan, "r/a:1"), "image r/x:1 cannot be read and might share its layers");
  REQUIRE_EQ(plan.report.problems.size(), 1);
  CHECK_NE(plan.report.problems[0].find("image r/x:1 cannot be read: Input/output error"), std::string::npos);

  request.references = {"r/x:1"};
  plan = oci::plan_gc(all, request);
  CHECK_EQ(plan.references, Paths{"r/x:1"});
  CHECK(removed(plan).empty());
}

TEST_CASE("a run removes what was planned, and nothing on a dry run") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto keep = tests::add_image(store, "r/keep:1", {"base", "keep"});
  tests::add_image(store, "r/drop:1", {"base", "drop"});
  const auto drop_content = *store.content(*store.record("r/drop:1"));
  oci::GcUses uses;
  uses.known = {{{}, keep.manifest_digest.text(), "task web"}};
  oci::Collector collector(store, [&] { return uses; });
  oci::GcRequest request;
  request.all = true;
  request.dry_run = true;
  const auto ctx = base::Context::cleanup();
  REQUIRE(collector.run(ctx, request).has_value());
  CHECK(store.record("r/drop:1").has_value());
  request.dry_run = false;
  const auto report = collector.run(ctx, request);
  REQUIRE(report.has_value());
  CHECK_FALSE(store.record("r/drop:1").has_value());
  CHECK(store.load(keep).has_value());
  int left = 0;
  for (const std::string& path : drop_content) left += ::access(path.c_str(), F_OK) == 0 ? 1 : 0;
  CHECK_EQ(left, 1);  // the layer that both have
  CHECK(std::filesystem::is_empty(dir / "trash"));
  uses.known.clear();
  REQUIRE(collector.run(ctx, request).has_value());
  CHECK(store.records()->empty());
  CHECK(std::filesystem::is_empty(dir / "layers"));
  CHECK(std::filesystem::is_empty(dir / "blobs/sha256"));
}

TEST_CASE("a start that is under way keeps collection waiting, another start does not") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto start = store.lease(base::Context::cleanup(), oci::Store::Lease::kShared);
  REQUIRE(start.has_value());
  CHECK(store.lease(base::Context::cleanup(), oci::Store::Lease::kShared).has_value());
  oci::Collector collector(store, [] { return oci::GcUses(); });
  const auto refused = collector.run(base::Context::background().with_timeout(20ms), {});
  REQUIRE_FALSE(refused.has_value());
  CHECK_EQ(refused.error().code, base::Code::kDeadlineExceeded);
}

TEST_CASE("a damaged image can be removed") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  const auto image = tests::add_image(store, "r/a:1", {"one"});
  std::ofstream(store.blob_path(image.manifest_digest)) << "damaged";
  oci::Collector collector(store, [] { return oci::GcUses(); });
  oci::GcRequest request;
  request.all = true;
  REQUIRE(collector.run(base::Context::cleanup(), request).has_value());
  CHECK(store.records()->empty());  // what it led to is garbage now, and goes when it is old enough
}

namespace {

/// A store with two images, r/a:1 and r/b:1, whose bottom layer is the same.
struct Two {
  tests::TempDir dir;
  oci::Store store{dir.path()};
  oci::GcUses uses;
  oci::Collector collector{store, [this] { return uses; }};
  oci::GcRequest everything;

  Two() {
    REQUIRE(store.create().has_value());
    tests::add_image(store, "r/a:1", {"base", "a"});
    tests::add_image(store, "r/b:1", {"base", "b"});
    everything.all = true;
  }
  std::set<std::string> files() const {
    std::set<std::string> out;
    for (const char* folder : {"blobs/sha256", "layers"}) {
      const auto names = *base::list_dir(dir / folder);
      for (const std::string& name : names) out.insert(base::str(folder, "/", name));
    }
    return out;
  }
};

std::string layer_hex(const std::vector<std::string>& layers) {
  std::vector<oci::Digest> digests;
  for (const std::string& layer : layers) digests.push_back(oci::Digest::of_bytes(layer));
  return std::string(oci::chain_ids(digests).back().hex());
}

}  // namespace

TEST_CASE("an image whose bottom layer is not compressed: blob and folder have one name, and both go") {
  Two two;
  std::ofstream(two.store.blob_path(oci::Digest::of_bytes("base"))) << "base";
  std::ofstream(two.dir / ("layers/" + layer_hex({"base"})) + "/file") << "base";
  const auto report = two.collector.run(base::Context::cleanup(), two.everything);
  REQUIRE(report.has_value());
  CHECK(report->problems.empty());
  CHECK(two.files().empty());
  CHECK(std::filesystem::is_empty(two.dir / "trash"));
}

TEST_CASE("what already lies in the trash, whatever it is called, is in nobody's way") {
  Two two;
  // As earlier versions called it, of a process that had our pid.
  const std::string stale = base::str(two.dir / "trash/image-", layer_hex({"base"}), ".", ::getpid());
  REQUIRE(base::make_dirs(stale + "/x", 0700).has_value());
  const auto report = two.collector.run(base::Context::cleanup(), two.everything);
  REQUIRE(report.has_value());
  CHECK(report->problems.empty());
  CHECK(two.files().empty());
  CHECK(std::filesystem::is_empty(two.dir / "trash"));
}

TEST_CASE("one thing that cannot be moved to the trash stops nothing else, and is told") {
  Two two;
  const std::string stays = "layers/" + layer_hex({"base"});
  {
    const tests::FailingCall busy("rename", stays, EBUSY);
    const auto report = two.collector.run(base::Context::cleanup(), two.everything);
    REQUIRE(report.has_value());
    REQUIRE_EQ(report->problems.size(), 1);
    CHECK_NE(report->problems[0].find(stays), std::string::npos);
    CHECK_NE(report->problems[0].find("busy"), std::string::npos);
  }
  CHECK_EQ(two.files(), std::set<std::string>{stays});
  CHECK(two.store.records()->empty());
}

TEST_CASE("trash that cannot be removed stops nothing else, is told, and goes when it can") {
  Two two;
  REQUIRE(base::make_dirs(two.dir / "trash/image-old", 0700).has_value());
  std::ofstream(two.dir / "trash/image-old/immutable") << "x";
  REQUIRE(base::make_dirs(two.dir / "trash/not-ours", 0700).has_value());
  {
    const tests::FailingCall immutable("unlink", "/image-old/immutable", EPERM);
    const auto report = two.collector.run(base::Context::cleanup(), two.everything);
    REQUIRE(report.has_value());
    REQUIRE_EQ(report->problems.size(), 1);
    CHECK_NE(report->problems[0].find("trash/image-old"), std::string::npos);
  }
  CHECK(two.files().empty());
  CHECK_EQ(*base::list_dir(two.dir / "trash"), Paths{"image-old", "not-ours"});
  REQUIRE(two.collector.run(base::Context::cleanup(), two.everything)->problems.empty());
  CHECK_EQ(*base::list_dir(two.dir / "trash"), Paths{"not-ours"});
}

TEST_CASE("a trash that leads elsewhere is not followed") {
  Two two;
  REQUIRE(base::make_dirs(two.dir / "elsewhere/image-mine", 0700).has_value());
  std::filesystem::create_directory_symlink(two.dir / "elsewhere", two.dir / "trash");
  const auto before = two.files();
  const auto report = two.collector.run(base::Context::cleanup(), two.everything);
  REQUIRE(report.has_value());
  CHECK_FALSE(report->problems.empty());
  CHECK_EQ(two.files(), before);
  CHECK_EQ(*base::list_dir(two.dir / "elsewhere"), Paths{"image-mine"});
}

TEST_CASE("when index.json cannot be replaced, images and their content stay") {
  Two two;
  const auto before = two.files();
  const tests::FailingCall full("write", ".tmp-index.json", ENOSPC);
  const auto report = two.collector.run(base::Context::cleanup(), two.everything);
  REQUIRE(report.has_value());
  CHECK_FALSE(report->problems.empty());
  for (const oci::GcDecision& image : report->images) CHECK_FALSE(image.removed);
  CHECK_EQ(report->freed_bytes, 0);
  CHECK_EQ(two.files(), before);
  CHECK_EQ(two.store.records()->size(), 2);
}

TEST_CASE("what cannot be read is in use: nothing is removed, and the reason is told") {
  Two two;
  const std::string manifest(two.store.record("r/a:1")->manifest_digest.hex());
  struct Case {
    const char* call;
    std::string path;
  };
  const Case cases[] = {
      {"open", "/index.json"},   {"stat", "/index.json"},      {"read", "/index.json"}, {"open", manifest},
      {"read", manifest},        {"stat", manifest},           {"open", "/layers"},     {"readdir", "/layers"},
      {"open", "/blobs/sha256"}, {"readdir", "/blobs/sha256"}, {"open", "/lease"},      {"lock", "/lease"},
  };
  const auto before = two.files();
  for (const bool by_age : {false, true}) {
    oci::GcRequest request;
    request.all = !by_age;
    request.policy.unused_max = std::chrono::seconds(by_age ? 1'000'000 : 0);  // nothing is that old
    for (const Case& c : cases) {
      for (const int error : {EMFILE, ENOMEM, EIO, EACCES}) {
        CAPTURE(c.call);
        CAPTURE(c.path);
        CAPTURE(error);
        oci::Store store(two.dir.path());  // one that has nothing in memory
        oci::Collector collector(store, [] { return oci::GcUses(); });
        {
          const tests::FailingCall failing(c.call, c.path, error);
          const auto report = collector.run(base::Context::cleanup(), request);
          CHECK_GT(failing.times(), 0);
          const bool told = !report || !report->problems.empty();
          CHECK(told);
        }
        CHECK_EQ(two.files(), before);
        CHECK_EQ(two.store.records()->size(), 2);
      }
    }
  }
}

TEST_CASE("a document that ends early is a broken disk, not a damaged image") {
  Two two;
  const auto before = two.files();
  const std::string manifest(two.store.record("r/a:1")->manifest_digest.hex());
  for (const std::string& path : {manifest, std::string("/index.json")}) {
    CAPTURE(path);
    oci::Store store(two.dir.path());
    oci::Collector collector(store, [] { return oci::GcUses(); });
    {
      const tests::FailingCall failing("read", path, tests::FailingCall::kShortRead);
      const auto report = collector.run(base::Context::cleanup(), two.everything);
      CHECK_GT(failing.times(), 0);
      const bool told = !report || !report->problems.empty();
      CHECK(told);
    }
    CHECK_EQ(two.files(), before);
  }
  CHECK_EQ(two.store.records()->size(), 2);
}

TEST_CASE("an image that cannot be read can be removed by its name, and then the rest") {
  Two two;
  const std::string manifest(two.store.record("r/a:1")->manifest_digest.hex());
  {
    const tests::FailingCall broken("read", manifest, EIO);
    oci::GcRequest request;
    request.references = {"r/a:1"};
    REQUIRE(two.collector.run(base::Context::cleanup(), request).has_value());
    CHECK_EQ(two.store.record("r/a:1").error().code, base::Code::kNotFound);
    CHECK(two.store.load(*two.store.record("r/b:1")).has_value());
    CHECK(two.collector.run(base::Context::cleanup(), two.everything)->problems.empty());
  }
  CHECK(two.store.records()->empty());
}

TEST_CASE("while it is not known what tasks use, a run removes nothing") {
  Two two;
  const auto before = two.files();
  two.uses.unknown = {"the record of task db cannot be read"};
  two.everything.references = {"r/a:1"};
  for (int i = 0; i < 2; ++i) {
    const auto report = two.collector.run(base::Context::cleanup(), two.everything);
    REQUIRE(report.has_value());
    CHECK_FALSE(report->problems.empty());
    CHECK_EQ(two.files(), before);
    CHECK_EQ(two.store.records()->size(), 2);
    two.everything.references.clear();
  }
}
