// clang-format off
#include "base/file.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/dir.h"
#include "tests/temp_dir.h"

using base::Code;
namespace fs = std::filesystem;

namespace {

/// `depth` directories, each in the one before: more than a path can name.
void nest(const std::string& top, int depth, const char* name = "d") {
  REQUIRE(base::make_dirs(top, 0755));
  base::Fd at = *base::open_dir(top);
  for (int i = 0; i < depth; ++i) {
    REQUIRE_EQ(::mkdirat(at.get(), name, 0755), 0);
    at = *base::open_at(at.get(), name, O_PATH | O_DIRECTORY);
  }
}

void write(const std::string& path) {
  REQUIRE(base::write_file_atomic(path, "x", 0600, base::Durable::kNo));
}

std::size_t open_descriptors() {
  auto dir = base::Dir::read(*base::open_file("/proc/self/fd", O_RDONLY | O_DIRECTORY), "descriptors");
  REQUIRE(dir);
  std::size_t count = 0;
  while (*dir->next() != nullptr) ++count;
  return count;
}

/// The limit is that of the whole process, and what is open counts.
class FewDescriptors {
 public:
  explicit FewDescriptors(std::size_t more) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{open_descriptors() + more, before_.rlim_max};
    REQUIRE_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("remove_tree removes read-only directories and links, never what they point to") {
  const tests::TempDir dir;
  REQUIRE(base::make_dirs(dir / "keep", 0755));
  REQUIRE(base::make_dirs(dir / "t/a/b/c", 0555));
  fs::create_symlink(dir / "keep", dir / "t/link");
  fs::create_symlink("../keep", dir / "t/a/b/c/link");
  write(dir / "keep/file");
  CHECK(base::remove_tree(dir / "t"));
  CHECK_FALSE(fs::exists(dir / "t"));
  CHECK(fs::exists(dir / "keep/file"));
  CHECK(base::remove_tree(dir / "t"));
  CHECK(base::remove_tree(dir / "no/such/parent"));
  fs::create_symlink(dir / "keep", dir / "link");
  CHECK(base::remove_tree(dir / "link"));
  CHECK(fs::exists(dir / "keep/file"));
}

TEST_CASE("depth costs a handful of descriptors, and no stack") {
  const tests::TempDir dir;
  nest(dir / "t", 6'000);
  const FewDescriptors few(12);
  CHECK(base::remove_tree(dir / "t"));
  CHECK_FALSE(fs::exists(dir / "t"));
}

TEST_CASE("files at every depth, and branches on the way up") {
  const tests::TempDir dir;
  std::string at = dir / "t";
  for (int depth = 0; depth < 40; ++depth) {
    for (const char* branch : {"/a/b/c", "/e", "/z/y"}) REQUIRE(base::make_dirs(at + branch, 0755));
    for (const char* file : {"/0", "/e/1", "/zz"}) write(at + file);
    at += "/m";
  }
  CHECK(base::remove_tree(dir / "t"));
  CHECK_FALSE(fs::exists(dir / "t"));
}

TEST_CASE("a directory of many entries") {
  const tests::TempDir dir;
  REQUIRE(base::make_dirs(dir / "t", 0755));
  const auto fd = base::open_dir(dir / "t");
  for (int i = 0; i < 2500; ++i) REQUIRE_EQ(::mkdirat(fd->get(), base::str("entry ", i).c_str(), 0755), 0);
  CHECK(base::remove_tree(dir / "t"));
  CHECK_FALSE(fs::exists(dir / "t"));
}

TEST_CASE("what something is mounted on stays, all else goes") {
  if (::geteuid() != 0) return;
  const tests::TempDir dir;
  std::string deep = dir / "t";
  for (int i = 0; i < 20; ++i) deep += "/d";
  REQUIRE(base::make_dirs(deep + "/mounted", 0755));
  REQUIRE(base::make_dirs(deep + "/other", 0755));
  REQUIRE(base::make_dirs(dir / "t/top", 0755));
  REQUIRE(base::make_dirs(dir / "source", 0755));
  write(dir / "source/file");
  const pid_t child = ::fork();
  if (child == 0) {
    // Not to be seen outside, and gone with the process.
    const bool mounted = ::unshare(CLONE_NEWNS) == 0 && ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                         ::mount((dir / "source").c_str(), (deep + "/mounted").c_str(), nullptr, MS_BIND, nullptr) == 0;
    const auto removed = base::remove_tree(dir / "t");
    const bool refused = !removed && removed.error().code == Code::kFailedPrecondition &&
                         removed.error().message.find("mounted on mounted") != std::string::npos;
    ::_exit(!mounted ? 2 : !refused ? 3 : fs::exists(deep + "/mounted/file") && !fs::exists(deep + "/other") ? 0 : 4);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK_EQ(WEXITSTATUS(status), 0);
  CHECK_FALSE(fs::exists(dir / "t/top"));
  CHECK(fs::exists(dir / "source/file"));
}

TEST_CASE("whoever moves directories about meanwhile leads nobody outside") {
  const tests::TempDir dir;
  REQUIRE(base::make_dirs(dir / "keep/d", 0755));
  write(dir / "keep/file");
  write(dir / "keep/d/file");
  std::atomic<bool> done{false};
  std::atomic<int> moved{0};
  std::thread mover([&] {
    std::string from = dir / "t";
    for (int i = 0; i < 12; ++i) from += "/d";
    while (!done) {
      // Out of the tree, where ".." is another directory, and a link to that in its place.
      if (::rename(from.c_str(), (dir / "keep/moved").c_str()) != 0) continue;
      ++moved;
      [[maybe_unused]] const int made = ::symlink((dir / "keep").c_str(), (from + ".link").c_str());
      ::rename((from + ".link").c_str(), from.c_str());
    }
  });
  for (int round = 0; round < 30 || (moved == 0 && round < 10'000); ++round) {
    nest(dir / "made", 40);
    REQUIRE_EQ(::rename((dir / "made").c_str(), (dir / "t").c_str()), 0);
    while (!base::remove_tree(dir / "t")) continue;  // once more if it was moved
    REQUIRE(fs::exists(dir / "keep/file"));
    REQUIRE(fs::exists(dir / "keep/d/file"));
    REQUIRE(base::remove_tree(dir / "keep/moved"));
  }
  done = true;
  mover.join();
  CHECK_GT(moved, 0);
}
