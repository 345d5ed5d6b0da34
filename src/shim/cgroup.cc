#include "shim/cgroup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string_view>

#include "base/file.h"
#include "base/log.h"
#include "base/process.h"

namespace shim {

namespace {

constexpr std::size_t kProcCgroupBytesMax = 64u << 10;
constexpr std::size_t kCgroupProcsBytesMax = 1u << 20;
constexpr int kCgroupDepthMax = 32;

std::string v2_root(const std::string& mount_root);
const CgroupHierarchy* own_hierarchy(const std::vector<CgroupHierarchy>& all);
base::Status check_cgroup_path(const std::string& path);
std::vector<std::string> existing_dirs(const std::string& path);
void kill_members(const std::string& dir, const std::string& path);
void thaw_tree(const std::string& dir, int depth = 0);
std::vector<pid_t> list_processes(const std::string& dir, int depth = 0);
std::vector<std::string> child_dirs(const std::string& dir);
base::Status remove_dir_tree(const base::Context& ctx, const std::string& dir, int depth = 0);

}  // namespace

std::vector<CgroupHierarchy> cgroup_hierarchies(const std::string& mount_root) {
  std::vector<CgroupHierarchy> found;
  const auto text = base::read_file("/proc/self/cgroup", kProcCgroupBytesMax);
  if (!text) return found;
  std::istringstream lines(*text);
  std::string line;
  while (std::getline(lines, line)) {
    // 4:memory:/a/b   9:name=systemd:/   0::/a/b
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers.starts_with("name=")) controllers.erase(0, 5);
    CgroupHierarchy hierarchy;
    hierarchy.v2 = controllers.empty();
    hierarchy.root = hierarchy.v2 ? v2_root(mount_root) : base::str(mount_root, "/", controllers);
    hierarchy.freezer = controllers == "freezer";
    hierarchy.at_root = line.compare(second + 1, std::string::npos, "/") == 0;
    if (::access((hierarchy.root + "/cgroup.procs").c_str(), F_OK) == 0) found.push_back(std::move(hierarchy));
  }
  return found;
}

base::Result<ShimCgroup> make_shim_cgroup(const std::string& cgroup_name) {
  const auto all = cgroup_hierarchies();
  const CgroupHierarchy* own = own_hierarchy(all);
  if (own == nullptr) {
    return base::Error::failed_precondition(
        "no cgroup2 and no cgroup v1 freezer hierarchy is mounted below /sys/fs/cgroup: mount one");
  }
  const std::string dir = base::str(own->root, "/", cgroup_name);
  TRY_VOID(base::make_dirs(dir, 0755));
  ShimCgroup cgroup;
  if (own->v2) {
    TRY(cgroup.dir, base::open_file(dir, O_PATH | O_DIRECTORY));
  } else {
    TRY(cgroup.procs, base::open_file(dir + "/cgroup.procs", O_WRONLY));
  }
  return cgroup;
}

base::Status leave_v1_cgroups(pid_t pid, const std::string& cgroup_name) {
  const auto all = cgroup_hierarchies();
  const CgroupHierarchy* own = own_hierarchy(all);
  std::vector<std::string> targets;
  for (const CgroupHierarchy& hierarchy : all) {
    if (!hierarchy.v2 && !hierarchy.at_root && &hierarchy != own) targets.push_back(hierarchy.root);
  }
  if (targets.empty() && own != nullptr) targets.push_back(base::str(own->root, "/", cgroup_name));
  for (const std::string& target : targets) {
    auto moved = base::write_file(target + "/cgroup.procs", base::str(pid));
    if (!moved && moved.error().sys_errno != ESRCH) return std::move(moved).error();
  }
  return {};
}

base::Status kill_cgroup(const base::Context& ctx, const std::string& path) {
  TRY_VOID(check_cgroup_path(path));
  std::chrono::milliseconds pause{1};
  while (true) {
    std::string left;
    for (const std::string& dir : existing_dirs(path)) {
      if (list_processes(dir).empty()) continue;
      kill_members(dir, path);
      thaw_tree(dir);  // afterwards, so that nobody runs on; a frozen process dies only when it is thawed
      for (const pid_t pid : list_processes(dir)) left += base::str(left.empty() ? "" : " ", pid);
    }
    if (left.empty()) return {};
    if (auto slept = ctx.sleep(pause); !slept) {
      return std::move(slept).error().wrap(
          base::str("killing the processes of cgroup ", path, " (still there: ", left, ")"));
    }
    pause = std::min(pause * 2, std::chrono::milliseconds(20));
  }
}

void thaw_cgroup(const std::string& path) {
  if (!check_cgroup_path(path)) return;
  for (const std::string& dir : existing_dirs(path)) thaw_tree(dir);
}

base::Result<bool> is_frozen(const std::string& path) {
  constexpr std::size_t kBytesMax = 4096;
  TRY_VOID(check_cgroup_path(path));
  for (const CgroupHierarchy& hierarchy : cgroup_hierarchies()) {
    if (!hierarchy.v2 && !hierarchy.freezer) continue;
    const std::string dir = base::str(hierarchy.root, path.starts_with('/') ? "" : "/", path);
    const auto text = base::read_file(dir + (hierarchy.v2 ? "/cgroup.events" : "/freezer.state"), kBytesMax);
    if (!text && (text.error().sys_errno == ENOENT || text.error().sys_errno == ENODEV)) continue;
    if (!text) return text.error();
    if (text->find(hierarchy.v2 ? "frozen 1" : "FR") != std::string::npos) return true;  // FROZEN, FREEZING
  }
  return false;
}

base::Status remove_cgroup(const base::Context& ctx, const std::string& path) {
  TRY_VOID(check_cgroup_path(path));
  base::Status first_error;
  for (const std::string& dir : existing_dirs(path)) {
    auto removed = remove_dir_tree(ctx, dir);
    if (!removed && first_error) first_error = std::move(removed);
  }
  return first_error;
}

std::string cgroup_parent(const std::string& cgroup_name) {
  return std::filesystem::path(cgroup_name).parent_path();
}

void remove_cgroup_if_empty(const std::string& path) {
  if (!check_cgroup_path(path)) return;
  for (const std::string& dir : existing_dirs(path)) ::rmdir(dir.c_str());
}

namespace {

std::string v2_root(const std::string& mount_root) {
  struct statfs fs {};
  if (::statfs(mount_root.c_str(), &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC) return mount_root;
  return mount_root + "/unified";
}

const CgroupHierarchy* own_hierarchy(const std::vector<CgroupHierarchy>& all) {
  const auto v2 = std::find_if(all.begin(), all.end(), [](const CgroupHierarchy& h) { return h.v2; });
  if (v2 != all.end()) return &*v2;
  const auto freezer = std::find_if(all.begin(), all.end(), [](const CgroupHierarchy& h) { return h.freezer; });
  return freezer != all.end() ? &*freezer : nullptr;
}

// The path comes from a config.json: it must not lead out of the hierarchy, and must not be all of it.
base::Status check_cgroup_path(const std::string& path) {
  bool named = false;
  for (const auto& part : std::filesystem::path(path)) {
    if (part == "..") return base::Error::invalid_argument(base::str("cgroup path ", path, " contains \"..\""));
    named = named || (part != "/" && part != "." && !part.empty());
  }
  if (!named) return base::Error::invalid_argument(base::str("cgroup path \"", path, "\" names no cgroup"));
  return {};
}

std::vector<std::string> existing_dirs(const std::string& path) {
  std::vector<std::string> dirs;
  for (const CgroupHierarchy& hierarchy : cgroup_hierarchies()) {
    std::string dir = base::str(hierarchy.root, path.starts_with('/') ? "" : "/", path);
    struct stat st {};
    if (::lstat(dir.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) dirs.push_back(std::move(dir));
  }
  return dirs;
}

void kill_members(const std::string& dir, const std::string& path) {
  // v2: one write takes all, below too, frozen or forking. v1: one by one until none is left (the caller repeats).
  if (base::write_file(dir + "/cgroup.kill", "1")) return;
  for (const pid_t pid : list_processes(dir)) {
    const base::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd) continue;
    // The number may have been recycled since it was listed: what we kill must be a member still.
    const auto member_of = base::read_file(base::str("/proc/", pid, "/cgroup"), kProcCgroupBytesMax);
    if (!member_of || member_of->find(base::str(path.starts_with('/') ? ":" : ":/", path)) == std::string::npos)
      continue;
    [[maybe_unused]] const auto sent = base::send_signal(pidfd.get(), SIGKILL);
  }
}

// spec: cgroup v1 freezer-subsystem (a group thaws once it and all above it are thawed), v2 "cgroup.freeze". Only the
// hierarchies that freeze have the files.
void thaw_tree(const std::string& dir, int depth) {
  [[maybe_unused]] const auto v1 = base::write_file(dir + "/freezer.state", "THAWED");
  [[maybe_unused]] const auto v2 = base::write_file(dir + "/cgroup.freeze", "0");
  if (depth >= kCgroupDepthMax) return;
  for (const std::string& child : child_dirs(dir)) thaw_tree(child, depth + 1);
}

std::vector<pid_t> list_processes(const std::string& dir, int depth) {
  std::vector<pid_t> pids;
  const auto text = base::read_file(dir + "/cgroup.procs", kCgroupProcsBytesMax);
  std::istringstream lines(text ? *text : std::string());
  for (pid_t pid; lines >> pid;) pids.push_back(pid);
  if (depth >= kCgroupDepthMax) return pids;
  for (const std::string& child : child_dirs(dir)) {
    const auto below = list_processes(child, depth + 1);
    pids.insert(pids.end(), below.begin(), below.end());
  }
  return pids;
}

std::vector<std::string> child_dirs(const std::string& dir) {
  std::vector<std::string> children;
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error) && !it->is_symlink(error)) children.push_back(it->path());
  }
  return children;
}

base::Status remove_dir_tree(const base::Context& ctx, const std::string& dir, int depth) {
  constexpr std::chrono::milliseconds kPause{5};
  constexpr int kTriesMax = 40;
  if (depth < kCgroupDepthMax) {
    for (const std::string& child : child_dirs(dir)) TRY_VOID(remove_dir_tree(ctx, child, depth + 1));
  }
  // A process that was just killed is counted until it has quite ended.
  for (int tries = 1; ::rmdir(dir.c_str()) != 0; ++tries) {
    if (errno == ENOENT) return {};
    if (errno != EBUSY || tries == kTriesMax) return base::Error::from_errno(errno, base::str("removing cgroup ", dir));
    TRY_VOID(ctx.sleep(kPause));
  }
  return {};
}

}  // namespace

}  // namespace shim
