// Staging in a mount namespace of the test's own: a thread that unshares, like no other part of this program does.
#include "driver/files/stage.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <thread>

#include "base/file.h"
#include "tests/temp_dir.h"

using base::str;
using driver::Mount;
using driver::MountSource;

namespace {

/// Runs `body` in a mount namespace whose mounts are shared among themselves, as on a host with systemd.
void in_own_namespace(const std::function<void()>& body) {
  std::exception_ptr failed;
  std::thread([&] {
    try {
      REQUIRE(::unshare(CLONE_FS | CLONE_NEWNS) == 0);
      REQUIRE(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
      REQUIRE(::mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) == 0);
      body();
    } catch (...) {  // a failed REQUIRE
      failed = std::current_exception();
    }
  }).join();
  if (failed) std::rethrow_exception(failed);
}

std::string text_of(const std::string& path) {
  return base::read_file(path, 4096).value_or(std::string("(error)"));
}

void write_text(const std::string& path, const std::string& text) {
  REQUIRE(base::write_file_atomic(path, text, 0644, base::Durable::kNo));
}

Mount bind_of(const std::string& base, const std::string& path, std::vector<std::string> options = {"rbind"}) {
  return {"/x", "bind", base + "/" + path, std::move(options), MountSource{base, path}};
}

void mount_tmpfs(const std::string& at) {
  REQUIRE(base::make_dirs(at, 0755));
  REQUIRE(::mount("tmpfs", at.c_str(), "tmpfs", 0, "size=64k") == 0);
}

}  // namespace

TEST_CASE("a staged source is the file or folder that was opened, with its submounts") {
  const tests::TempDir dir;
  const std::string stage = dir / "stage";
  const std::string from = dir / "from";
  in_own_namespace([&] {
    REQUIRE(base::make_dirs(from, 0755));
    write_text(from + "/file", "text");
    mount_tmpfs(from + "/sub");
    write_text(from + "/sub/deep", "deep");
    const auto staged = driver::stage_mounts(
        {bind_of(from, "."), {"/t", "tmpfs", "tmpfs", {}}, bind_of(from, "file"), bind_of(from, ".", {"bind"})}, stage);
    REQUIRE_MESSAGE(staged.has_value(), staged.error().message);
    CHECK((*staged)[0].source == stage + "/0");
    CHECK((*staged)[1].source == "tmpfs");
    CHECK(text_of(stage + "/0/file") == "text");
    CHECK(text_of(stage + "/0/sub/deep") == "deep");
    CHECK(text_of(stage + "/1") == "text");
    CHECK(text_of(stage + "/2/file") == "text");
    CHECK(text_of(stage + "/2/sub/deep") == "(error)");  // bind, not rbind

    REQUIRE(driver::unstage_mounts(stage));
    REQUIRE(driver::unstage_mounts(stage));
    CHECK_FALSE(*base::is_mount_point(stage));
    CHECK(text_of(from + "/sub/deep") == "deep");
    REQUIRE(::umount(str(from, "/sub").c_str()) == 0);
  });
}

TEST_CASE("unmounting the stage leaves the submounts of a shared source where they are") {
  const tests::TempDir dir;
  const std::string stage = dir / "stage";
  const std::string from = dir / "from";
  in_own_namespace([&] {
    mount_tmpfs(from);
    mount_tmpfs(from + "/sub");
    write_text(from + "/sub/deep", "deep");
    for (const char* propagation : {"rprivate", "rslave", "rshared"}) {
      CAPTURE(propagation);
      const auto staged = driver::stage_mounts({bind_of(from, ".", {"rbind", propagation})}, stage);
      REQUIRE_MESSAGE(staged.has_value(), staged.error().message);
      CHECK(text_of(stage + "/0/sub/deep") == "deep");
      // A stage of a start that was killed is replaced, not stacked on.
      REQUIRE(driver::stage_mounts({bind_of(from, ".", {"rbind", propagation})}, stage));
      REQUIRE(driver::unstage_mounts(stage));
      CHECK_FALSE(*base::is_mount_point(stage));
      CHECK(text_of(from + "/sub/deep") == "deep");
    }
    REQUIRE(::umount2(from.c_str(), MNT_DETACH) == 0);
  });
}

TEST_CASE("later mounts reach what was bound from the stage as the propagation says") {
  struct {
    const char* propagation;
    bool from_host;
    bool to_host;
  } const cases[] = {{"rprivate", false, false}, {"rslave", true, false}, {"rshared", true, true}};
  const tests::TempDir dir;
  const std::string stage = dir / "stage";
  const std::string from = dir / "from";
  const std::string bound = dir / "bound";
  in_own_namespace([&] {
    REQUIRE(base::make_dirs(bound, 0755));
    // Where a container binds to is not shared with the host.
    REQUIRE(::mount(bound.c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) == 0);
    REQUIRE(::mount(nullptr, bound.c_str(), nullptr, MS_PRIVATE, nullptr) == 0);
    REQUIRE(base::make_dirs(bound + "/to", 0755));
    for (const auto& test : cases) {
      CAPTURE(test.propagation);
      mount_tmpfs(from);
      REQUIRE(base::make_dirs(from + "/host", 0755));
      REQUIRE(base::make_dirs(from + "/task", 0755));
      REQUIRE(driver::stage_mounts({bind_of(from, ".", {"rbind", test.propagation})}, stage));
      REQUIRE(::mount((stage + "/0").c_str(), (bound + "/to").c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0);
      REQUIRE(driver::unstage_mounts(stage));
      mount_tmpfs(from + "/host");
      CHECK(*base::is_mount_point(bound + "/to/host") == test.from_host);
      mount_tmpfs(bound + "/to/task");
      CHECK(*base::is_mount_point(from + "/task") == test.to_host);
      REQUIRE(::umount2((bound + "/to").c_str(), MNT_DETACH) == 0);
      REQUIRE(::umount2(from.c_str(), MNT_DETACH) == 0);
    }
    REQUIRE(::umount2(bound.c_str(), MNT_DETACH) == 0);
  });
}

TEST_CASE("propagation of a source that the host does not share is an error, not a promise") {
  const tests::TempDir dir;
  const std::string from = dir / "from";
  in_own_namespace([&] {
    mount_tmpfs(from);
    REQUIRE(::mount(nullptr, from.c_str(), nullptr, MS_PRIVATE, nullptr) == 0);
    for (const char* propagation : {"rslave", "rshared"}) {
      CAPTURE(propagation);
      const auto staged = driver::stage_mounts({bind_of(from, ".", {"rbind", propagation})}, dir / "stage");
      REQUIRE_FALSE(staged);
      CHECK(staged.error().code == base::Code::kFailedPrecondition);
      CHECK(staged.error().message.find("make-rshared") != std::string::npos);
      REQUIRE(driver::unstage_mounts(dir / "stage"));
    }
    REQUIRE(::umount(from.c_str()) == 0);
  });
}

// The attack: between looking and mounting, a folder of the task becomes a link to a place of the host, and back.
TEST_CASE("a source that is swapped for a link all the time never leads outside") {
  const tests::TempDir dir;
  const std::string local = dir / "alloc/web/local";
  REQUIRE(base::make_dirs(local + "/conf/sub", 0755));
  REQUIRE(base::make_dirs(dir / "host/sub", 0755));
  write_text(local + "/conf/sub/file", "the task's");
  write_text(dir / "host/sub/file", "the host's");
  REQUIRE(::symlink((dir / "host").c_str(), (local + "/link").c_str()) == 0);
  const std::string stage = dir / "stage";
  int mounted = 0;
  int refused = 0;
  in_own_namespace([&] {
    std::atomic<bool> done = false;
    std::thread racer([&] {
      while (!done) {
        ::syscall(SYS_renameat2, AT_FDCWD, (local + "/conf").c_str(), AT_FDCWD, (local + "/link").c_str(),
                  2 /*EXCHANGE*/);
      }
    });
    constexpr int kBothMin = 50;
    const auto deadline = base::Clock::now() + std::chrono::seconds(60);
    while ((mounted < kBothMin || refused < kBothMin) && base::Clock::now() < deadline) {
      const auto staged = driver::stage_mounts({bind_of(local, "conf/sub")}, stage);
      if (staged) {
        CHECK(text_of(stage + "/0/file") == "the task's");
        ++mounted;
      } else {
        CHECK(staged.error().code == base::Code::kInvalidArgument);
        ++refused;
      }
      CHECK(driver::unstage_mounts(stage).has_value());
    }
    done = true;
    racer.join();
    CHECK(mounted >= kBothMin);
    CHECK(refused >= kBothMin);
  });
}
