#include "shim/bundle.h"

#include <doctest/doctest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "shim/shim.h"
#include "tests/temp_dir.h"

using base::Code;

namespace {

struct Fixture {
  tests::TempDir dir;
  shim::ShimNames names{"task-1", dir / "bundles/task-1", dir / "s.sock", "containerd-driver/task-1"};

  static unsigned mode(const std::string& path) {
    struct stat st {};
    REQUIRE(::lstat(path.c_str(), &st) == 0);
    return st.st_mode;
  }
  std::string in_bundle(const std::string& name) const { return names.bundle_dir + "/" + name; }
  void append(const std::string& name, const std::string& text) const {
    const auto old = base::read_file(in_bundle(name), 1u << 20);
    REQUIRE(base::write_file_atomic(in_bundle(name), (old ? *old : "") + text, 0600, base::Durable::kNo).has_value());
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "what is too large to be read again is not written") {
  REQUIRE(shim::write_bundle(names, std::string(shim::kConfigBytesMax, ' ')));
  const auto written = shim::write_bundle(names, std::string(shim::kConfigBytesMax + 1, ' '));
  REQUIRE_FALSE(written);
  CHECK(written.error().code == Code::kInvalidArgument);
  CHECK(written.error().message.find("4194305 bytes, the limit is 4194304") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "a configuration that cannot be read is not taken for one that is not there") {
  REQUIRE(shim::prepare_bundle(names));
  REQUIRE(base::make_dirs(in_bundle("config.json"), 0700));
  CHECK_FALSE(shim::delete_forced(base::Context::cleanup(), {}, names, std::nullopt));
  CHECK(std::filesystem::exists(names.bundle_dir));
  REQUIRE(base::remove_tree(in_bundle("config.json")));
  CHECK(shim::delete_forced(base::Context::cleanup(), {}, names, std::nullopt));
  CHECK_FALSE(std::filesystem::exists(names.bundle_dir));
}

TEST_CASE_FIXTURE(Fixture, "a bundle has what a shim expects") {
  const mode_t old_mask = ::umask(0077);
  REQUIRE(shim::write_bundle(names, "{\"a\":1}").has_value());
  ::umask(old_mask);
  CHECK(mode(names.bundle_dir) == (S_IFDIR | 0711));
  CHECK(mode(dir / "bundles") == (S_IFDIR | 0711));
  CHECK(mode(in_bundle("rootfs")) == (S_IFDIR | 0711));
  CHECK(mode(in_bundle("log")) == (S_IFREG | 0600));
  CHECK(mode(in_bundle("config.json")) == (S_IFREG | 0600));
  CHECK(*base::read_file(in_bundle("config.json"), 100) == "{\"a\":1}");
  CHECK(*base::read_file(in_bundle("address"), 200) == "unix://" + names.socket_path);

  append("log", "kept\n");
  REQUIRE(shim::write_bundle(names, "{}").has_value());  // again: config replaced, log kept
  CHECK(*base::read_file(in_bundle("config.json"), 100) == "{}");
  CHECK(*base::read_file(in_bundle("log"), 100) == "kept\n");
}

TEST_CASE_FIXTURE(Fixture, "names keep their rules") {
  for (const char* good : {"a", "A1", "task-1", "a.b_c-d", "0"}) {
    auto n = names;
    n.container_id = good;
    n.bundle_dir = dir / good;
    CHECK_MESSAGE(shim::check_names(n).has_value(), good);
  }
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("-a"), std::string("a-"), std::string("a--b"),
        std::string("a/b"), std::string("a b"), std::string("a\n"), std::string("\xc3\xa9"), std::string("a\0b", 3),
        std::string(77, 'a')}) {
    auto n = names;
    n.container_id = bad;
    n.bundle_dir = dir / bad;
    CHECK_MESSAGE(shim::check_names(n).error().code == Code::kInvalidArgument, bad);
  }
  auto n = names;
  n.bundle_dir = "bundles/task-1";
  CHECK(shim::check_names(n).error().code == Code::kInvalidArgument);
  n = names;
  n.bundle_dir = dir / "task-2";
  CHECK(shim::prepare_bundle(n).error().code == Code::kInvalidArgument);
  n = names;
  n.socket_path = "/" + std::string(shim::kSocketPathBytesMax, 's');
  CHECK(shim::check_names(n).error().message.find("state_dir") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "the last words of shim and runtime") {
  CHECK(shim::bundle_log_tail(names).empty());
  REQUIRE(shim::prepare_bundle(names).has_value());
  CHECK(shim::bundle_log_tail(names).empty());
  append("log", "one\n\ntwo\nthree\nfour");
  CHECK(shim::bundle_log_tail(names) == "two | three | four");
  append("log.json",
         "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"exec failed\"}\n"
         "{\"level\":\"info\",\"msg\":\"no matter\"}\nnot json\n[1]\n{\"level\":7}\n");
  CHECK(shim::bundle_log_tail(names) == "exec failed | two | three | four");
  append("log", "\n" + std::string(1u << 16, 'x') + "\n");
  CHECK(shim::bundle_log_tail(names).size() <= shim::kBundleLogTailBytesMax);
}

TEST_CASE_FIXTURE(Fixture, "a log that is a symlink or a FIFO is not read") {
  REQUIRE(shim::prepare_bundle(names).has_value());
  REQUIRE(::unlink(in_bundle("log").c_str()) == 0);
  SUBCASE("symlink") {
    std::filesystem::create_symlink("/etc/passwd", in_bundle("log"));
  }
  SUBCASE("FIFO") {
    REQUIRE(::mkfifo(in_bundle("log").c_str(), 0600) == 0);
  }
  CHECK(shim::bundle_log_tail(names).empty());
}

TEST_CASE_FIXTURE(Fixture, "removing a bundle") {
  CHECK(shim::remove_bundle(names).has_value());  // absent is fine
  REQUIRE(shim::write_bundle(names, "{}").has_value());
  if (::geteuid() == 0 && ::mount("tmpfs", in_bundle("rootfs").c_str(), "tmpfs", 0, nullptr) == 0) {
    CHECK(shim::remove_bundle(names).error().code == Code::kFailedPrecondition);
    CHECK(std::filesystem::exists(in_bundle("config.json")));
    REQUIRE(::umount(in_bundle("rootfs").c_str()) == 0);
  }
  CHECK(shim::remove_bundle(names).has_value());
  CHECK_FALSE(std::filesystem::exists(names.bundle_dir));
}
