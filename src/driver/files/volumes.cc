#include "driver/files/volumes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <set>

#include "base/file.h"
#include "base/process.h"
#include "driver/files/rootfs.h"

namespace driver {

using base::Context;
using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kCopyOutputBytesMax = 64u << 10;
constexpr mode_t kMissingMode = 0755;
constexpr std::array<std::string_view, 3> kKernelFolders = {"/proc", "/sys", "/dev"};

std::size_t depth_of(const std::string& path);
Status fill(const Context& ctx, int rootfs_fd, const std::string& target, int folder_fd);
Status take_attributes(int from, int folder_fd);
Result<bool> is_empty(int folder_fd);
Status copy_content(const Context& ctx, int from, int folder_fd);

}  // namespace

Result<std::vector<std::string>> image_volume_targets(const std::vector<std::string>& volumes,
                                                      const std::vector<Mount>& mounts) {
  if (volumes.size() > kImageVolumesMax) {
    return Error::invalid_argument(str("the image has ", volumes.size(), " VOLUMEs; ", kImageVolumesMax,
                                       " are supported: build it with fewer of them"));
  }
  std::set<std::string> targets;
  for (const std::string& volume : volumes) {
    std::string target = std::filesystem::path("/" + volume).lexically_normal();
    while (target.size() > 1 && target.ends_with('/')) target.pop_back();
    if (target == "/")
      return Error::invalid_argument("the image declares its whole root as VOLUME /: build it without");
    const auto covers = [&](std::string_view folder) { return is_within(target, folder); };
    const bool mounted =
        std::any_of(mounts.begin(), mounts.end(), [&](const Mount& mount) { return covers(mount.destination); });
    if (mounted || std::any_of(kKernelFolders.begin(), kKernelFolders.end(), covers)) continue;
    targets.insert(std::move(target));
  }
  std::vector<std::string> sorted(targets.begin(), targets.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const std::string& a, const std::string& b) { return depth_of(a) < depth_of(b); });
  return sorted;
}

Result<std::vector<Mount>> add_image_volumes(const Context& ctx, int rootfs_fd, const std::vector<std::string>& targets,
                                             const std::string& dir, std::vector<Mount> mounts) {
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const std::string path = str(dir, "/", i);
    const bool kept = ::access(path.c_str(), F_OK) == 0;  // of an earlier run of this container
    TRY_VOID(base::make_dirs(path, kMissingMode));
    TRY(const Fd folder, base::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    auto filled = kept ? Status() : fill(ctx, rootfs_fd, targets[i], folder.get());
    if (!filled) return std::move(filled).error().wrap(str("making VOLUME ", targets[i], " of the image"));
    mounts.push_back({targets[i], "bind", path, {"rbind", "rprivate", "rw"}});
  }
  std::stable_sort(mounts.begin(), mounts.end(),
                   [](const Mount& a, const Mount& b) { return depth_of(a.destination) < depth_of(b.destination); });
  return mounts;
}

namespace {

std::size_t depth_of(const std::string& path) {
  return static_cast<std::size_t>(std::count(path.begin(), path.end(), '/'));
}

Status fill(const Context& ctx, int rootfs_fd, const std::string& target, int folder_fd) {
  TRY(const std::string real, resolve_path_in_root(rootfs_fd, target));
  auto from = base::open_in_root(rootfs_fd, real, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!from && from.error().sys_errno == ENOENT) return {};  // the runtime makes the place, and it is empty
  if (!from && from.error().sys_errno == ENOTDIR) {
    return Error::invalid_argument(
        "the image has a file there: build it without this VOLUME, or with a directory there");
  }
  if (!from) return std::move(from).error();
  TRY_VOID(take_attributes(from->get(), folder_fd));
  TRY(const bool empty, is_empty(from->get()));
  if (empty) return {};
  return copy_content(ctx, from->get(), folder_fd);
}

Status take_attributes(int from, int folder_fd) {
  struct stat st {};
  if (::fstat(from, &st) != 0 || ::fchown(folder_fd, st.st_uid, st.st_gid) != 0 ||
      ::fchmod(folder_fd, st.st_mode & 07777) != 0) {
    return Error::from_errno(errno, "owner and mode");
  }
  return {};
}

Result<bool> is_empty(int folder_fd) {
  const int fd = ::openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fd < 0 ? nullptr : ::fdopendir(fd), ::closedir);
  if (!dir) return Error::from_errno(errno, "listing what the image has there");
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") return false;
  }
  return true;
}

// By the host's cp, which keeps owners, times, hard links, holes, extended attributes and special files, and follows no
// link. Nothing of the image runs yet, so the tree stands still.
Status copy_content(const Context& ctx, int from, int folder_fd) {
  base::SpawnOptions spawn;
  spawn.argv = {"/bin/cp", "--archive", "--", "/proc/self/fd/3/.", "/proc/self/fd/4/"};
  spawn.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
  spawn.extra_fds = {from, folder_fd};
  spawn.new_process_group = true;
  TRY(const auto copied, base::run(ctx, std::move(spawn), "", kCopyOutputBytesMax));
  if (copied.exit.success()) return {};
  const std::string said = copied.stderr_text.substr(0, copied.stderr_text.find('\n'));
  if (said.find("No space left on device") != std::string::npos) {
    return Error::resource_exhausted(str("copying its content: ", said));
  }
  return Error::internal(str("copying its content: cp ended with ", copied.exit.exit_code, ": ", said));
}

}  // namespace
}  // namespace driver
