#include "oci/seal.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "oci/fsck.h"
#include "tests/oci/image_fixture.h"
#include "tests/temp_dir.h"

namespace fs = std::filesystem;

namespace {

base::Context soon() {
  return base::Context::cleanup();
}

void set_time(const fs::path& path, time_t seconds) {
  const timespec times[2] = {{seconds, 0}, {seconds, 0}};
  REQUIRE_EQ(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
}

/// d/one, d/two (a second name of it), link → d/one, and "deep", with fixed times.
void make_layer(const fs::path& root) {
  fs::create_directories(root / "d");
  fs::create_directories(root / "deep/er");
  std::ofstream(root / "d/one") << "12345";
  fs::create_hard_link(root / "d/one", root / "d/two");
  fs::create_symlink("d/one", root / "link");
  for (const char* name : {"d/one", "link", "d", "deep/er", "deep"}) set_time(root / name, 1000);
}

oci::Seal seal_of(const fs::path& root) {
  auto seal = oci::seal_layer(soon(), root);
  REQUIRE(seal.has_value());
  return *seal;
}

}  // namespace

TEST_CASE("a seal counts, and says the same of the same") {
  const tests::TempDir dir;
  make_layer(dir / "a");
  make_layer(dir / "b");
  const oci::Seal seal = seal_of(dir / "a");
  CHECK_EQ(seal.entries, 6);
  CHECK_EQ(seal.bytes, 10);  // by name, as an archive counts
  CHECK(seal == seal_of(dir / "b"));
  set_time(dir / "a", 77);  // the root's time is nobody's
  CHECK(seal == seal_of(dir / "a"));
  const auto again = oci::decode_seal(oci::encode(seal));
  REQUIRE(again.has_value());
  CHECK(*again == seal);
}

TEST_CASE("a seal is broken by") {
  const tests::TempDir dir;
  const fs::path root = dir / "layer";
  make_layer(root);
  const oci::Seal before = seal_of(root);
  const auto keep_times = [&](const std::function<void()>& change) {
    change();
    for (const char* name : {"d/one", "link", "d", "deep/er", "deep"}) {
      if (fs::exists(fs::symlink_status(root / name))) set_time(root / name, 1000);
    }
  };
  SUBCASE("a file that is empty") {
    keep_times([&] { fs::resize_file(root / "d/one", 0); });
  }
  SUBCASE("a file that is gone") {
    keep_times([&] { fs::remove(root / "d/two"); });
  }
  SUBCASE("a file that came") {
    keep_times([&] { std::ofstream(root / "d/three") << ""; });
  }
  SUBCASE("another name") {
    keep_times([&] { fs::rename(root / "d/two", root / "d/tow"); });
  }
  SUBCASE("permissions") {
    keep_times([&] { fs::permissions(root / "deep", fs::perms::owner_all); });
  }
  SUBCASE("a link's target") {
    keep_times([&] {
      fs::remove(root / "link");
      fs::create_symlink("d/two", root / "link");
    });
  }
  SUBCASE("a hard link that is a copy") {
    keep_times([&] {
      fs::remove(root / "d/two");
      std::ofstream(root / "d/two") << "12345";
      set_time(root / "d/two", 1000);
    });
  }
  SUBCASE("a time") {
    set_time(root / "d/one", 1001);
  }
  SUBCASE("the root's permissions") {
    keep_times([&] { fs::permissions(root, fs::perms::owner_all); });
  }
  CHECK_FALSE(seal_of(root) == before);
}

TEST_CASE("links are not followed, and what is too deep is refused") {
  const tests::TempDir dir;
  fs::create_directory(dir / "layer");
  fs::create_symlink("/proc", dir / "layer/proc");
  CHECK_EQ(seal_of(dir / "layer").entries, 1);
  fs::path deep = dir / "layer";
  for (int i = 0; i <= oci::kSealDepthMax; ++i) deep /= "d";
  fs::create_directories(deep);
  const auto seal = oci::seal_layer(soon(), dir / "layer");
  REQUIRE_FALSE(seal.has_value());
  CHECK_EQ(seal.error().code, base::Code::kInvalidArgument);
  CHECK_EQ(oci::seal_layer(soon(), dir / "none").error().code, base::Code::kNotFound);
}

TEST_CASE("what is no seal") {
  for (const char* text : {"", "{", "{}", R"({"entries":1,"bytes":2})", R"({"entries":-1,"bytes":2,"tree":"sha256:x"})",
                           R"({"entries":1,"bytes":2,"tree":"md5:x"})"}) {
    CAPTURE(text);
    CHECK_FALSE(oci::decode_seal(text).has_value());
  }
}

TEST_CASE("after a boot only what came last before it is looked at") {
  const tests::TempDir dir;
  oci::Store store(dir.path());
  REQUIRE(store.create().has_value());
  tests::add_image(store, "r/a:1", {"one"});
  const auto blob = tests::add_blob(store, "right");
  std::ofstream(store.blob_path(blob), std::ios::trunc) << "wrong";
  const auto uses = [] { return oci::GcUses(); };
  const auto check = [&](oci::GcTime before) {
    oci::FsckRequest request;
    request.recent = {before, std::chrono::minutes(5)};
    const auto report = oci::check_store(soon(), store, request, uses);
    REQUIRE(report.has_value());
    return std::pair(report->blobs, report->findings.size());
  };
  const auto now = std::chrono::system_clock::now();
  CHECK_EQ(check(now + std::chrono::hours(1)), std::pair<std::uint64_t, std::size_t>(3, 1));  // all, long before it
  CHECK_EQ(check(now - std::chrono::hours(1)), std::pair<std::uint64_t, std::size_t>(0, 0));  // all came after it
}
