#include "driver/host/cpuset.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "tests/temp_dir.h"

using driver::CgroupMode;

namespace {

/// A v1 tree of plain files: a write shows as the file's text, and nothing moves by it.
struct Tree {
  tests::TempDir dir;
  std::string root = dir.path().string();
  driver::CgroupLocation container{.mode = CgroupMode::kV1, .path = "/nomad/a.web", .root = root};

  void file(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  }
  std::string text(const std::string& path) const { return base::read_file(root + path, 100).value_or("none"); }
};

}  // namespace

TEST_CASE("where a process's cpuset is") {
  CHECK(driver::parse_cpuset_path("12:memory:/nomad/a.web\n4:cpuset:/nomad/share\n0::/x\n") == "/nomad/share");
  CHECK(driver::parse_cpuset_path("4:cpuset:/") == "/");
  CHECK(driver::parse_cpuset_path("0::/nomad.slice/a.scope\n").empty());
}

TEST_CASE("a task with cores gets them in the agent's group") {
  const Tree tree;
  const std::string target = "/cpuset/nomad/reserve/a.web";
  tree.file("/cpuset/nomad/reserve/cpuset.mems", "0\n");
  tree.file(target + "/cpuset.mems", "\n");
  tree.file(target + "/cpuset.cpus", "");
  tree.file(target + "/cgroup.procs", "");
  tree.file("/cpuset/nomad/a.web/cgroup.procs", "");
  driver::Resources resources;
  resources.cpuset_cpus = "2,4-5";
  resources.cpuset_cgroup = tree.root + target;
  CHECK(driver::join_nomad_cpuset(tree.container, resources));
  CHECK(tree.text(target + "/cpuset.cpus") == "2,4-5");
  CHECK(tree.text(target + "/cpuset.mems") == "0\n");
}

TEST_CASE("a task without cores: the shared set is the agent's alone, only the processes go there") {
  const Tree tree;
  tree.file("/cpuset/nomad/share/cpuset.cpus", "0-1\n");
  tree.file("/cpuset/nomad/share/cgroup.procs", "");
  tree.file("/cpuset/nomad/a.web/cgroup.procs", "4194301\n");
  driver::Resources resources;
  resources.cpuset_cgroup = tree.root + "/cpuset/nomad/share";
  // These files never empty, as if the task forked for ever: that must end, too.
  CHECK(driver::join_nomad_cpuset(tree.container, resources));
  CHECK(tree.text("/cpuset/nomad/share/cgroup.procs") == "4194301");
  CHECK(tree.text("/cpuset/nomad/share/cpuset.cpus") == "0-1\n");
}

TEST_CASE("nothing happens on v2, without an agent, and for a path that leads elsewhere") {
  const Tree tree;
  tree.file("/cpuset/nomad/a.web/cgroup.procs", "4194301\n");
  tree.file("/elsewhere/cgroup.procs", "");
  driver::Resources resources;
  for (const char* sent : {"/cpuset/nomad/share", "/nomad.slice/a.web.scope", "/cpuset/../elsewhere", "/elsewhere"}) {
    resources.cpuset_cgroup = tree.root + sent;
    CHECK(driver::join_nomad_cpuset(tree.container, resources));
  }
  CHECK(tree.text("/elsewhere/cgroup.procs").empty());
  driver::CgroupLocation v2 = tree.container;
  v2.mode = CgroupMode::kV2;
  CHECK(driver::join_nomad_cpuset(v2, resources));
  CHECK(driver::follow_into_cpuset(v2, 1));
}
