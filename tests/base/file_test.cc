#include "base/file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
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

TEST_CASE("make_dirs ends where nothing can be made") {
  CHECK_EQ(base::make_dirs("/proc/nothing/below", 0700).error().code, Code::kNotFound);
  CHECK_EQ(base::make_dirs("/proc/self/nothing", 0700).error().sys_errno, ENOENT);
  CHECK_EQ(base::make_dirs("", 0700).error().code, Code::kNotFound);
}

TEST_CASE("absolute_path needs no working directory for what is absolute, and says when a relative one has none") {
  CHECK_EQ(base::absolute_path("/a/./b/../c").value_or(""), "/a/c");
  CHECK_EQ(base::absolute_path("x").value_or(""), (fs::current_path() / "x").string());
  const pid_t child = ::fork();
  if (child == 0) {  // the directory is the process's
    std::string gone = (fs::temp_directory_path() / "cd-gone-XXXXXX").string();
    const bool there = ::mkdtemp(gone.data()) != nullptr && ::chdir(gone.c_str()) == 0 && ::rmdir(gone.c_str()) == 0;
    const auto relative = base::absolute_path("x");
    const bool refused = !relative && relative.error().code == Code::kNotFound &&
                         relative.error().message.find("working directory") != std::string::npos;
    ::_exit(there && refused && base::absolute_path("/x") ? 0 : 1);
  }
  int status = -1;
  CHECK_EQ(::waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

TEST_CASE("mount points are recognised") {
  CHECK(*base::is_mount_point("/proc"));
  CHECK_FALSE(*base::is_mount_point("/proc/self"));
  CHECK_FALSE(*base::is_mount_point("/proc/not/there"));
  CHECK_FALSE(base::is_mount_point(std::string(5000, 'x')).has_value());
}
