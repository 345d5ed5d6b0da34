#include "oci/fetch/unpack/rootfs.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/file.h"
#include "base/text.h"

namespace oci::fetch {

namespace {

constexpr std::size_t kSmallXattrBytesMax = 2048;  // fit into any file system
constexpr int kDirFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW;

std::string proc_path(int dir, std::string_view name) {
  return base::str("/proc/self/fd/", dir, "/", name);
}

base::Result<std::string> read_link(int dir, const std::string& name) {
  std::string target(PATH_MAX, '\0');
  const ssize_t size = ::readlinkat(dir, name.c_str(), target.data(), target.size());
  if (size < 0) return base::Error::from_errno(errno, base::str("reading link ", name));
  target.resize(static_cast<std::size_t>(size));
  return target;
}

void append_components(std::string_view path, std::vector<std::string>& out) {
  const auto components = base::path_components(path);
  out.insert(out.end(), components.begin(), components.end());
}

base::Result<std::vector<Xattr>> read_xattrs(int fd);

}  // namespace

base::Result<std::vector<std::string>> split_path(std::string_view path) {
  const auto refuse = [&](std::string_view why) {
    return base::Error::invalid_argument(base::str("path \"", path.substr(0, 200), "\" in the layer ", why));
  };
  if (path.size() > kPathBytesMax) return refuse(base::str("is longer than ", kPathBytesMax, " bytes"));
  if (path.find('\0') != std::string_view::npos) return refuse("contains a NUL byte");
  std::vector<std::string> raw;
  append_components(path, raw);
  std::vector<std::string> out;
  for (std::string& component : raw) {
    if (component.size() > kNameBytesMax) return refuse(base::str("has a name longer than ", kNameBytesMax, " bytes"));
    if (component != "..") {
      out.push_back(std::move(component));
    } else if (!out.empty()) {
      out.pop_back();
    }
  }
  if (out.size() > kPathDepthMax) return refuse(base::str("is deeper than ", kPathDepthMax, " directories"));
  return out;
}

std::string join_path(const std::vector<std::string>& components) {
  std::string out;
  for (const std::string& component : components) {
    if (!out.empty()) out += '/';
    out += component;
  }
  return out;
}

std::string child_path(std::string_view parent, std::string_view name) {
  std::string out(parent);
  if (!out.empty()) out.push_back('/');
  return out.append(name);
}

bool is_xattr_allowed(std::string_view name) {
  if (name.starts_with("user.overlay.")) return false;
  return name.starts_with("user.") || name == "security.capability" || name == "system.posix_acl_access" ||
         name == "system.posix_acl_default";
}

base::Result<Attributes> read_attributes(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return base::Error::from_errno(errno, "reading attributes");
  Attributes out{info.st_mode & 07777, info.st_uid, info.st_gid, info.st_atim, info.st_mtim, {}};
  if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) {
    TRY(out.xattrs, read_xattrs(fd));
  }
  return out;
}

Rootfs::Rootfs(int root, Warn warn) : root_(root), warn_(std::move(warn)) {}

base::Result<Rootfs::Dir> Rootfs::open_dir(const std::vector<std::string>& components, Missing missing) {
  if (components.empty()) return Dir{root_, ""};
  std::string asked = join_path(components);
  if (cached_ && cached_asked_ == asked) return Dir{cached_fd_.get(), cached_path_};
  cached_ = false;
  if (auto fd = base::open_beneath(root_, asked, kDirFlags)) {  // all there, and no symlink in it: the usual case
    cached_fd_ = *std::move(fd);
    cached_path_ = asked;
  } else {
    TRY(const auto dir, walk(components, missing));
    cached_path_ = dir.path;
  }
  cached_asked_ = std::move(asked);
  cached_ = true;
  return Dir{cached_fd_.get(), cached_path_};
}

// Component by component, so that a symlink's target can be taken as a path inside the tree, and what is missing made.
// Leaves the directory in cached_fd_.
base::Result<Rootfs::Dir> Rootfs::walk(const std::vector<std::string>& components, Missing missing) {
  std::vector<std::string> todo(components.rbegin(), components.rend());  // next one last
  std::vector<std::string> path;
  int symlinks = 0;
  TRY(cached_fd_, base::open_at(root_, ".", kDirFlags));
  while (!todo.empty()) {
    const std::string name = std::move(todo.back());
    todo.pop_back();
    if (name == "..") {
      if (!path.empty()) path.pop_back();
      const std::string up = path.empty() ? "." : join_path(path);
      TRY(cached_fd_, base::open_beneath(root_, up, kDirFlags));
      continue;
    }
    const std::string shown = child_path(join_path(path), name);
    struct stat info {};
    if (::fstatat(cached_fd_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT || missing == Missing::kError) return base::Error::from_errno(errno, shown);
      if (::mkdirat(cached_fd_.get(), name.c_str(), 0755) != 0) return base::Error::from_errno(errno, shown);
      implicit_.insert(shown);
      remembered_bytes_ += shown.size() + sizeof(std::string) + 32;
    } else if (S_ISLNK(info.st_mode)) {
      if (++symlinks > kSymlinksMax) return base::Error::invalid_argument(base::str(shown, ": a loop of symlinks"));
      TRY(const std::string target, read_link(cached_fd_.get(), name));
      if (target.starts_with('/')) {
        path.clear();
        TRY(cached_fd_, base::open_at(root_, ".", kDirFlags));
      }
      std::vector<std::string> inserted;
      append_components(target, inserted);
      todo.insert(todo.end(), inserted.rbegin(), inserted.rend());
      if (todo.size() > kPathBytesMax)
        return base::Error::invalid_argument(base::str(shown, " resolves to a path that is too long"));
      continue;
    } else if (!S_ISDIR(info.st_mode)) {
      return base::Error::failed_precondition(base::str(shown, " is used as a directory, but is not one"));
    }
    TRY(cached_fd_, base::open_at(cached_fd_.get(), name, kDirFlags));
    path.push_back(name);
    if (path.size() > kPathDepthMax) return base::Error::invalid_argument(base::str(shown, " is too deep"));
  }
  return Dir{cached_fd_.get(), join_path(path)};
}

// `make` returns 0, or -1 and errno.
template <typename Make>
base::Status Rootfs::make_new(const Dir& dir, const std::string& name, Make make) {
  if (make() == 0) return {};
  if (errno == EEXIST) {
    TRY_VOID(remove(dir, name));
    if (make() == 0) return {};
  }
  return base::Error::from_errno(errno, dir.path_of(name));
}

base::Status Rootfs::make_dir(const Dir& dir, const std::string& name, const Attributes& attributes) {
  const std::string path = dir.path_of(name);
  struct stat info {};
  const bool exists = ::fstatat(dir.fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
  if (!exists) {
    TRY_VOID(make_new(dir, name, [&] { return ::mkdirat(dir.fd, name.c_str(), 0700); }));
  }
  implicit_.erase(path);
  TRY(const auto fd, base::open_at(dir.fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY_VOID(set_on_fd(fd.get(), path, attributes));
  remember_times(path, attributes);
  return {};
}

base::Result<base::Fd> Rootfs::make_file(const Dir& dir, const std::string& name) {
  base::Fd fd;
  TRY_VOID(make_new(dir, name, [&] {
    fd.reset(::openat(dir.fd, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    return fd ? 0 : -1;
  }));
  return fd;
}

base::Status Rootfs::finish_file(int fd, const std::string& shown, const Attributes& attributes) {
  TRY_VOID(set_on_fd(fd, shown, attributes));
  const timespec times[2] = {attributes.atime, attributes.mtime};
  if (::futimens(fd, times) != 0) return base::Error::from_errno(errno, shown);
  return {};
}

base::Status Rootfs::make_symlink(const Dir& dir, const std::string& name, const std::string& target,
                                  const Attributes& attributes) {
  TRY_VOID(make_new(dir, name, [&] { return ::symlinkat(target.c_str(), dir.fd, name.c_str()); }));
  return set_on_name(dir, name, S_IFLNK, attributes);
}

base::Status Rootfs::make_node(const Dir& dir, const std::string& name, mode_t type, dev_t device,
                               const Attributes& attributes) {
  TRY_VOID(make_new(dir, name, [&] { return ::mknodat(dir.fd, name.c_str(), type | 0600, device); }));
  return set_on_name(dir, name, type, attributes);
}

base::Status Rootfs::make_link(int target_dir, const std::string& target, const Dir& dir, const std::string& name,
                               const Attributes& attributes) {
  struct stat from {};
  struct stat to {};
  if (::fstatat(target_dir, target.c_str(), &from, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::Error::from_errno(errno, target);
  }
  if (S_ISDIR(from.st_mode)) {
    return base::Error::invalid_argument(base::str(dir.path_of(name), " is a hard link to a directory"));
  }
  const bool same = ::fstatat(dir.fd, name.c_str(), &to, AT_SYMLINK_NOFOLLOW) == 0 && to.st_ino == from.st_ino;
  if (!same) {  // else it is that file already, and removing it first would remove the target
    TRY_VOID(make_new(dir, name, [&] { return ::linkat(target_dir, target.c_str(), dir.fd, name.c_str(), 0); }));
  }
  return set_on_name(dir, name, from.st_mode & S_IFMT, attributes);
}

base::Status Rootfs::remove(const Dir& dir, const std::string& name) {
  cached_ = false;  // the path by which it was opened may lead elsewhere from now on
  return base::remove_tree_at(dir.fd, name);
}

std::vector<std::string> Rootfs::implicit_dirs() const {
  return {implicit_.begin(), implicit_.end()};
}

base::Status Rootfs::describe_implicit(const std::string& path, const Attributes& attributes) {
  auto fd = base::open_beneath(root_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) return {};  // replaced by something else since
  implicit_.erase(path);
  TRY_VOID(set_on_fd(fd->get(), path, attributes));
  remember_times(path, attributes);
  return {};
}

void Rootfs::restore_dir_times() {
  for (const DirTimes& dir : dir_times_) {
    // What has become something else, or is gone, has its times from elsewhere.
    if (const auto fd = base::open_beneath(root_, dir.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)) {
      ::futimens(fd->get(), dir.times);
    }
  }
}

void Rootfs::remember_times(const std::string& path, const Attributes& attributes) {
  dir_times_.push_back({path, {attributes.atime, attributes.mtime}});
  remembered_bytes_ += sizeof(DirTimes) + path.size();
}

// chown clears setuid bits and file capabilities, so it comes first; setting an ACL changes the mode, which comes last.
base::Status Rootfs::set_on_fd(int fd, const std::string& shown, const Attributes& attributes) {
  if (::fchown(fd, attributes.uid, attributes.gid) != 0) return base::Error::from_errno(errno, shown);
  for (const Xattr& xattr : attributes.xattrs) {
    if (::fsetxattr(fd, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) == 0) continue;
    TRY_VOID(xattr_failed(errno, xattr, shown, true));
  }
  if (::fchmod(fd, attributes.mode) != 0) return base::Error::from_errno(errno, shown);
  return {};
}

base::Status Rootfs::set_on_name(const Dir& dir, const std::string& name, mode_t type, const Attributes& attributes) {
  const std::string shown = dir.path_of(name);
  struct stat present {};
  if (::fstatat(dir.fd, name.c_str(), &present, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::Error::from_errno(errno, shown);
  }
  // A hard link to a file that is owned so already must not cost it its capabilities.
  const bool owned = present.st_uid == attributes.uid && present.st_gid == attributes.gid;
  if (!owned && ::fchownat(dir.fd, name.c_str(), attributes.uid, attributes.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::Error::from_errno(errno, shown);
  }
  for (const Xattr& xattr : attributes.xattrs) {
    const std::string path = proc_path(dir.fd, name);
    if (::lsetxattr(path.c_str(), xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) == 0) continue;
    TRY_VOID(xattr_failed(errno, xattr, shown, type == S_IFREG));
  }
  if (type != S_IFLNK) {
    TRY(const auto fd, base::open_at(dir.fd, name, O_PATH | O_NOFOLLOW));
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0 || (info.st_mode & S_IFMT) != type) {
      return base::Error::internal(base::str(shown, " changed its type while it was unpacked"));
    }
    const std::string path = base::str("/proc/self/fd/", fd.get());
    if (::chmod(path.c_str(), attributes.mode) != 0) return base::Error::from_errno(errno, shown);
  }
  const timespec times[2] = {attributes.atime, attributes.mtime};
  if (::utimensat(dir.fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) return base::Error::from_errno(errno, shown);
  return {};
}

base::Status Rootfs::xattr_failed(int err, const Xattr& xattr, const std::string& shown, bool is_file_or_dir) {
  if (err == ENOTSUP) {
    if (warn_ && !std::exchange(warned_, true)) {
      warn_(base::str("the file system of data_dir does not support attribute ", xattr.name, " (of ", shown,
                      "); the image runs without such attributes"));
    }
    return {};
  }
  // ext4 has one block for all attributes of a file, and calls that a full disk.
  if (err == E2BIG || err == ERANGE || (err == ENOSPC && xattr.value.size() > kSmallXattrBytesMax)) {
    return base::Error::failed_precondition(base::str("the file system of data_dir cannot hold attribute ", xattr.name,
                                                      " of ", shown, ", which has ", xattr.value.size(),
                                                      " bytes; xfs can, and ext4 with ea_inode"));
  }
  // The kernel has user attributes on files and directories only; archives may list them for anything.
  if (err == EPERM && !is_file_or_dir && xattr.name.starts_with("user.")) return {};
  return base::Error::from_errno(err, base::str("setting attribute ", xattr.name, " of ", shown));
}

namespace {

base::Result<std::vector<Xattr>> read_xattrs(int fd) {
  // By its name in /proc: an O_PATH descriptor has no attributes of its own.
  const std::string path = base::str("/proc/self/fd/", fd);
  std::vector<Xattr> out;
  std::string names(kXattrBytesMax, '\0');
  const ssize_t size = ::listxattr(path.c_str(), names.data(), names.size());
  if (size < 0 && errno != ENOTSUP) return base::Error::from_errno(errno, "listing attributes");
  if (size <= 0) return out;
  names.resize(static_cast<std::size_t>(size));
  for (std::size_t at = 0; at < names.size(); at += std::strlen(names.c_str() + at) + 1) {
    Xattr xattr{names.c_str() + at, std::string(kXattrBytesMax, '\0')};
    if (!is_xattr_allowed(xattr.name)) continue;
    const ssize_t length = ::getxattr(path.c_str(), xattr.name.c_str(), xattr.value.data(), xattr.value.size());
    if (length < 0) return base::Error::from_errno(errno, base::str("reading attribute ", xattr.name));
    xattr.value.resize(static_cast<std::size_t>(length));
    out.push_back(std::move(xattr));
  }
  return out;
}

}  // namespace

}  // namespace oci::fetch
