#include "driver/files/mounts.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "tests/temp_dir.h"

using base::str;
using driver::Mount;

namespace {

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
      if (mount.destination != destination) continue;
      Mount found = mount;
      found.from.reset();  // asked for by from()
      return found;
    }
    return {};
  }
  /// "base|path" of the source that will be opened again, "" if it will not.
  std::string from(const std::string& destination, driver::HostFiles host_files = driver::HostFiles::kYes) const {
    const auto mounts = driver::plan_mounts(spec, host_files);
    REQUIRE_MESSAGE(mounts.has_value(), mounts.error().message);
    for (const Mount& mount : *mounts) {
      if (mount.destination == destination && mount.from) return mount.from->base + "|" + mount.from->path;
    }
    return "";
  }
  std::string error(base::Code code = base::Code::kInvalidArgument,
                    driver::HostFiles host_files = driver::HostFiles::kYes) const {
    const auto mounts = driver::plan_mounts(spec, host_files);
    if (mounts) return "";
    CHECK(mounts.error().code == code);
    return mounts.error().message;
  }
  tests::TempDir dir;
  driver::TaskSpec spec;
};

}  // namespace

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

TEST_CASE("whatever a task may have touched is opened again from the folder that it cannot leave") {
  Allocation alloc;
  const std::string local = alloc.dir / "web/local";
  const std::string host = alloc.dir / "host";
  REQUIRE(base::make_dirs(local + "/data", 0755));
  CHECK(alloc.from("/alloc").empty());
  CHECK(alloc.from("/alloc/logs") == str(alloc.dir / "alloc", "|logs"));
  alloc.spec.mounts = {{"/nomad", host, true, ""}};
  alloc.spec.options.mounts = {{"bind", "/a", "local/data", {"rbind"}},
                               {"bind", "/b", local + "/data", {"rbind"}},
                               {"bind", "/c", host, {"rbind"}}};
  CHECK(alloc.from("/nomad") == "|" + host);
  CHECK(alloc.from("/a") == local + "|data");
  CHECK(alloc.from("/b") == local + "|data");
  CHECK(alloc.from("/c") == "|" + host);

  REQUIRE(::rmdir((alloc.dir / "alloc/logs").c_str()) == 0);
  REQUIRE(::symlink("/etc", (alloc.dir / "alloc/logs").c_str()) == 0);
  CHECK(alloc.error().find("alloc/logs is not a directory") != std::string::npos);
}

TEST_CASE("a node without host files has the allocation's, wherever links lead") {
  Allocation alloc;
  const std::string local = alloc.dir / "web/local";
  const std::string host = alloc.dir / "host";
  REQUIRE(base::make_dirs(local + "/data", 0755));
  REQUIRE(::symlink((local + "/data").c_str(), (alloc.dir / "into").c_str()) == 0);
  REQUIRE(::symlink(host.c_str(), (local + "/out").c_str()) == 0);
  const auto mount = [&](const std::string& source) {
    alloc.spec.options.mounts = {{"bind", "/x", source, {"rbind"}}};
  };
  for (const std::string& source : {std::string("local/data"), local + "/data", alloc.dir / "into"}) {
    CAPTURE(source);
    mount(source);
    CHECK(alloc.from("/x", driver::HostFiles::kNo) == local + "|data");
  }
  for (const std::string& source : {host, local + "/out", std::string("/")}) {
    CAPTURE(source);
    mount(source);
    CHECK(alloc.error(base::Code::kPermissionDenied, driver::HostFiles::kNo).find("volumes.enabled") !=
          std::string::npos);
  }
  for (const std::string& source : {alloc.dir / "web/private", alloc.dir / "web"}) {
    CAPTURE(source);
    mount(source);
    CHECK_FALSE(alloc.error().empty());
  }
  // Nomad's own volumes are Nomad's business.
  alloc.spec.options.mounts.clear();
  alloc.spec.mounts = {{"/x", host, false, ""}};
  CHECK(alloc.from("/x", driver::HostFiles::kNo) == "|" + host);
}

TEST_CASE("missing sources are made where `volumes` ask for them, below the task's folders only") {
  Allocation alloc;
  alloc.spec.options.mounts = {{"bind", "/x", "local/made/deep", {"rbind"}, true},
                               {"bind", "/y", "own", {"rbind"}, true}};
  CHECK(alloc.from("/x") == str(alloc.dir / "web/local", "|made/deep"));
  CHECK(std::filesystem::is_directory(alloc.dir / "web/local/made/deep"));
  CHECK(std::filesystem::is_directory(alloc.dir / "web/own"));
  alloc.spec.options.mounts = {{"bind", "/x", alloc.dir / "typo", {"rbind"}, true}};
  CHECK(alloc.error().find("does not exist") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(alloc.dir / "typo"));
}

TEST_CASE("nothing is mounted over /proc but what others mount there") {
  Allocation alloc;
  const std::string host = alloc.dir / "host";
  for (const char* target : {"/proc", "/proc/sys", "/x/../proc/1"}) {
    CAPTURE(target);
    alloc.spec.options.mounts = {{"bind", target, host, {"rbind"}}};
    CHECK(alloc.error().find("is in /proc") != std::string::npos);
  }
  for (const char* target : {"/proc/meminfo", "/process"}) {
    CAPTURE(target);
    alloc.spec.options.mounts = {{"bind", target, host, {"rbind"}}};
    CHECK(alloc.error().empty());
  }
}
