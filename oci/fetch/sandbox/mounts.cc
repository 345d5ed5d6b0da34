#include "oci/fetch/sandbox/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/fd.h"
#include "base/file.h"

namespace oci::fetch {

namespace {

namespace fs = std::filesystem;

#ifndef MOUNT_ATTR_NOSYMFOLLOW
constexpr std::uint64_t MOUNT_ATTR_NOSYMFOLLOW = 0x00200000;
#endif
constexpr std::uint64_t kReadOnly = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
constexpr std::uint64_t kData = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
/// Where a resolver and TLS read: configuration, libraries that they load, sockets of name services, certificates.
constexpr const char* kSystemDirs[] = {"/etc", "/usr", "/run", "/var"};

base::Status make_private();
base::Result<base::Fd> clone_mount(const std::string& path, std::uint64_t attributes);
base::Status attach(const base::Fd& mount, const std::string& at);
base::Status attach_descriptors(const std::string& root);
base::Status enter_root(const std::string& root);
base::Result<std::vector<std::string>> mounts_above(const std::vector<std::string>& paths);

base::Error failed(const std::string& what) {
  const int err = errno;
  auto error = base::Error::from_errno(err, base::str("shutting the image helper in: ", what));
  if (err == ENOSYS) error.message += "; Linux 5.12 or later is needed";
  return error;
}

}  // namespace

base::Result<base::Fd> read_only_view(const std::string& folder) {
  return clone_mount(folder, kReadOnly | MOUNT_ATTR_NOEXEC);
}

base::Status prepare_folder(int fd) {
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0 || !S_ISDIR(info.st_mode)) return {};
  TRY(const auto view, clone_mount(base::str("/proc/self/fd/", fd), kReadOnly | MOUNT_ATTR_NOEXEC));
  TRY(const auto folder, base::open_at(view.get(), ".", O_RDONLY | O_DIRECTORY));
  if (::dup3(folder.get(), fd, O_CLOEXEC) < 0) return failed("dup3");
  return {};
}

base::Status enter_fetch_root(const FetchView& view) {
  TRY_VOID(make_private());
  TRY(const auto root, clone_mount("/", kReadOnly));
  TRY(const auto data, clone_mount(view.data_dir, kData));
  std::vector<std::string> needed(std::begin(kSystemDirs), std::end(kSystemDirs));
  needed.insert(needed.end(), view.needed.begin(), view.needed.end());
  needed.push_back(view.data_dir);
  TRY(const auto paths, mounts_above(needed));
  std::vector<base::Fd> mounts;
  for (const std::string& path : paths) {
    TRY(auto mount, clone_mount(path, kReadOnly));
    mounts.push_back(std::move(mount));
  }
  // Any folder of our own will do to hang the new root on.
  const std::string at = view.data_dir + "/ingest";
  TRY_VOID(attach(root, at));
  for (std::size_t i = 0; i < paths.size(); ++i) TRY_VOID(attach(mounts[i], at + paths[i]));
  std::error_code error;
  const fs::path canonical = fs::canonical(view.data_dir, error);
  if (error) return base::Error::from_errno(error.value(), view.data_dir);
  TRY_VOID(attach(data, at + canonical.string()));
  TRY_VOID(attach_descriptors(at));
  return enter_root(at);
}

base::Status enter_unpack_root(const UnpackView& view) {
  TRY_VOID(make_private());
  TRY(const auto staging, clone_mount(view.staging_dir, kData | MOUNT_ATTR_NOSYMFOLLOW));
  std::vector<base::Fd> layers;
  for (const std::string& dir : view.layer_dirs) {
    TRY(auto layer, clone_mount(dir, kData | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSYMFOLLOW));
    layers.push_back(std::move(layer));
  }
  const std::string& at = view.staging_dir;
  if (::mount("tmpfs", at.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700,size=1m") != 0) {
    return failed("mounting a tmpfs");
  }
  TRY_VOID(base::make_dirs(at + kStagingView, 0755));
  TRY_VOID(attach(staging, at + kStagingView));
  TRY_VOID(base::make_dirs(at + kLayersView, 0755));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string layer = base::str(at, kLayersView, "/", i);
    TRY_VOID(base::make_dirs(layer, 0755));
    TRY_VOID(attach(layers[i], layer));
  }
  TRY_VOID(base::make_dirs(at + "/proc", 0755));
  TRY_VOID(attach_descriptors(at));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (::mount_setattr(AT_FDCWD, at.c_str(), 0, &attributes, sizeof attributes) != 0) return failed("read-only root");
  return enter_root(at);
}

namespace {

// Nothing that is mounted from here on is seen outside.
base::Status make_private() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return failed("private mounts");
  return {};
}

/// The mount of `path` alone, without those below it, attached nowhere yet.
base::Result<base::Fd> clone_mount(const std::string& path, std::uint64_t attributes) {
  base::Fd mount(::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!mount) return failed(base::str("opening ", path));
  mount_attr set{};
  set.attr_set = attributes;
  if (::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &set, sizeof set) == 0) return mount;
  set.attr_set &= ~std::uint64_t{MOUNT_ATTR_NOSYMFOLLOW};
  if (::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &set, sizeof set) != 0) return failed(path);
  return mount;
}

base::Status attach(const base::Fd& mount, const std::string& at) {
  if (::move_mount(mount.get(), "", AT_FDCWD, at.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return failed(base::str("mounting on ", at));
  }
  return {};
}

// Extended attributes, modes and copies of what is held by a descriptor are reached by its name there. Nothing else of
// /proc is.
base::Status attach_descriptors(const std::string& root) {
  TRY(const auto descriptors, clone_mount("/proc/self/fd", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  const std::string proc = root + "/proc";
  if (::mount("tmpfs", proc.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=16k") != 0) {
    return failed("mounting a tmpfs on /proc");
  }
  TRY_VOID(base::make_dirs(proc + "/self/fd", 0755));
  return attach(descriptors, proc + "/self/fd");
}

// The old root comes to lie on the new one, and is taken off.
base::Status enter_root(const std::string& root) {
  if (::chdir(root.c_str()) != 0) return failed("chdir");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return failed("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return failed("leaving the old root");
  if (::chdir("/") != 0) return failed("chdir");
  return {};
}

/// The mount points on the way to each of `paths`, "/" left out, those that are absent too; outermost first.
base::Result<std::vector<std::string>> mounts_above(const std::vector<std::string>& paths) {
  std::set<std::string> found;  // sorts outer before inner
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::path canonical = fs::canonical(path, error);
    if (error) continue;  // whoever reads it will say so
    fs::path prefix;
    for (const fs::path& component : canonical) {
      prefix /= component;
      if (prefix != "/" && base::is_mount_point(prefix)) found.insert(prefix.string());
    }
  }
  return std::vector<std::string>(found.begin(), found.end());
}

}  // namespace

}  // namespace oci::fetch
