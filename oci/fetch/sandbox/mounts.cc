#include "oci/fetch/sandbox/mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "oci/store.h"

namespace oci::fetch {

namespace {

namespace fs = std::filesystem;

#ifndef MOUNT_ATTR_NOSYMFOLLOW
constexpr std::uint64_t MOUNT_ATTR_NOSYMFOLLOW = 0x00200000;
#endif
constexpr std::uint64_t kReadOnly = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
constexpr std::uint64_t kData = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// What a resolver and TLS read, where a distribution has it: configuration, libraries that they load, certificates.
/// Not /etc as a whole, where passwords and keys are, nor /run with its sockets: what a symlink leads to is shown under
/// the link's name, so /etc/resolv.conf may lead into /run.
constexpr const char* kSystemPaths[] = {"/etc/resolv.conf",
                                        "/etc/hosts",
                                        "/etc/host.conf",
                                        "/etc/nsswitch.conf",
                                        "/etc/gai.conf",
                                        "/etc/services",
                                        "/etc/protocols",
                                        "/etc/localtime",
                                        "/etc/ld.so.cache",
                                        "/etc/crypto-policies",
                                        "/etc/ssl/openssl.cnf",
                                        "/etc/ssl/certs",
                                        "/etc/ssl/cert.pem",
                                        "/etc/ssl/ca-bundle.pem",
                                        "/etc/pki/tls/certs",
                                        "/etc/pki/tls/cert.pem",
                                        "/etc/pki/tls/openssl.cnf",
                                        "/etc/pki/ca-trust",
                                        "/etc/ca-certificates",
                                        "/var/lib/ca-certificates",
                                        "/usr/share/ca-certificates",
                                        "/usr/share/pki",
                                        "/usr/local/share/ca-certificates",
                                        "/lib",
                                        "/lib64",
                                        "/usr/lib",
                                        "/usr/lib64",
                                        "/usr/local/lib",
                                        "/nix/store",
                                        "/gnu/store"};

/// Where a new root hangs until it is entered. Not below data_dir: names there may have been changed by a fetch stage.
constexpr char kAnchor[] = "/proc";
/// In the fetch stage's root: what lies on names that are not for it.
constexpr char kEmptyDir[] = "/nothing";
constexpr char kEmptyFile[] = "/nothing.file";

/// A clone of a mount, and where it is to be seen.
struct Shown {
  std::string path;
  base::Fd mount;
};
/// A root that is being put together.
struct NewRoot {
  base::Fd dir;
  base::Fd descriptors;
};

base::Status make_private();
base::Result<base::Fd> clone_mount(int dir, const std::string& path, std::uint64_t attributes, unsigned flags = 0);
base::Result<std::vector<Shown>> clone_what_exists(const std::vector<std::string>& paths);
std::vector<std::string> link_targets(const std::string& folder);
base::Result<NewRoot> new_root();
base::Status show(const base::Fd& root, const std::string& path, const base::Fd& mount);
base::Result<base::Fd> mount_point(const base::Fd& root, const std::string& path, bool is_dir);
base::Status attach(const base::Fd& mount, const base::Fd& at);
base::Status cover_what_is_not_the_store(const base::Fd& root, const std::string& data_dir);
base::Status enter(const NewRoot& root);

base::Error failed(const std::string& what) {
  const int err = errno;
  auto error = base::Error::from_errno(err, base::str("entering the image helper's sandbox: ", what));
  if (err == ENOSYS) error.message += "; Linux 5.12 or later is needed";
  return error;
}

}  // namespace

base::Status prepare_archive(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return base::Error::from_errno(errno, "the archive");
  if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
    return base::Error::invalid_argument("the archive is a device; name a file, or a folder with an image layout");
  }
  if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) return {};
  const off_t offset = S_ISREG(info.st_mode) ? ::lseek(fd, 0, SEEK_CUR) : 0;
  TRY(const auto view, clone_mount(fd, "", kReadOnly | MOUNT_ATTR_NOEXEC));
  TRY(const auto opened, base::open_file(base::str("/proc/self/fd/", view.get()), O_RDONLY));
  if (offset > 0 && ::lseek(opened.get(), offset, SEEK_SET) != offset) return failed("lseek");
  if (::dup3(opened.get(), fd, O_CLOEXEC) < 0) return failed("dup3");
  return {};
}

base::Result<base::Fd> enter_fetch_root(const FetchView& view) {
  TRY_VOID(make_private());
  TRY(const auto data, clone_mount(AT_FDCWD, view.data_dir, kData));
  std::vector<std::string> paths(std::begin(kSystemPaths), std::end(kSystemPaths));
  for (const std::string& path : view.needed) {
    paths.push_back(path);
    for (std::string& target : link_targets(path)) paths.push_back(std::move(target));
  }
  TRY(const auto shown, clone_what_exists(paths));
  TRY(const auto root, new_root());
  for (const Shown& one : shown) TRY_VOID(show(root.dir, one.path, one.mount));
  TRY_VOID(show(root.dir, view.data_dir, data));
  TRY_VOID(cover_what_is_not_the_store(root.dir, view.data_dir));
  TRY(auto read_only, clone_mount(AT_FDCWD, kAnchor + view.data_dir, kData | MOUNT_ATTR_RDONLY, AT_RECURSIVE));
  TRY_VOID(enter(root));
  return read_only;
}

base::Status enter_unpack_root(const UnpackView& view) {
  TRY_VOID(make_private());
  TRY(const auto data, base::open_dir(view.data_dir));
  // Names that the fetch stage gives, below a folder in which it can make links.
  TRY(const auto staging, base::open_beneath(data.get(), view.staging, O_PATH | O_DIRECTORY));
  std::vector<Shown> shown;
  TRY(auto mount, clone_mount(staging.get(), "", kData | MOUNT_ATTR_NOSYMFOLLOW));
  shown.push_back({kStagingView, std::move(mount)});
  for (std::size_t i = 0; i < view.layers.size(); ++i) {
    TRY(const auto layer, base::open_beneath(data.get(), view.layers[i], O_PATH | O_DIRECTORY));
    TRY(mount, clone_mount(layer.get(), "", kData | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSYMFOLLOW));
    shown.push_back({base::str(kLayersView, "/", i), std::move(mount)});
  }
  TRY(const auto root, new_root());
  for (const Shown& one : shown) TRY_VOID(show(root.dir, one.path, one.mount));
  return enter(root);
}

namespace {

// Nothing that is mounted from here on is seen outside.
base::Status make_private() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return failed("private mounts");
  return {};
}

/// The mount of `path` (of `dir` itself, if that is ""), attached nowhere yet; without those below it, unless `flags`
/// say AT_RECURSIVE.
base::Result<base::Fd> clone_mount(int dir, const std::string& path, std::uint64_t attributes, unsigned flags) {
  if (path.empty()) flags |= AT_EMPTY_PATH;
  base::Fd mount(::open_tree(dir, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags));
  if (!mount) return failed(base::str("opening ", path));
  mount_attr set{};
  set.attr_set = attributes;
  const unsigned which = AT_EMPTY_PATH | (flags & AT_RECURSIVE);
  if (::mount_setattr(mount.get(), "", which, &set, sizeof set) == 0) return mount;
  set.attr_set &= ~std::uint64_t{MOUNT_ATTR_NOSYMFOLLOW};
  if (::mount_setattr(mount.get(), "", which, &set, sizeof set) != 0) return failed(path);
  return mount;
}

/// What is absent is left out: whoever reads it will say so.
base::Result<std::vector<Shown>> clone_what_exists(const std::vector<std::string>& paths) {
  std::vector<Shown> out;
  for (const std::string& path : paths) {
    if (::access(path.c_str(), F_OK) != 0) continue;
    TRY(auto mount, clone_mount(AT_FDCWD, path, kReadOnly));
    out.push_back({fs::path("/" + path).lexically_normal().string(), std::move(mount)});
  }
  // Outer before inner, and each once.
  std::stable_sort(out.begin(), out.end(), [](const Shown& a, const Shown& b) { return a.path < b.path; });
  out.erase(std::unique(out.begin(), out.end(), [](const Shown& a, const Shown& b) { return a.path == b.path; }),
            out.end());
  return out;
}

/// Where the symlinks in a folder of certificates lead to, if it is a folder and they lead out of it.
std::vector<std::string> link_targets(const std::string& folder) {
  constexpr std::size_t kLinksMax = 1000;
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code broken;
    if (!entry->is_symlink(broken)) continue;
    const fs::path target = fs::canonical(entry->path(), broken);
    if (!broken && fs::is_regular_file(target, broken)) out.push_back(target.string());
    if (out.size() == kLinksMax) break;
  }
  return out;
}

base::Result<NewRoot> new_root() {
  // Extended attributes, modes and copies of what is held by a descriptor are reached by its name there. Nothing else
  // of /proc is.
  NewRoot root;
  TRY(root.descriptors,
      clone_mount(AT_FDCWD, "/proc/self/fd", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (::mount("tmpfs", kAnchor, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m") != 0) {
    return failed("mounting a tmpfs");
  }
  TRY(root.dir, base::open_file(kAnchor, O_RDONLY | O_DIRECTORY));
  return root;
}

base::Status show(const base::Fd& root, const std::string& path, const base::Fd& mount) {
  struct stat info {};
  if (::fstat(mount.get(), &info) != 0) return failed(path);
  TRY(const auto at, mount_point(root, path, S_ISDIR(info.st_mode)));
  auto attached = attach(mount, at);
  if (!attached) return std::move(attached).error().wrap(path);
  return {};
}

/// What `path` is in the new root, its links followed there; made, with the folders above it, if it is not there yet.
base::Result<base::Fd> mount_point(const base::Fd& root, const std::string& path, bool is_dir) {
  if (auto there = base::open_in_root(root.get(), path, O_PATH)) return there;
  TRY(auto dir, base::open_at(root.get(), ".", O_PATH | O_DIRECTORY));
  const fs::path relative = fs::path(path).relative_path();
  for (auto component = relative.begin(); component != relative.end(); ++component) {
    const bool last = std::next(component) == relative.end();
    if (last && !is_dir) return base::open_at(dir.get(), *component, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0444);
    if (::mkdirat(dir.get(), component->c_str(), 0755) != 0 && errno != EEXIST) return failed(path);
    TRY(dir, base::open_beneath(dir.get(), *component, O_PATH | O_DIRECTORY));
  }
  return dir;
}

base::Status attach(const base::Fd& mount, const base::Fd& at) {
  if (::move_mount(mount.get(), "", at.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return failed("attaching a mount");
  }
  return {};
}

/// A mount goes where its file is renamed to: on a file that is about to become index.json it would hide that.
bool is_of_the_store(std::string_view name) {
  if (name.starts_with(base::kTempPrefix)) return true;
  return std::find(std::begin(kStoreNames), std::end(kStoreNames), name) != std::end(kStoreNames);
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

/// Everything in data_dir that is not the store's gets an empty, read-only mount on it: what is a mount point can be
/// neither opened nor renamed nor removed here, and only CAP_SYS_ADMIN could take the mount off.
base::Status cover_what_is_not_the_store(const base::Fd& root, const std::string& data_dir) {
  TRY(const auto data, base::open_in_root(root.get(), data_dir, O_RDONLY | O_DIRECTORY));
  // So that it cannot be made by those whom it is hidden from.
  if (::mkdirat(data.get(), kTasksName, 0700) != 0 && errno != EEXIST) return failed(kTasksName);
  struct stat tasks {};
  if (::fstatat(data.get(), kTasksName, &tasks, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(tasks.st_mode)) {
    return base::Error::failed_precondition(
        base::str(data_dir, "/", kTasksName, " is not a folder; put one there (mode 0700), or mount one on it"));
  }
  TRY([[maybe_unused]] const auto empty_dir, mount_point(root, kEmptyDir, true));
  TRY([[maybe_unused]] const auto empty_file, mount_point(root, kEmptyFile, false));
  TRY(auto listed, base::open_at(data.get(), ".", O_RDONLY | O_DIRECTORY));
  const std::unique_ptr<DIR, CloseDir> entries(::fdopendir(listed.get()));
  if (!entries) return failed(data_dir);
  [[maybe_unused]] const int owned_by_entries = listed.release();
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || is_of_the_store(name)) continue;
    struct stat info {};
    // Gone meanwhile; and a symlink leads to nothing that is here.
    if (::fstatat(data.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 || S_ISLNK(info.st_mode)) continue;
    const auto at = base::open_beneath(data.get(), name, O_PATH);
    if (!at) continue;
    const char* empty = S_ISDIR(info.st_mode) ? kEmptyDir : kEmptyFile;
    TRY(const auto mount, clone_mount(AT_FDCWD, base::str(kAnchor, empty), kData | MOUNT_ATTR_RDONLY));
    TRY_VOID(attach(mount, *at));
  }
  return {};
}

// The old root comes to lie on the new one, and is taken off.
base::Status enter(const NewRoot& root) {
  TRY_VOID(show(root.dir, "/proc/self/fd", root.descriptors));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (::mount_setattr(AT_FDCWD, kAnchor, 0, &attributes, sizeof attributes) != 0) return failed("read-only root");
  if (::fchdir(root.dir.get()) != 0) return failed("chdir");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return failed("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return failed("leaving the old root");
  if (::chdir("/") != 0) return failed("chdir");
  return {};
}

}  // namespace

}  // namespace oci::fetch
