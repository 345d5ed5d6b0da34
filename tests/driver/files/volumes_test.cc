#include "driver/files/volumes.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "tests/temp_dir.h"

using base::Code;
using driver::Mount;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> targets(const std::vector<std::string>& volumes, const std::vector<Mount>& mounts = {}) {
  auto found = driver::image_volume_targets(volumes, mounts);
  REQUIRE(found.has_value());
  return *found;
}

Mount mount_at(const std::string& destination) {
  return {destination, "bind", "/srv", {"rbind"}};
}

/// A root with content, and the volumes that are made for it.
struct Fixture {
  tests::TempDir dir;
  std::string root = dir / "rootfs";
  std::string volumes = dir / "volumes";

  Fixture() { fs::create_directories(root); }
  base::Result<std::vector<Mount>> make(const std::vector<std::string>& wanted, std::vector<Mount> mounts = {}) {
    auto fd = base::open_dir(root);
    REQUIRE(fd.has_value());
    return driver::add_image_volumes(base::Context::cleanup(), fd->get(), wanted, volumes, std::move(mounts));
  }
};

}  // namespace

TEST_CASE("volumes as images write them") {
  using List = std::vector<std::string>;
  CHECK_EQ(targets({}), List{});
  CHECK_EQ(targets({"/data/", "data", "/var//lib/./db", "/srv/x/../y"}), List{"/data", "/srv/y", "/var/lib/db"});
  CHECK_EQ(targets({"/a/b/c", "/a"}), List{"/a", "/a/b/c"});  // parents first
  CHECK_EQ(targets({"../../etc/x"}), List{"/etc/x"});
  CHECK_EQ(targets({"/proc", "/sys/x", "/dev/shm", "/device"}), List{"/device"});
  // What the task mounts there or above has its storage.
  CHECK_EQ(targets({"/data", "/data/x", "/database"}, {mount_at("/data")}), List{"/database"});
  CHECK_EQ(targets({"/data"}, {mount_at("/data/x")}), List{"/data"});
  for (const char* whole : {"/", "", ".", "/..", "/x/.."}) {
    CAPTURE(whole);
    CHECK_EQ(driver::image_volume_targets({whole}, {}).error().code, Code::kInvalidArgument);
  }
  const std::vector<std::string> many(driver::kImageVolumesMax + 1, "/x");
  CHECK(driver::image_volume_targets(many, {}).error().message.find("65 VOLUMEs; 64") != std::string::npos);
}

TEST_CASE("a volume has what the image has there") {
  Fixture f;
  fs::create_directories(f.root + "/data/sub");
  std::ofstream(f.root + "/data/file") << "from the image";
  fs::create_hard_link(f.root + "/data/file", f.root + "/data/sub/again");
  fs::create_symlink("/etc/passwd", f.root + "/data/link");
  REQUIRE_EQ(::mkfifo((f.root + "/data/fifo").c_str(), 0600), 0);
  REQUIRE_EQ(::chmod((f.root + "/data").c_str(), 01770), 0);
  fs::create_directories(f.root + "/empty");
  REQUIRE_EQ(::chmod((f.root + "/empty").c_str(), 0700), 0);

  const auto mounts = f.make({"/data", "/empty", "/not/there"}, {mount_at("/data/sub/more"), mount_at("/a")});
  REQUIRE_MESSAGE(mounts.has_value(), (mounts ? "" : mounts.error().message));
  std::vector<std::string> order;
  for (const Mount& mount : *mounts) order.push_back(mount.destination);
  CHECK_EQ(order, std::vector<std::string>{"/a", "/data", "/empty", "/not/there", "/data/sub/more"});
  CHECK((*mounts)[1] == Mount{"/data", "bind", f.volumes + "/0", {"rbind", "rprivate", "rw"}});

  std::string text;
  std::getline(std::ifstream(f.volumes + "/0/file"), text);
  CHECK_EQ(text, "from the image");
  CHECK(fs::equivalent(f.volumes + "/0/file", f.volumes + "/0/sub/again"));
  CHECK_FALSE(fs::equivalent(f.volumes + "/0/file", f.root + "/data/file"));
  CHECK_EQ(fs::read_symlink(f.volumes + "/0/link"), "/etc/passwd");
  CHECK(fs::is_fifo(f.volumes + "/0/fifo"));
  CHECK_EQ(fs::status(f.volumes + "/0").permissions(), fs::perms(01770));
  CHECK_EQ(fs::status(f.volumes + "/1").permissions(), fs::perms(0700));
  CHECK(fs::is_empty(f.volumes + "/1"));
  CHECK(fs::is_empty(f.volumes + "/2"));
}

TEST_CASE("links in the image lead nowhere but into the image") {
  Fixture f;
  fs::create_directories(f.root + "/etc");
  std::ofstream(f.root + "/etc/mine") << "x";
  fs::create_symlink("/etc", f.root + "/data");
  fs::create_symlink("../../../../etc", f.root + "/up");
  REQUIRE(f.make({"/data", "/up"}).has_value());
  for (const char* volume : {"/0", "/1"}) {
    CAPTURE(volume);
    CHECK(fs::exists(f.volumes + volume + "/mine"));
    CHECK_FALSE(fs::exists(f.volumes + volume + "/passwd"));
  }
}

TEST_CASE("a volume where the image has a file is refused with its name") {
  Fixture f;
  std::ofstream(f.root + "/file") << "x";
  const auto refused = f.make({"/file"});
  REQUIRE_FALSE(refused.has_value());
  CHECK_EQ(refused.error().code, Code::kInvalidArgument);
  CHECK(refused.error().message.find("VOLUME /file") != std::string::npos);
}

TEST_CASE("copying ends with its context") {
  Fixture f;
  fs::create_directories(f.root + "/data/x");
  auto fd = base::open_dir(f.root);
  REQUIRE(fd.has_value());
  std::stop_source stop;
  stop.request_stop();
  const auto ctx = base::Context::background().with_stop(stop.get_token());
  CHECK_EQ(driver::add_image_volumes(ctx, fd->get(), {"/data"}, f.volumes, {}).error().code, Code::kCancelled);
}
