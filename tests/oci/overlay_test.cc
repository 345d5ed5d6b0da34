#include "oci/overlay.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "tests/failing_call.h"
#include "tests/temp_dir.h"

namespace {

void write(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

}  // namespace

TEST_CASE("layers are mounted bottom first, with the attributes of the top one's root") {
  if (::geteuid() != 0) return;
  const tests::TempDir dir;
  oci::OverlayNames names;
  for (int i = 0; i < 3; ++i) {
    names.layer_dirs.push_back(dir / base::str("layer", i));
    REQUIRE(base::make_dirs(names.layer_dirs.back(), 0755).has_value());
    write(names.layer_dirs.back() + "/who", base::str(i));
    write(base::str(names.layer_dirs.back(), "/only", i), "x");
  }
  ::chmod(names.layer_dirs[2].c_str(), 01777);
  REQUIRE_EQ(::chown(names.layer_dirs[2].c_str(), 5, 6), 0);
  REQUIRE_EQ(::setxattr(names.layer_dirs[2].c_str(), "user.x", "y", 1, 0), 0);
  names.upper_dir = dir / "task/upper";
  names.work_dir = dir / "task/work";
  names.target = dir / "target";
  REQUIRE(base::make_dirs(names.target, 0755).has_value());

  const auto mounted = oci::mount_overlay(names);
  if (!mounted) MESSAGE(mounted.error().message);
  REQUIRE(mounted.has_value());
  CHECK_EQ(*base::read_file(names.target + "/who", 10), "2");
  CHECK(std::filesystem::exists(names.target + "/only0"));
  struct stat info {};
  REQUIRE_EQ(::stat(names.target.c_str(), &info), 0);
  CHECK_EQ(info.st_mode & 07777, 01777);
  CHECK_EQ(info.st_uid, 5);
  CHECK_EQ(info.st_gid, 6);
  char value = 0;
  CHECK_EQ(::getxattr(names.target.c_str(), "user.x", &value, 1), 1);
  write(names.target + "/new", "in upper");
  CHECK(std::filesystem::exists(names.upper_dir + "/new"));

  CHECK(oci::mount_overlay(names).has_value());  // again: left alone
  CHECK(oci::unmount_all(names.target).has_value());
  CHECK_FALSE(*base::is_mount_point(names.target));
  CHECK(oci::unmount_all(names.target).has_value());
  CHECK(oci::unmount_all(dir / "nothing").has_value());
  CHECK(oci::mount_overlay(names).has_value());  // once more, over what the volatile mount left in work
  CHECK(oci::unmount_all(names.target).has_value());
}

TEST_CASE("long paths, odd characters and many layers do not matter") {
  if (::geteuid() != 0) return;
  const tests::TempDir dir;
  oci::OverlayNames names;
  const std::string odd = dir / base::str("a,b:c\\d ", std::string(200, 'x'), "/", std::string(200, 'y'));
  for (int i = 0; i < 128; ++i) {
    names.layer_dirs.push_back(base::str(odd, "/", i));
    REQUIRE(base::make_dirs(names.layer_dirs.back(), 0755).has_value());
    write(base::str(names.layer_dirs.back(), "/f", i), "x");
  }
  names.upper_dir = odd + "/upper";
  names.work_dir = odd + "/work";
  names.target = odd + "/target";
  REQUIRE(base::make_dirs(names.target, 0755).has_value());
  const auto mounted = oci::mount_overlay(names);
  if (!mounted) MESSAGE(mounted.error().message);
  REQUIRE(mounted.has_value());
  CHECK(std::filesystem::exists(names.target + "/f0"));
  CHECK(std::filesystem::exists(names.target + "/f127"));
  CHECK(oci::unmount_all(names.target).has_value());
}

TEST_CASE("a short path with a backslash, and an image without layers") {
  if (::geteuid() != 0) return;
  const tests::TempDir dir;
  oci::OverlayNames names;
  names.upper_dir = dir / "a\\b,c:d/upper";
  names.work_dir = dir / "a\\b,c:d/work";
  names.target = dir / "target";
  REQUIRE(base::make_dirs(names.target, 0755).has_value());
  const auto mounted = oci::mount_overlay(names);
  if (!mounted) MESSAGE(mounted.error().message);
  REQUIRE(mounted.has_value());
  CHECK(std::filesystem::is_empty(names.target));
  write(names.target + "/new", "in upper");
  CHECK(std::filesystem::exists(names.upper_dir + "/new"));
  CHECK(oci::unmount_all(names.target).has_value());
}

TEST_CASE("too many layers, a missing target") {
  if (::geteuid() != 0) return;
  const tests::TempDir dir;
  oci::OverlayNames names{{dir / "l"}, dir / "upper", dir / "work", dir / "missing"};
  REQUIRE(base::make_dirs(dir / "l", 0755).has_value());
  CHECK_EQ(oci::mount_overlay(names).error().code, base::Code::kNotFound);
  names.layer_dirs = std::vector<std::string>(501, dir / "l");
  CHECK_EQ(oci::mount_overlay(names).error().code, base::Code::kResourceExhausted);
}

TEST_CASE("a layer that somebody made a link of is not what a task gets as its root") {
  if (::geteuid() != 0) return;
  const tests::TempDir dir;
  for (const char* path : {"host", "store/layers/real", "elsewhere/link", "target"}) {
    REQUIRE(base::make_dirs(dir / path, 0755).has_value());
  }
  REQUIRE_EQ(::symlink((dir / "host").c_str(), (dir / "store/layers/link").c_str()), 0);
  REQUIRE_EQ(::symlink((dir / "elsewhere").c_str(), (dir / "store/links").c_str()), 0);
  REQUIRE_EQ(::symlink("store", (dir / "operators").c_str()), 0);
  for (const char* layer : {"store/layers/link", "store/links/link"}) {
    CAPTURE(layer);
    const auto mounted = oci::mount_overlay({{dir / layer}, dir / "upper", dir / "work", dir / "target"});
    REQUIRE_FALSE(mounted.has_value());
    CHECK_EQ(mounted.error().sys_errno, ELOOP);
    CHECK_FALSE(*base::is_mount_point(dir / "target"));
  }
  // A link above the store is the operator's.
  const auto mounted =
      oci::mount_overlay({{dir / "operators/layers/real"}, dir / "upper", dir / "work", dir / "target"});
  CHECK(mounted.has_value());
  CHECK(oci::unmount_all(dir / "target").has_value());
}

TEST_CASE("not knowing whether something is mounted is an error, and clears nothing away") {
  const tests::TempDir dir;
  const oci::OverlayNames names{{dir / "layer"}, dir / "upper", dir / "work", dir / "target"};
  for (const std::string& path : {names.layer_dirs[0], names.upper_dir, names.work_dir + "/work", names.target}) {
    REQUIRE(base::make_dirs(path, 0755).has_value());
  }
  for (const int error : {ENOMEM, EIO, EACCES}) {
    CAPTURE(error);
    const tests::FailingCall failing("stat", "/target", error);
    const auto mounted = oci::mount_overlay(names);
    CHECK_GT(failing.times(), 0);
    REQUIRE_FALSE(mounted.has_value());
    CHECK_EQ(mounted.error().sys_errno, error);
    CHECK(std::filesystem::exists(names.work_dir + "/work"));
  }
}
