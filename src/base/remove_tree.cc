// remove_tree_at (base/file.h): depth costs heap, not stack and not descriptors.
//
// A walk holds the directories from the top down to where it is, and only the deepest of them open. One that was closed
// is found again as ".." of the one below, and counts only if it is what it was on the way down: whoever moves
// directories about meanwhile ends the walk, and leads it nowhere.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <set>
#include <vector>

#include "base/dir.h"
#include "base/file.h"

namespace base {

namespace {

constexpr std::size_t kOpenMax = 8;  // directories at once
constexpr int kPassesMax = 16;       // through one directory: others may still put files into it

/// Names a directory for as long as somebody holds it, or is in it.
struct Identity {
  unsigned device_major = 0;
  unsigned device_minor = 0;
  std::uint64_t inode = 0;
  std::int64_t born_seconds = 0;  // tells an inode number that is used again; 0 where the file system keeps none
  std::uint32_t born_nanoseconds = 0;
  bool operator==(const Identity&) const = default;
};

/// A directory that is being emptied.
struct Level {
  std::string name;
  Identity identity;
  Dir dir;                       // closed while it is kOpenMax above the deepest
  std::set<std::string> failed;  // entries that stay
  int passes = 1;
  bool removed_some = false;  // in this pass
};

class TreeRemoval {
 public:
  /// `name` in `dir_fd` is a directory.
  TreeRemoval(int dir_fd, dev_t device) : top_fd_(dir_fd), device_(device) {}
  Status run(const std::string& name);

 private:
  Status enter(const std::string& name);
  Result<const dirent*> next_entry();
  void remove(const std::string& name);
  Status leave();
  Status reopen_parent();
  void fail(const std::string& name, Error error);

  const int top_fd_;
  const dev_t device_;
  std::vector<Level> levels_;
  Status first_error_;
};

struct Opened {
  Fd fd;
  Identity identity;
  bool is_mount_root = false;
};
Result<Opened> open_directory(int dir_fd, const std::string& name);

}  // namespace

Status remove_tree_at(int dir_fd, const std::string& name) {
  struct stat st {};
  if (::fstatat(dir_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return Error::from_errno(errno, str("reading the attributes of ", name));
  }
  if (S_ISDIR(st.st_mode)) return TreeRemoval(dir_fd, st.st_dev).run(name);
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  return Error::from_errno(errno, str("removing ", name));
}

namespace {

// Removes as much as it can; the first error is the one reported.
Status TreeRemoval::run(const std::string& name) {
  TRY_VOID(enter(name));
  while (!levels_.empty()) {
    const auto entry = next_entry();
    if (entry && *entry != nullptr) {
      remove((*entry)->d_name);
    } else {
      if (!entry && first_error_) first_error_ = entry.error();
      TRY_VOID(leave());
    }
  }
  return first_error_;
}

Status TreeRemoval::enter(const std::string& name) {
  TRY(Opened opened, open_directory(levels_.empty() ? top_fd_ : levels_.back().dir.fd(), name));
  // A bind mount of the same file system has the same device, hence the second test.
  const auto& id = opened.identity;
  if (makedev(id.device_major, id.device_minor) != device_ || opened.is_mount_root) {
    return Error::failed_precondition(str("something is mounted on ", name));
  }
  Level level;
  level.name = name;
  level.identity = id;
  TRY(level.dir, Dir::read(std::move(opened.fd), name));
  levels_.push_back(std::move(level));
  if (levels_.size() > kOpenMax) levels_[levels_.size() - 1 - kOpenMax].dir = Dir();
  return {};
}

Result<const dirent*> TreeRemoval::next_entry() {
  Level& level = levels_.back();
  while (true) {
    TRY(const dirent* const entry, level.dir.next());
    if (entry == nullptr || !level.failed.contains(entry->d_name)) return entry;
  }
}

/// A file is removed, a directory entered.
void TreeRemoval::remove(const std::string& name) {
  Level& level = levels_.back();
  if (::unlinkat(level.dir.fd(), name.c_str(), 0) == 0 || errno == ENOENT) {
    level.removed_some = true;
    return;
  }
  const int unlink_errno = errno;
  const bool may_be_directory = unlink_errno == EISDIR || unlink_errno == EPERM || unlink_errno == EBUSY;
  auto entered = may_be_directory ? enter(name) : Error::from_errno(ENOTDIR, name);
  if (entered) return;
  const bool is_none = entered.error().sys_errno == ENOTDIR || entered.error().sys_errno == ELOOP;
  fail(name, is_none ? Error::from_errno(unlink_errno, str("removing ", name)) : std::move(entered).error());
}

/// The deepest directory has been read to its end.
Status TreeRemoval::leave() {
  TRY_VOID(reopen_parent());
  const int parent_fd = levels_.size() > 1 ? levels_[levels_.size() - 2].dir.fd() : top_fd_;
  Level& level = levels_.back();
  const bool gone = ::unlinkat(parent_fd, level.name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT;
  const int rmdir_errno = errno;
  // What came, or was passed over by readdir, while we removed.
  const bool again = !gone && rmdir_errno == ENOTEMPTY && level.removed_some && level.passes < kPassesMax;
  if (again) {
    ++level.passes;
    level.removed_some = false;
    level.dir.rewind();
    return {};
  }
  const std::string name = std::move(level.name);
  levels_.pop_back();
  if (!gone) {
    fail(name, Error::from_errno(rmdir_errno, str("removing ", name)));
  } else if (!levels_.empty()) {
    levels_.back().removed_some = true;
  }
  return {};
}

Status TreeRemoval::reopen_parent() {
  if (levels_.size() < 2) return {};
  Level& parent = levels_[levels_.size() - 2];
  if (parent.dir) return {};
  TRY(Opened opened, open_directory(levels_.back().dir.fd(), ".."));
  if (opened.identity != parent.identity) {
    return Error::aborted(str(levels_.back().name, " was moved while it was being removed: try again"));
  }
  TRY(parent.dir, Dir::read(std::move(opened.fd), parent.name));
  return {};
}

void TreeRemoval::fail(const std::string& name, Error error) {
  if (first_error_) first_error_ = std::move(error);
  if (!levels_.empty()) levels_.back().failed.insert(name);
}

Result<Opened> open_directory(int dir_fd, const std::string& name) {
  Opened opened;
  TRY(opened.fd, open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct statx stx {};
  if (::statx(opened.fd.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &stx) != 0) {
    return Error::from_errno(errno, str("reading the attributes of ", name));
  }
  opened.identity = {stx.stx_dev_major, stx.stx_dev_minor, stx.stx_ino, stx.stx_btime.tv_sec, stx.stx_btime.tv_nsec};
  opened.is_mount_root = (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  return opened;
}

}  // namespace
}  // namespace base
