#include "driver/spec/devices.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/json.h"
#include "driver/options/rows.h"
#include "tests/temp_dir.h"

using base::Json;

namespace {

/// "host container permissions" of each, or the error.
std::string rules_of(const Json& value) {
  const auto devices = driver::decode_devices(value, "devices");
  if (!devices) {
    CHECK(devices.error().code == base::Code::kInvalidArgument);
    return "error: " + devices.error().message;
  }
  std::string out;
  for (const driver::DeviceOption& d : *devices) {
    out += base::str(out.empty() ? "" : ", ", d.host_path, " ", d.container_path, " ", d.permissions);
  }
  return out;
}

}  // namespace

TEST_CASE("the three written forms, one or many") {
  CHECK(rules_of(Json::array()).empty());
  CHECK(rules_of("").empty());
  CHECK(rules_of("/dev/fuse") == "/dev/fuse  rwm");
  CHECK(rules_of({"/dev/fuse", "/dev/a:/dev/b"}) == "/dev/fuse  rwm, /dev/a /dev/b rwm");
  CHECK(rules_of({"/dev/a:/dev/b:r"}) == "/dev/a /dev/b r");
  CHECK(rules_of({"/dev/a:rw"}) == "/dev/a  rw");
  const Json block = {{"host_path", "/dev/a"}, {"container_path", "/dev/b"}, {"cgroup_permissions", "mr"}};
  CHECK(rules_of(block) == "/dev/a /dev/b mr");
  CHECK(rules_of(Json::array({block, "/dev/c"})) == "/dev/a /dev/b mr, /dev/c  rwm");
  CHECK(rules_of({{"host_path", "/dev/a"}, {"container_path", nullptr}, {"cgroup_permissions", ""}}) == "/dev/a  rwm");
}

TEST_CASE("what is no device") {
  for (const Json& value : std::vector<Json>{{"fuse"},
                                             {"/dev/a:b"},
                                             {"/dev/a:/dev/b:x"},
                                             {"/dev/a:/dev/b:rr"},
                                             {"/dev/a:/dev/b:"},
                                             {"/dev/a:/dev/b:r:w"},
                                             {""},
                                             {":/dev/b"},
                                             {"/dev/a\n"},
                                             {1},
                                             Json{{"container_path", "/dev/b"}},
                                             Json{{"host_path", 1}},
                                             Json{{"host_path", "/dev/a"}, {"path", "/dev/b"}},
                                             Json(true),
                                             Json::array({nullptr})}) {
    CAPTURE(value.dump());
    CHECK(rules_of(value).find("error: devices") == 0);
  }
}

TEST_CASE("devices of the host: files, links, folders, Nomad's own") {
  const tests::TempDir temp;
  const std::string dir = temp.path() / "d";
  REQUIRE(::mkdir(dir.c_str(), 0755) == 0);
  REQUIRE(::symlink("/dev/zero", (dir + "/link").c_str()) == 0);
  const auto found = driver::find_devices({{"/dev/null", "/dev/mine", "r"}, {dir + "/link"}},
                                          {{"/dev/nomad", "/dev/full", "rw"}, {"/dev/mine", "/dev/zero", ""}});
  REQUIRE(found);
  REQUIRE(found->size() == 3);
  CHECK((*found)[0].path == "/dev/mine");  // named twice: the later one
  CHECK((*found)[0].minor == 5);
  CHECK((*found)[0].access == "rwm");
  CHECK((*found)[1].path == "/dev/nomad");
  CHECK((*found)[1].access == "rw");
  CHECK((*found)[2].path == dir + "/link");
  CHECK((*found)[2].minor == 5);

  const auto empty = driver::find_devices({{dir}}, {});
  REQUIRE_FALSE(empty);
  CHECK(empty.error().message.find(dir) != std::string::npos);
  for (const char* path : {"/dev/no-such-device", "/etc/passwd"}) {
    const auto bad = driver::find_devices({{path}}, {});
    REQUIRE_FALSE(bad);
    CHECK(bad.error().message.find(path) != std::string::npos);
  }
}

TEST_CASE("a folder stands for every device below it, in place" * doctest::skip(::geteuid() != 0)) {
  const tests::TempDir temp;
  const std::string dir = temp.path() / "d";
  REQUIRE(::mkdir(dir.c_str(), 0755) == 0);
  REQUIRE(::mkdir((dir + "/sub").c_str(), 0755) == 0);
  REQUIRE(::mknod((dir + "/a").c_str(), S_IFCHR | 0640, makedev(1, 3)) == 0);
  REQUIRE(::mknod((dir + "/sub/b").c_str(), S_IFCHR | 0600, makedev(1, 5)) == 0);
  const auto found = driver::find_devices({{dir, "/dev/group", "r"}}, {});
  REQUIRE(found);
  REQUIRE(found->size() == 2);
  CHECK((*found)[0].path == "/dev/group/a");
  CHECK((*found)[0].access == "r");
  CHECK((*found)[0].mode == 0640);
  CHECK((*found)[1].path == "/dev/group/sub/b");
}
