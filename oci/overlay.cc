#include "oci/overlay.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/fd.h"
#include "base/file.h"

namespace oci {

namespace {

constexpr std::size_t kOverlayLayersMax = 500;        // OVL_MAX_STACK of the kernel
constexpr std::size_t kFsconfigStringBytesMax = 255;  // longer values are refused by fsconfig(2)
constexpr std::size_t kMountDataBytesMax = 4095;      // one page, with its NUL
constexpr int kUnmountsMax = 64;                      // mounts stacked on one target before we give up

using Layers = std::vector<base::Fd>;  // bottom first

base::Result<base::Fd> open_layer(const std::filesystem::path& path);
base::Status prepare_upper(const OverlayNames& names, const base::Fd& top_layer);
base::Result<bool> mount_with_fsconfig(const OverlayNames& names, const Layers& layers);
base::Status mount_with_options(const OverlayNames& names, const Layers& layers);
base::Result<bool> has_overlay(const std::string& target);

}  // namespace

base::Status mount_overlay(const OverlayNames& names) {
  if (names.layer_dirs.size() > kOverlayLayersMax) {
    return base::Error::resource_exhausted(
        base::str("the image has ", names.layer_dirs.size(), " layers; overlay can stack at most ", kOverlayLayersMax));
  }
  TRY(const bool done, has_overlay(names.target));
  if (done) return {};
  Layers layers;
  for (const std::string& path : names.layer_dirs) {
    TRY(auto layer, open_layer(path));
    layers.push_back(std::move(layer));
  }
  if (layers.empty()) {
    // An image with nothing in it: overlay wants a layer below all the same.
    const std::string nothing = names.work_dir + ".empty";
    TRY_VOID(base::make_dirs(nothing, 0755));
    TRY(auto layer, base::open_file(nothing, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    layers.push_back(std::move(layer));
  }
  TRY_VOID(prepare_upper(names, layers.back()));
  TRY(const bool mounted, mount_with_fsconfig(names, layers));
  if (mounted) return {};
  return mount_with_options(names, layers);
}

base::Status unmount_all(const std::string& target) {
  for (int i = 0; i < kUnmountsMax; ++i) {
    if (::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
    if (errno == EINVAL || errno == ENOENT) return {};  // nothing is mounted there
    return base::Error::from_errno(errno, base::str("unmounting ", target));
  }
  return base::Error::failed_precondition(base::str("more than ", kUnmountsMax, " mounts are stacked on ", target));
}

namespace {

/// What a layer is called in the store, the last two names of its path, may have been made a link by whoever took over
/// an image helper: a task would get any folder of the host as its root. What is above these is the operator's.
base::Result<base::Fd> open_layer(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.parent_path();
  TRY(const auto store, base::open_file(folder.parent_path(), O_PATH | O_DIRECTORY));
  auto layer = base::open_beneath(store.get(), folder.filename() / path.filename(), O_RDONLY | O_DIRECTORY);
  if (!layer) return std::move(layer).error().wrap(base::str("layer ", path.native()));
  return layer;
}

// Not knowing is an error: preparing an overlay removes the work directory, which may be that of a mounted one.
base::Result<bool> has_overlay(const std::string& target) {
  struct statx info {};
  if (::statx(AT_FDCWD, target.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &info) != 0) {
    return base::Error::from_errno(errno, base::str("checking whether something is mounted on ", target));
  }
  if ((info.stx_attributes & info.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) == 0) return false;
  struct statfs mounted {};
  if (::statfs(target.c_str(), &mounted) != 0) return base::Error::from_errno(errno, target);
  if (mounted.f_type == OVERLAYFS_SUPER_MAGIC) return true;
  return base::Error::failed_precondition(base::str("something else is mounted on ", target));
}

base::Status copy_xattrs(int from_fd, int to_fd) {
  constexpr std::size_t kListBytesMax = 64u << 10;  // XATTR_LIST_MAX
  const auto fail = [](std::string_view what) {
    return base::Error::from_errno(errno, base::str("copying ", what, " of a layer's root"));
  };
  std::string list(kListBytesMax, '\0');
  const ssize_t size = ::flistxattr(from_fd, list.data(), list.size());
  if (size < 0 && errno != ENOTSUP) return fail("the attributes");
  list.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  std::string value(64u << 10, '\0');  // XATTR_SIZE_MAX
  for (std::size_t at = 0; at < list.size(); at += std::strlen(list.c_str() + at) + 1) {
    const char* name = list.c_str() + at;
    if (std::string_view(name).starts_with("trusted.overlay.")) continue;  // of the layer, not of the directory
    const ssize_t length = ::fgetxattr(from_fd, name, value.data(), value.size());
    if (length < 0 && (errno == ENODATA || errno == ENOTSUP)) continue;
    if (length < 0) return fail(name);
    if (::fsetxattr(to_fd, name, value.data(), static_cast<std::size_t>(length), 0) != 0 && errno != ENOTSUP) {
      return fail(name);
    }
  }
  return {};
}

// The merged root shows the attributes of the upper directory.
base::Status copy_attributes(const base::Fd& from_fd, const std::string& to) {
  TRY(const auto to_fd, base::open_file(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat info {};
  if (::fstat(from_fd.get(), &info) != 0) return base::Error::from_errno(errno, "looking at the top layer");
  if (::fchown(to_fd.get(), info.st_uid, info.st_gid) != 0) return base::Error::from_errno(errno, to);
  TRY_VOID(copy_xattrs(from_fd.get(), to_fd.get()));
  if (::fchmod(to_fd.get(), info.st_mode & 07777) != 0) return base::Error::from_errno(errno, to);
  const struct timespec times[2] = {info.st_atim, info.st_mtim};
  ::futimens(to_fd.get(), times);
  return {};
}

base::Status prepare_upper(const OverlayNames& names, const base::Fd& top_layer) {
  TRY_VOID(base::make_dirs(names.upper_dir, 0755));
  // The kernel refuses a work directory that a volatile mount left behind. Nothing in it is worth keeping.
  TRY_VOID(base::remove_tree(names.work_dir));
  TRY_VOID(base::make_dirs(names.work_dir, 0700));
  return copy_attributes(top_layer, names.upper_dir);
}

// What the kernel says about a failed fsconfig or fsmount: lines like "e overlay: …".
std::string kernel_messages(int fs_fd) {
  std::string out;
  char line[512];
  ssize_t size;
  while (out.size() < 4096 && (size = ::read(fs_fd, line, sizeof line)) > 2) {
    out += base::str("; ", std::string_view(line + 2, static_cast<std::size_t>(size) - 2));
  }
  while (out.ends_with('\n')) out.pop_back();
  return out;
}

// EINVAL is also what an unsuitable upper file system gives (another overlay, NFS, …).
base::Error mount_error(int err, const OverlayNames& names, std::string_view kernel_says) {
  const std::string what =
      base::str("mounting an overlay with upper directory ", names.upper_dir, " on ", names.target);
  base::Error error = base::Error::from_errno(err, what);
  if (err == EINVAL) error.code = base::Code::kFailedPrecondition;
  error.message += kernel_says;
  if (err == EINVAL) error.message += "; data_dir must be on a local file system that supports overlay (ext4, xfs)";
  return error;
}

// A value for fsconfig: the path itself, which then also shows in mountinfo, or a short name of the same directory. A
// backslash takes away the meaning of what follows it, to overlay.
struct ShortPath {
  std::string text;
  base::Fd keeper;
};
base::Result<ShortPath> shorten(const std::string& path, std::size_t bytes_max) {
  ShortPath out;
  if (path.size() <= bytes_max && path.find('\\') == std::string::npos) {
    out.text = path;
    return out;
  }
  TRY(out.keeper, base::open_dir(path));
  out.text = base::str("/proc/self/fd/", out.keeper.get());
  return out;
}

std::string name_of(const base::Fd& dir) {
  return base::str("/proc/self/fd/", dir.get());
}

bool has_index_option() {
  return ::access("/sys/module/overlay/parameters/index", F_OK) == 0;
}

// False: this kernel's overlay does not know "lowerdir+" (before 6.7) or has no new mount interface.
base::Result<bool> mount_with_fsconfig(const OverlayNames& names, const Layers& layers) {
  const base::Fd fs(::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!fs) return false;
  const auto set = [&](const char* key, const std::string& value) {
    return ::fsconfig(fs.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0;
  };
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    // From 6.13 on by the descriptor itself: then its path shows in mountinfo.
    if (::fsconfig(fs.get(), FSCONFIG_SET_FD, "lowerdir+", nullptr, layer->get()) == 0) continue;
    if (set("lowerdir+", name_of(*layer))) continue;
    if (layer == layers.rbegin()) return false;
    return mount_error(errno, names, kernel_messages(fs.get()));
  }
  TRY(const auto upper, shorten(names.upper_dir, kFsconfigStringBytesMax));
  TRY(const auto work, shorten(names.work_dir, kFsconfigStringBytesMax));
  if (!set("source", "overlay") || !set("upperdir", upper.text) || !set("workdir", work.text)) {
    return mount_error(errno, names, kernel_messages(fs.get()));
  }
  // No hard-link index: it would refuse layers that were once below another upper directory, and we export nothing.
  if (has_index_option()) set("index", "off");
  // Nothing of a task's writable layer outlives the task, so syncing it (on unmount, and whenever the task calls
  // fsync) buys nothing. Kernels before 5.10 do not know the word; they just sync.
  ::fsconfig(fs.get(), FSCONFIG_SET_FLAG, "volatile", nullptr, 0);
  if (::fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int err = errno;
    return mount_error(err, names, kernel_messages(fs.get()));
  }
  const base::Fd mount(::fsmount(fs.get(), FSMOUNT_CLOEXEC, 0));
  if (!mount || ::move_mount(mount.get(), "", AT_FDCWD, names.target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    const int err = errno;
    return mount_error(err, names, kernel_messages(fs.get()));
  }
  return true;
}

// mount(2) takes one page of options, and commas, colons and backslashes mean something in it: names of descriptors are
// short and plain. 200 layers fit, more than images may have (kLayersMax).
base::Status mount_with_options(const OverlayNames& names, const Layers& layers) {
  std::string lower;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    lower += base::str(lower.empty() ? "" : ":", name_of(*layer));
  }
  TRY(const auto upper, base::open_dir(names.upper_dir));
  TRY(const auto work, base::open_dir(names.work_dir));
  const std::string options = base::str("lowerdir=", lower, ",upperdir=", name_of(upper), ",workdir=", name_of(work),
                                        has_index_option() ? ",index=off" : "");
  if (options.size() + 9 > kMountDataBytesMax) {
    return base::Error::resource_exhausted(base::str("the image has ", names.layer_dirs.size(),
                                                     " layers, too many for one mount(2) on this kernel (Linux 6.7 "
                                                     "and later stack ",
                                                     kOverlayLayersMax, ")"));
  }
  const std::string with_volatile = options + ",volatile";
  if (::mount("overlay", names.target.c_str(), "overlay", 0, with_volatile.c_str()) == 0) return {};
  if (errno == EINVAL && ::mount("overlay", names.target.c_str(), "overlay", 0, options.c_str()) == 0) return {};
  return mount_error(errno, names, "");
}

}  // namespace

}  // namespace oci
