#include "driver/host/cpuset.h"

#include <unistd.h>

#include <algorithm>
#include <set>
#include <string>

#include "base/file.h"
#include "base/log.h"

namespace driver {

using base::Status;
using base::str;

namespace {

constexpr std::size_t kCpusBytesMax = 64u << 10;
constexpr std::size_t kProcsBytesMax = 1u << 20;
/// A container that forks while it is moved needs a second look; one that needs more than these is a fork bomb, which
/// is no reason to refuse its start.
constexpr int kPassesMax = 20;

Status set_cores(const std::string& dir, const std::string& cores);
Status move_all(const std::string& from, const std::string& to);

}  // namespace

Status join_nomad_cpuset(const CgroupLocation& container, const Resources& resources) {
  if (container.mode != CgroupMode::kV1) return {};
  const std::string& target = resources.cpuset_cgroup;
  const bool agents = target.starts_with(container.root + "/cpuset/") && target.find("/..") == std::string::npos;
  if (!agents || ::access((target + "/cgroup.procs").c_str(), F_OK) != 0) return {};
  if (!resources.cpuset_cpus.empty()) TRY_VOID(set_cores(target, resources.cpuset_cpus));
  auto moved = move_all(str(container.root, "/cpuset", container.path), target);
  if (!moved) return std::move(moved).error().wrap(str("moving the task into the agent's cpuset ", target));
  return {};
}

Status follow_into_cpuset(const CgroupLocation& container, pid_t init) {
  if (container.mode != CgroupMode::kV1) return {};
  const auto text = base::read_file(str("/proc/", init, "/cgroup"), kCpusBytesMax);
  const std::string path = text ? parse_cpuset_path(*text) : "";  // it has ended: so will what came in
  if (path.empty() || path == container.path) return {};
  return move_all(str(container.root, "/cpuset", container.path), str(container.root, "/cpuset", path));
}

std::string parse_cpuset_path(std::string_view proc_cgroup) {
  constexpr std::string_view kKey = ":cpuset:";
  const std::size_t at = proc_cgroup.find(kKey);
  if (at == std::string_view::npos) return "";
  proc_cgroup.remove_prefix(at + kKey.size());
  return std::string(proc_cgroup.substr(0, proc_cgroup.find('\n')));
}

namespace {

// The agent makes the group and gives it memory nodes; the cores are the driver's to write.
Status set_cores(const std::string& dir, const std::string& cores) {
  const auto mems = base::read_file(dir + "/cpuset.mems", kCpusBytesMax);
  if (mems && mems->find_first_not_of(" \n") == std::string::npos) {
    TRY(const std::string inherited, base::read_file(dir + "/../cpuset.mems", kCpusBytesMax));
    TRY_VOID(base::write_file(dir + "/cpuset.mems", inherited));
  }
  auto written = base::write_file(dir + "/cpuset.cpus", cores);
  if (!written) return std::move(written).error().wrap(str("giving the task the cores ", cores));
  return {};
}

Status move_all(const std::string& from, const std::string& to) {
  std::set<std::string, std::less<>> seen;
  for (int pass = 0; pass < kPassesMax; ++pass) {
    const auto text = base::read_file(from + "/cgroup.procs", kProcsBytesMax);
    if (!text && (text.error().code == base::Code::kNotFound || text.error().sys_errno == ENODEV)) return {};  // ended
    if (!text) return text.error();
    bool any_new = false;
    for (std::string_view rest = *text; !rest.empty();) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view pid = rest.substr(0, end);
      CHECK(pid != "0");  // would be ourselves; and no task is in a pid namespace that we do not see into
      auto moved = base::write_file(to + "/cgroup.procs", pid);
      if (!moved && moved.error().sys_errno != ESRCH) return moved;
      // One that is ending stays in the list, and to move it "succeeds" each time.
      any_new = seen.emplace(pid).second || any_new;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (!any_new) return {};  // none is left, or only what is ending
  }
  LOG_WARN("processes appear faster than they can be moved: some may run on cores of other tasks",
           {{"from", from}, {"to", to}});
  return {};
}

}  // namespace
}  // namespace driver
