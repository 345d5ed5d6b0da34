#include "driver/files/sources.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "tests/temp_dir.h"

namespace {

const driver::TaskDirs kDirs = {"/n/alloc", "/n/web", "/n/web/local", "/n/web/secrets"};

std::string path_of(const driver::MountSource& source) {
  const auto opened = driver::open_mount_source(source);
  return opened ? opened->path : "error: " + opened.error().message;
}

void check_refused(const driver::MountSource& source, const std::string& word) {
  CAPTURE(source.path);
  const auto opened = driver::open_mount_source(source);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == base::Code::kInvalidArgument);
  CAPTURE(opened.error().message);
  CHECK(opened.error().message.find(word) != std::string::npos);
}

}  // namespace

TEST_CASE("relative sources are below Nomad's folders") {
  const std::vector<std::array<std::string, 3>> good = {
      {"local", "/n/web/local", "."},           {"local/", "/n/web/local", "."},
      {"local/a/b", "/n/web/local", "a/b"},     {"local/a/b/", "/n/web/local", "a/b"},
      {"./local/a", "/n/web/local", "a"},       {"secrets/key", "/n/web/secrets", "key"},
      {"alloc/data", "/n/alloc", "data"},       {"../alloc/data", "/n/alloc", "data"},
      {"local/x/../y", "/n/web/local", "y"},    {"local/../secrets/k", "/n/web/secrets", "k"},
      {"localdata/x", "/n/web", "localdata/x"}, {"config", "/n/web", "config"},
      {"/etc/hosts", "", "/etc/hosts"}};
  for (const auto& [source, base, path] : good) {
    const auto& shown = source;  // clang 14 cannot capture a binding
    CAPTURE(shown);
    const auto resolved = driver::resolve_mount_source(source, kDirs);
    REQUIRE(resolved);
    CHECK(resolved->base == base);
    CHECK(resolved->path == path);
  }
  for (const char* bad : {"local/../../../etc", "..", "../web", "../../etc", "private", "private/x", "x/../private", "",
                          ".", "./", "local/..", "alloc/../private", "../alloc/../../x"}) {
    CAPTURE(bad);
    const auto resolved = driver::resolve_mount_source(bad, kDirs);
    REQUIRE_FALSE(resolved);
    CHECK(resolved.error().code == base::Code::kInvalidArgument);
    CHECK(resolved.error().message.find(bad) != std::string::npos);
  }
  CHECK_FALSE(driver::resolve_mount_source("local/x", {}));
}

TEST_CASE("links in the task's folders do not lead out of them") {
  const tests::TempDir dir;
  const std::string task = dir / "web";
  const std::string local = dir / "web/local";
  for (const char* name : {"web/local", "web/private", "host"}) REQUIRE(base::make_dirs(dir / name, 0755));
  REQUIRE(base::write_file_atomic(local + "/conf", "x", 0644, base::Durable::kNo));
  REQUIRE(::symlink("conf", (local + "/inside").c_str()) == 0);
  REQUIRE(::symlink("/etc", (local + "/etc").c_str()) == 0);
  REQUIRE(::symlink("../../host", (local + "/up").c_str()) == 0);
  REQUIRE(::symlink("private", (task + "/hidden").c_str()) == 0);
  CHECK(path_of({local, "inside"}) == local + "/conf");
  CHECK(path_of({local, "."}) == local);
  CHECK(path_of({"", local + "/inside"}) == local + "/conf");
  for (const char* path : {"etc", "etc/passwd", "up", "missing"}) check_refused({local, path}, path);
  REQUIRE(::mkfifo((local + "/fifo").c_str(), 0600) == 0);
  CHECK(path_of({local, "fifo"}) == local + "/fifo");  // may be mounted, and nobody waits for its other end
  check_refused({task, "hidden"}, "private");
  check_refused({"", "/no/such/folder"}, "/no/such/folder");
  check_refused({"", "/proc/self/root"}, "/proc/self/root");
}

TEST_CASE("making a missing source follows no link out, and makes nothing outside") {
  const tests::TempDir dir;
  const std::string local = dir / "local";
  for (const char* name : {"local/real", "host"}) REQUIRE(base::make_dirs(dir / name, 0755));
  REQUIRE(::symlink("real", (local + "/link").c_str()) == 0);
  REQUIRE(::symlink("../host", (local + "/up").c_str()) == 0);
  REQUIRE(::symlink("nowhere", (local + "/dangling").c_str()) == 0);
  REQUIRE(driver::make_mount_source({local, "a/b/c"}));
  REQUIRE(driver::make_mount_source({local, "a/b/c"}));  // it is there
  CHECK(std::filesystem::is_directory(local + "/a/b/c"));
  REQUIRE(driver::make_mount_source({local, "link/x"}));
  CHECK(std::filesystem::is_directory(local + "/real/x"));
  CHECK_FALSE(driver::make_mount_source({local, "up/x"}));
  CHECK_FALSE(driver::make_mount_source({local, "dangling"}));
  CHECK(std::filesystem::is_empty(dir / "host"));
  REQUIRE(driver::make_mount_source({"", dir / "absolute"}));
  CHECK_FALSE(std::filesystem::exists(dir / "absolute"));
}

TEST_CASE("is_within") {
  CHECK(driver::is_within("/a/b", "/a"));
  CHECK(driver::is_within("/a", "/a"));
  CHECK(driver::is_within("/a", "/"));
  CHECK_FALSE(driver::is_within("/ab", "/a"));
  CHECK_FALSE(driver::is_within("/", "/a"));
}
