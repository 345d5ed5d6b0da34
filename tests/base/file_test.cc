#include "base/file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/temp_dir.h"

using base::Code;
namespace fs = std::filesystem;

TEST_CASE("write_file_atomic replaces the whole file and leaves no temp") {
  const tests::TempDir dir;
  REQUIRE(base::write_file_atomic(dir / "f", "one", 0600, base::Durable::kYes).has_value());
  REQUIRE(base::write_file_atomic(dir / "f", "two!", 0640, base::Durable::kNo).has_value());
  CHECK_EQ(*base::read_file(dir / "f", 100), "two!");
  struct stat st {};
  ::stat((dir / "f").c_str(), &st);
  CHECK_EQ(st.st_mode & 0777, 0640);
  CHECK_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
  CHECK_EQ(base::write_file_atomic(dir / "missing/f", "x", 0600, base::Durable::kNo).error().code, Code::kNotFound);
}

TEST_CASE("read_file stops at the limit and names the file") {
  const tests::TempDir dir;
  REQUIRE(base::write_file_atomic(dir / "f", "12345", 0600, base::Durable::kNo).has_value());
  CHECK(base::read_file(dir / "f", 5).has_value());
  CHECK_EQ(base::read_file(dir / "f", 4).error().code, Code::kResourceExhausted);
  CHECK_EQ(base::read_file(dir / "g", 4).error().code, Code::kNotFound);
}

TEST_CASE("open_in_root keeps absolute symlinks and .. inside") {
  const tests::TempDir dir;
  REQUIRE(base::make_dirs(dir / "root/etc", 0755).has_value());
  REQUIRE(base::write_file_atomic(dir / "root/etc/passwd", "inside", 0600, base::Durable::kNo).has_value());
  fs::create_symlink("/etc/passwd", dir / "root/absolute");
  fs::create_symlink("../../../../../etc/passwd", dir / "root/up");
  fs::create_symlink("/proc/self/root/etc/passwd", dir / "root/magic");
  auto root = base::open_dir(dir / "root");
  REQUIRE(root.has_value());
  for (const char* path : {"absolute", "up", "/etc/passwd", "../../etc/passwd"}) {
    auto fd = base::open_in_root(root->get(), path, O_RDONLY);
    REQUIRE_MESSAGE(fd.has_value(), path);
    char text[6];
    REQUIRE_EQ(::read(fd->get(), text, sizeof text), 6);
    CHECK_EQ(std::string(text, 6), "inside");
  }
  CHECK_FALSE(base::open_in_root(root->get(), "magic", O_RDONLY).has_value());
  CHECK_FALSE(base::open_beneath(root->get(), "absolute", O_RDONLY).has_value());
  CHECK_FALSE(base::open_beneath(root->get(), "../root/etc/passwd", O_RDONLY).has_value());
  CHECK(base::open_beneath(root->get(), "etc/passwd", O_RDONLY).has_value());
}

TEST_CASE("remove_tree removes deep trees, read-only directories and symlinks, never what they point to") {
  const tests::TempDir dir;
  REQUIRE(base::make_dirs(dir / "keep", 0755).has_value());
  REQUIRE(base::make_dirs(dir / "t/a/b/c", 0555).has_value());
  fs::create_symlink(dir / "keep", dir / "t/link");
  REQUIRE(base::write_file_atomic(dir / "keep/file", "x", 0600, base::Durable::kNo).has_value());
  CHECK(base::remove_tree(dir / "t").has_value());
  CHECK_FALSE(fs::exists(dir / "t"));
  CHECK(fs::exists(dir / "keep/file"));
  CHECK(base::remove_tree(dir / "t").has_value());
  CHECK(base::remove_tree(dir / "no/such/parent").has_value());
}

TEST_CASE("make_dirs gives the mode asked for and refuses a file in the way") {
  const tests::TempDir dir;
  const mode_t before = ::umask(0077);
  CHECK(base::make_dirs(dir / "a/b", 0711).has_value());
  ::umask(before);
  struct stat st {};
  ::stat((dir / "a/b").c_str(), &st);
  CHECK_EQ(st.st_mode & 0777, 0711);
  REQUIRE(base::write_file_atomic(dir / "f", "", 0600, base::Durable::kNo).has_value());
  CHECK_EQ(base::make_dirs(dir / "f", 0700).error().code, Code::kFailedPrecondition);
}

TEST_CASE("mount points are recognised") {
  CHECK(base::is_mount_point("/proc"));
  CHECK_FALSE(base::is_mount_point("/proc/self"));
  auto mounts = base::read_mountinfo();
  REQUIRE(mounts.has_value());
  bool found = false;
  for (const auto& mount : *mounts) found = found || (mount.mount_point == "/proc" && mount.fs_type == "proc");
  CHECK(found);
}
