#include "driver/mounts.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/temp_dir.h"

using driver::Mount;

namespace {

const driver::TaskDirs kDirs = {"/n/alloc", "/n/web", "/n/web/local", "/n/web/secrets"};

/// An allocation as the agent lays it out.
struct Allocation {
  Allocation() {
    for (const char* name : {"alloc/data", "alloc/logs", "web/local", "web/secrets", "web/private", "host"}) {
      REQUIRE(base::make_dirs(dir / name, 0755));
    }
    spec.alloc_dir = dir.path().string();
    spec.name = "web";
    spec.env = {{"NOMAD_ALLOC_DIR", "/alloc"}, {"NOMAD_TASK_DIR", "/local"}, {"NOMAD_SECRETS_DIR", "/secrets/"}};
  }
  Mount find(const std::string& destination) const {
    const auto mounts = driver::plan_mounts(spec);
    REQUIRE_MESSAGE(mounts.has_value(), mounts.error().message);
    for (const Mount& mount : *mounts) {
      if (mount.destination == destination) return mount;
    }
    return {};
  }
  std::string error() const {
    const auto mounts = driver::plan_mounts(spec);
    if (mounts) return "";
    CHECK(mounts.error().code == base::Code::kInvalidArgument);
    return mounts.error().message;
  }
  tests::TempDir dir;
  driver::TaskSpec spec;
};

}  // namespace

TEST_CASE("relative sources are below Nomad's folders") {
  const std::vector<std::array<std::string, 3>> good = {{"local", "/n/web/local", "."},
                                                        {"local/", "/n/web/local", "."},
                                                        {"local/a/b", "/n/web/local", "a/b"},
                                                        {"./local/a", "/n/web/local", "a"},
                                                        {"secrets/key", "/n/web/secrets", "key"},
                                                        {"alloc/data", "/n/alloc", "data"},
                                                        {"../alloc/data", "/n/alloc", "data"},
                                                        {"local/x/../y", "/n/web/local", "y"},
                                                        {"local/../secrets/k", "/n/web/secrets", "k"},
                                                        {"/etc/hosts", "", "/etc/hosts"}};
  for (const auto& [source, base, path] : good) {
    const auto& shown = source;  // clang 14 cannot capture a binding
    CAPTURE(shown);
    const auto resolved = driver::resolve_mount_source(source, kDirs);
    REQUIRE(resolved);
    CHECK(resolved->base == base);
    CHECK(resolved->path == path);
  }
  for (const char* bad : {"local/../../../etc", "..", "../web", "../../etc", "localdata/x", "private/x", "tmp", "", ".",
                          "alloc/../private", "../alloc/../../x"}) {
    CAPTURE(bad);
    const auto resolved = driver::resolve_mount_source(bad, kDirs);
    REQUIRE_FALSE(resolved);
    CHECK(resolved.error().code == base::Code::kInvalidArgument);
    CHECK(resolved.error().message.find(bad) != std::string::npos);
  }
  CHECK_FALSE(driver::resolve_mount_source("local/x", {}));
}

TEST_CASE("links in the task's folders do not lead out of them") {
  const Allocation alloc;
  const std::string local = alloc.dir / "web/local";
  REQUIRE(base::write_file_atomic(local + "/conf", "x", 0644, base::Durable::kNo));
  REQUIRE(::symlink("conf", (local + "/inside").c_str()) == 0);
  REQUIRE(::symlink("/etc", (local + "/etc").c_str()) == 0);
  REQUIRE(::symlink("../../host", (local + "/up").c_str()) == 0);
  CHECK(driver::locate_mount_source({local, "inside"}).value_or(std::string()) == local + "/conf");
  CHECK(driver::locate_mount_source({local, "."}).value_or(std::string()) == local);
  for (const char* path : {"etc", "etc/passwd", "up", "missing"}) {
    CAPTURE(path);
    const auto located = driver::locate_mount_source({local, path});
    REQUIRE_FALSE(located);
    CHECK(located.error().code == base::Code::kInvalidArgument);
    CHECK(located.error().message.find(path) != std::string::npos);
  }
  const auto missing = driver::locate_mount_source({"", "/no/such/folder"});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().message.find("/no/such/folder") != std::string::npos);
}

TEST_CASE("Nomad's folders go where the environment says; logs are read-only, private is not there") {
  const Allocation alloc;
  CHECK(alloc.find("/alloc").source == alloc.dir / "alloc");
  CHECK(alloc.find("/alloc/logs").options == std::vector<std::string>{"rbind", "rprivate", "ro"});
  CHECK(alloc.find("/local").source == alloc.dir / "web/local");
  CHECK(alloc.find("/secrets").options ==
        std::vector<std::string>{"rbind", "rprivate", "rw", "nosuid", "nodev", "noexec"});
  const auto mounts = driver::plan_mounts(alloc.spec);
  CHECK(mounts->size() == 4);
  CHECK(mounts->back().destination == "/alloc/logs");  // parents come first
  driver::TaskSpec by_hand;
  CHECK(driver::plan_mounts(by_hand)->empty());
}

TEST_CASE("Nomad's mounts with their propagation") {
  Allocation alloc;
  const std::string host = alloc.dir / "host";
  alloc.spec.mounts = {
      {"/ro", host, true, ""}, {"/shared", host, false, "bidirectional"}, {"/slave", host, false, "host-to-task"}};
  CHECK(alloc.find("/ro") == Mount{"/ro", "bind", host, {"rbind", "rprivate", "ro"}});
  CHECK(alloc.find("/shared").options == std::vector<std::string>{"rbind", "rshared", "rw"});
  CHECK(alloc.find("/slave").options == std::vector<std::string>{"rbind", "rslave", "rw"});
  alloc.spec.mounts = {{"/x", host, false, "sideways"}};
  CHECK(alloc.error().find("sideways") != std::string::npos);
  alloc.spec.mounts = {{"/x", host + "/none", false, ""}};
  CHECK(alloc.error().find("/none") != std::string::npos);
}

TEST_CASE("the job's mounts") {
  Allocation alloc;
  const std::string host = alloc.dir / "host";
  alloc.spec.options.mounts = {{"bind", "/a", host, {"rbind", "ro"}},
                               {"volume", "/b/", host, {"ro"}},
                               {"tmpfs", "/t", "", {"size=1m"}},
                               {"bind", "/c", "local", {"bind", "rw", "rslave"}}};
  CHECK(alloc.find("/a") == Mount{"/a", "bind", host, {"rbind", "ro", "rprivate"}});
  CHECK(alloc.find("/b") == Mount{"/b", "bind", host, {"rbind", "ro", "rprivate"}});
  CHECK(alloc.find("/t") == Mount{"/t", "tmpfs", "tmpfs", {"size=1m", "nosuid", "nodev"}});
  CHECK(alloc.find("/c") == Mount{"/c", "bind", alloc.dir / "web/local", {"bind", "rw", "rslave"}});
  alloc.spec.options.mounts = {{"bind", "/local", host, {"rbind"}}};
  CHECK(alloc.error().find("two mounts") != std::string::npos);
  alloc.spec.options.mounts = {{"bind", "/a/..", host, {"rbind"}}};
  CHECK(alloc.error().find("/a/..") != std::string::npos);
  alloc.spec.options.mounts = {{"bind", "/a", "/no/such/folder", {"rbind"}}};
  CHECK(alloc.error().find("/no/such/folder") != std::string::npos);
}
