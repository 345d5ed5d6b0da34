#include "driver/files/rootfs.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/temp_dir.h"

namespace {

struct Root {
  Root() : fd(*base::open_dir(dir.path())) {}
  void folder(const std::string& name) const { REQUIRE(base::make_dirs(dir / name, 0755)); }
  void link(const std::string& target, const std::string& name) const {
    REQUIRE(::symlink(target.c_str(), (dir / name).c_str()) == 0);
  }
  void file(const std::string& name) const {
    REQUIRE(base::write_file_atomic(dir / name, "", 0644, base::Durable::kNo));
  }
  tests::TempDir dir;
  base::Fd fd;
};

}  // namespace

TEST_CASE("an empty root and a usual one are fine") {
  const Root root;
  CHECK(driver::check_rootfs(root.fd.get()));
  for (const char* name : {"dev/pts", "proc", "sys", "etc", "usr/bin"}) root.folder(name);
  root.link("usr/bin", "bin");
  root.link("/proc/self/fd", "dev/fd");
  CHECK(driver::check_rootfs(root.fd.get()));
}

TEST_CASE("/etc may be a link to another folder of the image, there or not, but to nothing of the kernel's") {
  for (const char* target : {"usr/etc", "/usr/etc", "../../usr/etc", "usr/nothing", "/nothing/etc"}) {
    CAPTURE(target);
    const Root root;
    root.folder("usr/etc");
    root.link(target, "etc");
    CHECK(driver::check_rootfs(root.fd.get()));
  }
  for (const char* target :
       {"/proc", "/proc/self/root/etc", "../sys/kernel", "/dev", "dev/shm", "etc", ".", "/", "file"}) {
    CAPTURE(target);
    const Root root;
    root.file("file");
    root.link(target, "etc");
    CHECK_FALSE(driver::check_rootfs(root.fd.get()));
  }
  const Root through;
  through.link("/proc/sys", "a");
  through.link("a/kernel", "etc");
  CHECK_FALSE(driver::check_rootfs(through.fd.get()));
}

TEST_CASE("a link or file where the runtime mounts is refused") {
  for (const char* name : {"dev", "proc", "sys", "etc"}) {
    CAPTURE(name);
    const Root as_link;
    as_link.link("../../..", name);
    const auto status = driver::check_rootfs(as_link.fd.get());
    REQUIRE_FALSE(status);
    CHECK(status.error().code == base::Code::kInvalidArgument);
    CHECK(status.error().message.find(std::string("/") + name + " is a symbolic link") != std::string::npos);
    const Root as_file;
    as_file.file(name);
    CHECK(driver::check_rootfs(as_file.fd.get()).error().message.find("a file") != std::string::npos);
  }
  for (const char* name : {"null", "console", "pts", "zero"}) {
    CAPTURE(name);
    const Root root;
    root.folder("dev");
    root.link("/proc/sys/kernel/core_pattern", std::string("dev/") + name);
    CHECK_FALSE(driver::check_rootfs(root.fd.get()));
  }
}

TEST_CASE("working directories") {
  const Root root;
  root.folder("srv/app");
  root.file("srv/file");
  root.link("/srv/app", "current");
  root.link("/proc/self/fd/7", "escape");
  root.link("escape", "escape2");
  root.link("../../../../proc/self", "up");
  root.link("loop", "loop");
  const auto check = [&](const std::string& cwd) {
    const auto status = driver::check_cwd(root.fd.get(), cwd);
    return status ? std::string() : status.error().message;
  };
  for (const char* good : {"/", "/srv/app", "/srv/./app/..", "/current", "/not/there/yet", "/srv/new", "/../srv"}) {
    CHECK_MESSAGE(check(good).empty(), good);
  }
  for (const char* bad : {"/proc/self/fd/7", "/proc", "/escape", "/escape2/../7", "/srv/../proc/1/cwd", "/up/cwd"}) {
    CHECK_MESSAGE(check(bad).find("/proc") != std::string::npos, bad);
  }
  CHECK(check("/loop").find("40") != std::string::npos);
  CHECK(check("/srv/file").find("a file") != std::string::npos);
  CHECK(check("srv").find("absolute") != std::string::npos);
  CHECK(check("").find("absolute") != std::string::npos);
}

TEST_CASE("paths are resolved as if the root were /") {
  const Root root;
  root.folder("a/b");
  root.link("/a", "x");
  root.link("../x/b", "a/y");
  const auto resolve = [&](const std::string& path) { return *driver::resolve_path_in_root(root.fd.get(), path); };
  CHECK(resolve("/x/y") == "/a/b");
  CHECK(resolve("/x/y/new/../z") == "/a/b/z");
  CHECK(resolve("/../../x") == "/a");
  CHECK(resolve("//a///b/") == "/a/b");
  CHECK(resolve("/") == "/");
}
