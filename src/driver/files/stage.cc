#include "driver/files/stage.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "base/file.h"

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kMountinfoBytesMax = 16u << 20;
constexpr int kStagesMax = 16;  ///< stacked by starts that were cut short; more is not our doing

/// Where later mounts propagate.
enum class Propagation { kNone, kFromHost, kBoth };

Status make_stage(const std::string& dir);
Status stage_one(const Mount& mount, const OpenSource& source, const std::string& target);
Propagation propagation_of(const Mount& mount);
bool has_option(const Mount& mount, std::string_view option);
Status check_shared(const Mount& mount, const OpenSource& source, Propagation propagation);
Status make_placeholder(const std::string& target, bool directory);

}  // namespace

Result<std::vector<Mount>> stage_mounts(std::vector<Mount> mounts, const std::string& dir) {
  if (std::none_of(mounts.begin(), mounts.end(), [](const Mount& mount) { return mount.from.has_value(); })) {
    return mounts;
  }
  TRY_VOID(make_stage(dir));
  std::size_t number = 0;
  for (Mount& mount : mounts) {
    if (!mount.from) continue;
    TRY(const OpenSource source, open_mount_source(*mount.from));
    const std::string target = str(dir, "/", number++);
    if (auto staged = stage_one(mount, source, target); !staged) {
      return std::move(staged).error().wrap(str("mount at ", mount.destination));
    }
    mount.source = target;
    mount.from.reset();
  }
  return mounts;
}

Status unstage_mounts(const std::string& dir) {
  for (int i = 0; i < kStagesMax; ++i) {
    TRY(const bool mounted, base::is_mount_point(dir));
    if (!mounted) break;
    // First: an unmount propagates to the peers of what is unmounted, and those are the sources.
    if (::mount(nullptr, dir.c_str(), nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::umount2(dir.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      return Error::from_errno(errno, str("unmounting ", dir));
    }
  }
  return {};
}

namespace {

Status make_stage(const std::string& dir) {
  TRY_VOID(unstage_mounts(dir));
  TRY_VOID(base::make_dirs(dir, 0711));
  if (::mount(dir.c_str(), dir.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      ::mount(nullptr, dir.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
    return Error::from_errno(errno, str("mounting ", dir));
  }
  return {};
}

Status stage_one(const Mount& mount, const OpenSource& source, const std::string& target) {
  const Propagation propagation = propagation_of(mount);
  if (propagation != Propagation::kNone) TRY_VOID(check_shared(mount, source, propagation));
  const unsigned recursive = has_option(mount, "bind") ? 0 : AT_RECURSIVE;
  const base::Fd tree(
      ::open_tree(source.fd.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive));
  if (!tree) return Error::from_errno(errno, str("opening the tree of ", source.path));
  if (propagation != Propagation::kBoth) {
    struct mount_attr attributes = {};
    attributes.propagation = propagation == Propagation::kNone ? MS_PRIVATE : MS_SLAVE;
    if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0) {
      return Error::from_errno(errno, str("detaching the copy of ", source.path, " from its peers"));
    }
  }
  TRY_VOID(make_placeholder(target, source.directory));
  if (::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return Error::from_errno(errno, str("attaching ", source.path, " at ", target));
  }
  return {};
}

Propagation propagation_of(const Mount& mount) {
  if (has_option(mount, "shared") || has_option(mount, "rshared")) return Propagation::kBoth;
  if (has_option(mount, "slave") || has_option(mount, "rslave")) return Propagation::kFromHost;
  return Propagation::kNone;
}

bool has_option(const Mount& mount, std::string_view option) {
  return std::find(mount.options.begin(), mount.options.end(), option) != mount.options.end();
}

// Otherwise the option would be accepted and have no effect.
Status check_shared(const Mount& mount, const OpenSource& source, Propagation propagation) {
  struct statx info = {};
  if (::statx(source.fd.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &info) != 0) {
    return Error::from_errno(errno, str("statx ", source.path));
  }
  TRY(const std::string table, base::read_file("/proc/thread-self/mountinfo", kMountinfoBytesMax));
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    std::uint64_t id = 0;
    if (!(words >> id) || id != info.stx_mnt_id) continue;
    // spec: proc(5) mountinfo: id, parent, device, root, mount point, options, then the optional fields up to "-"
    while (words >> word && word != "-") {
      if (word.starts_with("shared:") || (propagation == Propagation::kFromHost && word.starts_with("master:")))
        return {};
    }
  }
  return Error::failed_precondition(
      str("the mount that ", source.path, " lies on is not shared on this host, so no mounts can propagate to ",
          mount.destination, ": run mount --make-rshared on it, or use private propagation"));
}

Status make_placeholder(const std::string& target, bool directory) {
  if (directory) return base::make_dirs(target, 0700);
  TRY(const base::Fd file, base::open_file(target, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  return {};
}

}  // namespace
}  // namespace driver
