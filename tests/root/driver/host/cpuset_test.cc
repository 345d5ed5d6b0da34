// What src/driver asks of the kernel's cgroups, in cgroups of this test's own.
#include "driver/host/cpuset.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "base/context.h"
#include "base/file.h"
#include "base/process.h"
#include "driver/host/stats.h"

namespace {

using driver::CgroupMode;

base::Context soon() {
  return base::Context::background().with_timeout(std::chrono::seconds(20));
}

/// A directory of a cgroup hierarchy, removed at the end.
class Group {
 public:
  explicit Group(std::string path) : path_(std::move(path)) { REQUIRE(::mkdir(path_.c_str(), 0755) == 0); }
  ~Group() { remove(); }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  const std::string& path() const { return path_; }
  void remove() const {
    const base::Context ctx = soon();  // a killed process is counted for a moment
    while (::rmdir(path_.c_str()) != 0 && errno == EBUSY && ctx.sleep(std::chrono::milliseconds(2))) continue;
  }
  std::string text(const char* file) const {
    const auto content = base::read_file(path_ + "/" + file, 4096);
    return content ? *content : "";
  }
  void write(const char* file, const std::string& content) const {
    const auto written = base::write_file(path_ + "/" + file, content);
    REQUIRE_MESSAGE(written.has_value(), written.error().message);
  }

 private:
  const std::string path_;
};

std::string own_name(const char* what) {
  return base::str("/cd-test-", what, "-", ::getpid());
}

bool exists(const std::string& path) {
  return std::filesystem::exists(path);
}

}  // namespace

TEST_CASE("a cgroup that is made anew under its name is measured again") {
  const std::string root = exists("/sys/fs/cgroup/unified/cgroup.procs") ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
  REQUIRE(exists(root + "/cgroup.procs"));
  const std::string name = own_name("stats");
  driver::StatsSampler sampler({.mode = CgroupMode::kV2, .path = name, .root = root}, 1000);
  CHECK(sampler.sample().error().code == base::Code::kNotFound);  // not yet
  for (int life = 0; life < 3; ++life) {
    const Group group(root + name);
    CHECK(sampler.sample().has_value());
    CHECK(sampler.sample().has_value());
    group.remove();
    CHECK(sampler.sample().error().code == base::Code::kNotFound);
  }
}

TEST_CASE("a task and its later commands move into the agent's cpuset") {
  const std::string root = "/sys/fs/cgroup";
  if (!exists(root + "/cpuset/cpuset.cpus")) {
    MESSAGE("skipped: no cgroup v1 cpuset hierarchy");
    return;
  }
  const auto cpus = base::read_file(root + "/cpuset/cpuset.cpus", 4096);
  const auto mems = base::read_file(root + "/cpuset/cpuset.mems", 4096);
  REQUIRE((cpus && mems));
  const std::string name = own_name("own");
  const Group own(root + "/cpuset" + name);
  const Group agents(root + "/cpuset" + own_name("agent"));
  for (const Group* group : {&own, &agents}) {
    group->write("cpuset.mems", *mems);
    group->write("cpuset.cpus", group == &own ? *cpus : "0");
  }
  base::SpawnOptions sleep;
  sleep.argv = {"/bin/sleep", "1000"};
  auto task = base::Process::spawn(sleep);
  auto command = base::Process::spawn(sleep);
  REQUIRE((task && command));
  own.write("cgroup.procs", base::str(task->pid()));

  const driver::CgroupLocation container{.mode = CgroupMode::kV1, .path = name};
  driver::Resources resources;
  resources.cpuset_cgroup = agents.path();
  CHECK(driver::join_nomad_cpuset(container, resources));
  CHECK(agents.text("cgroup.procs") == base::str(task->pid(), "\n"));
  CHECK(own.text("cgroup.procs").empty());
  CHECK(agents.text("cpuset.cpus") == "0\n");

  own.write("cgroup.procs", base::str(command->pid()));  // as the runtime does it for an exec
  CHECK(driver::follow_into_cpuset(container, task->pid()));
  CHECK(own.text("cgroup.procs").empty());
  CHECK(agents.text("cgroup.procs").find(base::str(command->pid())) != std::string::npos);

  // One that has ended and was not waited for stays in the list on some kernels: that is not one to wait for.
  auto brief = base::Process::spawn(sleep);
  REQUIRE(brief);
  own.write("cgroup.procs", base::str(brief->pid()));
  REQUIRE(brief->kill(SIGKILL));
  REQUIRE(base::wait_exited(soon(), brief->pidfd()));
  CHECK(driver::join_nomad_cpuset(container, resources));
  CHECK(brief->wait(soon()).has_value());

  for (base::Process* process : {&*task, &*command}) {
    CHECK(process->kill(SIGKILL));
    CHECK(process->wait(soon()).has_value());
  }
}
