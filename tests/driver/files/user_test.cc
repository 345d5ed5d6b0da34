#include "driver/files/user.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/temp_dir.h"

namespace {

constexpr const char* kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "# a comment\n"
    "\n"
    "redis:x:999:1000::/data:/sbin/nologin\r\n"
    "1000:x:0:0:a user named like a number:/:/bin/sh\n"
    "short:x:7\n"
    "badgid:x:8:zero::/:/bin/sh\n"
    "wrap:x:4294967296:0::/:/bin/sh\n"
    "alice:x:1001:1001::/:\n"
    "alice:x:0:0:second of that name:/:\n";
constexpr const char* kGroup =
    "root:x:0:\n"
    "audio:x:29:alice,redis\n"
    "alice:x:555:alice\n"
    "video:x:44:redis,alice\n"
    "again:x:29:alice\n"
    "bad:x:notanumber:eve\n"
    "wheel:x:10:root\n";

using Gids = std::vector<std::uint32_t>;

void check_user(const std::string& user, std::uint32_t uid, std::uint32_t gid, const Gids& gids) {
  CAPTURE(user);
  const auto resolved = driver::resolve_user_in(user, kPasswd, kGroup);
  REQUIRE_MESSAGE(resolved.has_value(), resolved.error().message);
  CHECK(resolved->uid == uid);
  CHECK(resolved->gid == gid);
  CHECK(resolved->additional_gids == gids);
}

std::string lookup_error(const std::string& user, const char* passwd = kPasswd, const char* group = kGroup) {
  const auto resolved = driver::resolve_user_in(user, passwd, group);
  if (resolved) return "";
  CHECK(resolved.error().code == base::Code::kInvalidArgument);
  return resolved.error().message;
}

struct ImageRoot {
  ImageRoot() : fd(*base::open_dir(dir.path())) { ::mkdir((dir / "etc").c_str(), 0755); }
  void write(const std::string& name, const std::string& text) const {
    REQUIRE(base::write_file_atomic(dir / name, text, 0644, base::Durable::kNo));
  }
  tests::TempDir dir;
  base::Fd fd;
};

}  // namespace

TEST_CASE("each form of a user") {
  check_user("", 0, 0, {0, 10});
  check_user("root", 0, 0, {0, 10});
  check_user("0", 0, 0, {0, 10});
  check_user("redis", 999, 1000, {1000, 29, 44});
  check_user("999", 999, 1000, {1000, 29, 44});
  check_user("alice", 1001, 1001, {1001, 29, 44});  // not 555: the group of her own name is the primary one
  check_user("4242", 4242, 0, {0});
  check_user("2147483647", 2147483647, 0, {0});
  check_user("1000", 1000, 0, {0});  // a number, not the user of that name
  check_user("5:6", 5, 6, {6});
  check_user("redis:44", 999, 44, {44});
  check_user("redis:audio", 999, 29, {29});
  check_user("5:audio", 5, 29, {29});
  check_user("0010", 10, 0, {0});
  check_user(":", 0, 0, {0, 10});  // a part that is empty was not said
  check_user("redis:", 999, 1000, {1000, 29, 44});
  check_user("4242:", 4242, 0, {0});
  check_user(":44", 0, 44, {44});
  check_user(":audio", 0, 29, {29});
}

TEST_CASE("malformed users") {
  for (const char* user : {"::", ":5:", "a:b:c", " root", "root\n", "root ", "ro\tot", "-1", "+5", "2147483648",
                           "4294967296", "18446744073709551616", "99999999999999999999999999", "5:-1", "5:2147483648",
                           "nosuch", "root:nosuch", "5:nosuch"}) {
    CAPTURE(user);
    const std::string message = lookup_error(user);
    CHECK_FALSE(message.empty());
    CHECK(message.find(user) != std::string::npos);
  }
  CHECK_FALSE(lookup_error(std::string("ro\0ot", 5)).empty());
  CHECK(lookup_error(std::string(300, 'a')).find("256") != std::string::npos);
  CHECK(lookup_error("nosuch").find("/etc/passwd") != std::string::npos);
  CHECK(lookup_error("5:nosuch").find("/etc/group") != std::string::npos);
}

TEST_CASE("a number that cannot be read is an error, never root") {
  CHECK(lookup_error("short").find("/etc/passwd") != std::string::npos);
  CHECK(lookup_error("badgid").find("zero") != std::string::npos);
  CHECK(lookup_error("8").find("zero") != std::string::npos);
  CHECK_FALSE(lookup_error("wrap").empty());
  CHECK(lookup_error("root:bad").find("notanumber") != std::string::npos);
  CHECK_FALSE(lookup_error("eve", "eve:x:5:5::/:\n").empty());
}

TEST_CASE("missing files count as empty for numbers") {
  CHECK(driver::resolve_user_in("7", "", "")->uid == 7);
  CHECK(driver::resolve_user_in("", "", "")->additional_gids == Gids{0});
  CHECK_FALSE(driver::resolve_user_in("redis", "", ""));
}

TEST_CASE("files are looked up inside the root") {
  const ImageRoot root;
  CHECK(driver::resolve_user(root.fd.get(), "7")->uid == 7);
  root.write("etc/passwd", kPasswd);
  root.write("etc/group", kGroup);
  CHECK(driver::resolve_user(root.fd.get(), "redis")->gid == 1000);

  // A link out of the root stays inside: the host's file is not read.
  ::unlink((root.dir / "etc/passwd").c_str());
  REQUIRE(::symlink("/etc/passwd.real", (root.dir / "etc/passwd").c_str()) == 0);
  root.write("etc/passwd.real", "inside:x:3:4::/:\n");
  CHECK(driver::resolve_user(root.fd.get(), "inside")->uid == 3);
  ::unlink((root.dir / "etc/passwd").c_str());
  REQUIRE(::symlink("../../../../../etc/passwd", (root.dir / "etc/passwd").c_str()) == 0);
  CHECK_FALSE(driver::resolve_user(root.fd.get(), "root"));  // a link to itself
}

TEST_CASE("only regular files of a sane size are read, and numbers need none") {
  const ImageRoot root;
  REQUIRE(::mkfifo((root.dir / "etc/passwd").c_str(), 0644) == 0);
  const auto fifo = driver::resolve_user(root.fd.get(), "redis");
  REQUIRE_FALSE(fifo);
  CHECK(fifo.error().message.find("regular file") != std::string::npos);
  CHECK(driver::resolve_user(root.fd.get(), "5:6")->gid == 6);

  ::unlink((root.dir / "etc/passwd").c_str());
  REQUIRE(::mkdir((root.dir / "etc/passwd").c_str(), 0755) == 0);
  CHECK_FALSE(driver::resolve_user(root.fd.get(), "redis"));
  ::rmdir((root.dir / "etc/passwd").c_str());
  root.write("etc/passwd", "");
  REQUIRE(::truncate((root.dir / "etc/passwd").c_str(), (10 << 20) + 1) == 0);
  const auto huge = driver::resolve_user(root.fd.get(), "redis");
  REQUIRE_FALSE(huge);
  CHECK(huge.error().message.find("10485760") != std::string::npos);
}

TEST_CASE("group_add: names of the image, or numbers") {
  CHECK(driver::resolve_groups_in({"audio", "2000"}, "root:x:0:\naudio:x:29:\n").value_or(Gids{}) == Gids{29, 2000});
  for (const char* bad : {"video", "-1", "4294967296", ""}) {
    CAPTURE(bad);
    const auto groups = driver::resolve_groups_in({bad}, "audio:x:29:\n");
    REQUIRE_FALSE(groups);
    CHECK(groups.error().message.find("group_add") != std::string::npos);
  }
}

TEST_CASE("names by numbers, for people") {
  const ImageRoot root;
  root.write("etc/passwd", kPasswd);
  root.write("etc/group", kGroup);
  const auto names = driver::account_names(root.fd.get());
  CHECK(names.users == std::map<std::uint32_t, std::string>{
                           {0, "root"}, {7, "short"}, {8, "badgid"}, {999, "redis"}, {1001, "alice"}});
  CHECK(names.groups.at(29) == "audio");  // the first of two
  CHECK(names.groups.size() == 5);
  ::unlink((root.dir / "etc/passwd").c_str());
  REQUIRE(::mkfifo((root.dir / "etc/passwd").c_str(), 0644) == 0);
  CHECK(driver::account_names(root.fd.get()).users.empty());
}
