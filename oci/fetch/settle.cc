#include "oci/fetch/settle.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <utility>

#include "base/file.h"

namespace oci::fetch {

namespace {

constexpr char kOpaqueXattr[] = "trusted.overlay.opaque";

bool is_whiteout(const struct stat& info) {
  return S_ISCHR(info.st_mode) && info.st_rdev == 0;
}
bool is_opaque(int fd);
struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

/// One run of settle_layer().
class Settler {
 public:
  Settler(const base::Context& ctx, Rootfs& rootfs, const LayerTodo& todo, const LowerView& lower)
      : ctx_(ctx), rootfs_(rootfs), todo_(todo), lower_(lower) {}
  base::Status run();

 private:
  base::Status hide_all_below(const std::string& dir_path);
  base::Status hide_root();
  base::Status hide(const std::string& path);
  base::Status set_opaque(const std::string& path);
  bool below_opaque(std::string path) const;
  base::Status link(const LayerTodo::Link& link);
  base::Status copy_up(const std::string& path);
  base::Status copy_file(int from, const Rootfs::Dir& dir, const std::string& name, const Attributes& attributes);
  base::Status describe_implicit_dirs();

  const base::Context& ctx_;
  Rootfs& rootfs_;
  const LayerTodo& todo_;
  const LowerView& lower_;
  std::set<std::string> opaque_;
};

/// "a/b/c" → {"a", "b"}, "c".
struct SplitPath {
  std::vector<std::string> parent;
  std::string name;
};
base::Result<SplitPath> split_last(const std::string& path) {
  SplitPath out;
  TRY(out.parent, split_path(path));
  CHECK(!out.parent.empty());
  out.name = std::move(out.parent.back());
  out.parent.pop_back();
  return out;
}

}  // namespace

base::Status settle_layer(const base::Context& ctx, Rootfs& rootfs, const LayerTodo& todo, const LowerView& lower) {
  return Settler(ctx, rootfs, todo, lower).run();
}

base::Status LowerView::add(const std::string& layer_dir) {
  TRY(auto fd, base::open_dir(layer_dir));
  roots_.push_back(std::move(fd));
  return {};
}

bool LowerView::has(const std::string& path) const {
  const auto found = find(path);
  return found && found->has_value();
}

bool LowerView::has_dir(const std::string& path) const {
  const auto found = find(path);
  struct stat info {};
  return found && found->has_value() && ::fstat((*found)->get(), &info) == 0 && S_ISDIR(info.st_mode);
}

// Overlay's lookup: a directory merges with those of the layers below it until one is opaque, or hidden by a whiteout
// or by something that is not a directory.
base::Result<std::optional<base::Fd>> LowerView::find(const std::string& path) const {
  TRY(const auto components, split_path(path));
  std::vector<base::Fd> merged;  // the present directory in each layer that shows through, top first
  for (auto root = roots_.rbegin(); root != roots_.rend(); ++root) {
    TRY(auto fd, base::dup_fd(root->get()));
    merged.push_back(std::move(fd));
  }
  for (std::size_t i = 0; i < components.size(); ++i) {
    const bool last = i + 1 == components.size();
    std::vector<base::Fd> next;
    for (const base::Fd& dir : merged) {
      auto fd = base::open_at(dir.get(), components[i], O_PATH | O_NOFOLLOW);
      if (!fd && fd.error().code == base::Code::kNotFound) continue;
      if (!fd) return std::move(fd).error();
      struct stat info {};
      if (::fstat(fd->get(), &info) != 0) return base::Error::from_errno(errno, path);
      if (is_whiteout(info)) break;
      if (last) return std::optional<base::Fd>(*std::move(fd));
      if (!S_ISDIR(info.st_mode)) break;
      const bool opaque = is_opaque(fd->get());
      next.push_back(*std::move(fd));
      if (opaque) break;
    }
    merged = std::move(next);
    if (merged.empty()) return std::optional<base::Fd>();
  }
  return std::optional<base::Fd>(merged.empty() ? base::Fd() : std::move(merged.front()));
}

base::Result<std::vector<std::string>> LowerView::root_names() const {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (auto root = roots_.rbegin(); root != roots_.rend(); ++root) {
    TRY(auto fd, base::open_at(root->get(), ".", O_RDONLY | O_DIRECTORY));
    const std::unique_ptr<DIR, CloseDir> dir(::fdopendir(fd.release()));
    if (!dir) return base::Error::from_errno(errno, "listing a layer");
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string name = entry->d_name;
      if (name == "." || name == ".." || !seen.insert(name).second) continue;
      struct stat info {};
      if (::fstatat(root->get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return base::Error::from_errno(errno, name);
      }
      if (!is_whiteout(info)) out.push_back(name);
    }
  }
  return out;
}

namespace {

bool is_opaque(int fd) {
  char value = 0;
  const std::string path = base::str("/proc/self/fd/", fd);
  return ::getxattr(path.c_str(), kOpaqueXattr, &value, 1) == 1 && value == 'y';
}

base::Status Settler::run() {
  if (!lower_.empty()) {
    for (const std::string& path : todo_.opaque_dirs) TRY_VOID(hide_all_below(path));
    for (const std::string& path : todo_.whiteouts) TRY_VOID(hide(path));
  }
  for (const LayerTodo::Link& wanted : todo_.links) TRY_VOID(link(wanted));
  TRY_VOID(describe_implicit_dirs());
  rootfs_.restore_dir_times();
  return {};
}

base::Status Settler::hide_all_below(const std::string& dir_path) {
  TRY_VOID(ctx_.check());
  if (dir_path.empty()) return hide_root();
  TRY(const auto components, split_path(dir_path));
  auto dir = rootfs_.open_dir(components, Rootfs::Missing::kError);
  if (!dir && dir.error().code == base::Code::kNotFound && lower_.has_dir(dir_path)) {
    dir = rootfs_.open_dir(components, Rootfs::Missing::kCreate);
  }
  if (!dir) return {};  // neither here nor below, or not a directory here: nothing shows through
  if (!lower_.has_dir(dir->path) || below_opaque(dir->path)) return {};
  return set_opaque(dir->path);
}

// Overlay does not look at this attribute of a layer's root: all that is below is hidden name by name.
base::Status Settler::hide_root() {
  TRY(const auto names, lower_.root_names());
  for (const std::string& name : names) TRY_VOID(hide(name));
  return {};
}

base::Status Settler::hide(const std::string& path) {
  TRY_VOID(ctx_.check());
  TRY(const auto split, split_last(path));
  auto dir = rootfs_.open_dir(split.parent, Rootfs::Missing::kError);
  if (!dir && dir.error().code == base::Code::kNotFound && lower_.has(path)) {
    dir = rootfs_.open_dir(split.parent, Rootfs::Missing::kCreate);
  }
  if (!dir) return {};
  const std::string canonical = dir->path_of(split.name);
  if (below_opaque(canonical)) return {};
  struct stat info {};
  if (::fstatat(dir->fd, split.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    // This layer removes what was there and puts something else in its place. Only directories would merge.
    return S_ISDIR(info.st_mode) && lower_.has_dir(canonical) ? set_opaque(canonical) : base::Status();
  }
  if (!lower_.has(canonical)) return {};
  if (::mknodat(dir->fd, split.name.c_str(), S_IFCHR, 0) != 0) return base::Error::from_errno(errno, canonical);
  return {};
}

base::Status Settler::set_opaque(const std::string& path) {
  TRY(const auto fd, base::open_beneath(rootfs_.fd(), path, O_RDONLY | O_DIRECTORY));
  if (::fsetxattr(fd.get(), kOpaqueXattr, "y", 1, 0) != 0) {
    base::Error error = base::Error::from_errno(errno, base::str("marking ", path, " as replaced"));
    if (error.sys_errno == ENOTSUP) {
      error.code = base::Code::kFailedPrecondition;
      error.message += "; data_dir must be on a file system with trusted extended attributes (ext4, xfs)";
    }
    return error;
  }
  opaque_.insert(path);
  return {};
}

bool Settler::below_opaque(std::string path) const {
  for (auto slash = path.rfind('/'); slash != std::string::npos; slash = path.rfind('/')) {
    path.resize(slash);
    if (opaque_.contains(path)) return true;
  }
  return false;
}

base::Status Settler::link(const LayerTodo::Link& wanted) {
  TRY_VOID(ctx_.check());
  TRY(const auto from, split_last(wanted.target));
  TRY(const auto to, split_last(wanted.path));
  struct stat info {};
  if (const auto dir = rootfs_.open_dir(to.parent, Rootfs::Missing::kError)) {
    if (::fstatat(dir->fd, to.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return {};  // a later entry's
  }
  auto dir = rootfs_.open_dir(from.parent, Rootfs::Missing::kError);
  // An earlier link of this list may have brought it here.
  if (!dir || ::fstatat(dir->fd, from.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (!lower_.has(wanted.target)) {
      return base::Error::data_loss(
          base::str(wanted.path, " is a hard link to ", wanted.target, ", which no layer has"));
    }
    TRY_VOID(copy_up(wanted.target));
  }
  TRY(const auto from_dir, rootfs_.open_dir(from.parent, Rootfs::Missing::kError));
  TRY(const auto held, base::dup_fd(from_dir.fd));
  TRY(const auto to_dir, rootfs_.open_dir(to.parent, Rootfs::Missing::kCreate));
  return rootfs_.make_link(held.get(), from.name, to_dir, to.name);
}

base::Status Settler::copy_up(const std::string& path) {
  TRY(const auto found, lower_.find(path));
  CHECK(found.has_value());
  TRY(const auto split, split_last(path));
  TRY(const auto attributes, read_attributes(found->get()));
  TRY(const auto dir, rootfs_.open_dir(split.parent, Rootfs::Missing::kCreate));
  struct stat info {};
  if (::fstat(found->get(), &info) != 0) return base::Error::from_errno(errno, path);
  switch (info.st_mode & S_IFMT) {
    case S_IFREG:
      return copy_file(found->get(), dir, split.name, attributes);
    case S_IFLNK: {
      std::string target(kPathBytesMax + 1, '\0');
      const ssize_t size = ::readlinkat(found->get(), "", target.data(), target.size());
      if (size < 0) return base::Error::from_errno(errno, path);
      target.resize(static_cast<std::size_t>(size));
      return rootfs_.make_symlink(dir, split.name, target, attributes);
    }
    case S_IFDIR:
      return base::Error::invalid_argument(base::str("a hard link to the directory ", path));
    default:
      return rootfs_.make_node(dir, split.name, info.st_mode & S_IFMT, info.st_rdev, attributes);
  }
}

base::Status Settler::copy_file(int from, const Rootfs::Dir& dir, const std::string& name,
                                const Attributes& attributes) {
  TRY(const auto in, base::open_file(base::str("/proc/self/fd/", from), O_RDONLY));
  TRY(const auto out, rootfs_.make_file(dir, name));
  constexpr std::size_t kCopyBytes = 64u << 20;  // a call; between calls we can be stopped
  for (;;) {
    TRY_VOID(ctx_.check());
    const ssize_t size = ::copy_file_range(in.get(), nullptr, out.get(), nullptr, kCopyBytes, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return base::Error::from_errno(errno, dir.path_of(name));
    if (size == 0) break;
  }
  return rootfs_.finish_file(out.get(), dir.path_of(name), attributes);
}

base::Status Settler::describe_implicit_dirs() {
  for (const std::string& path : rootfs_.implicit_dirs()) {
    TRY(const auto found, lower_.find(path));
    struct stat info {};
    if (!found || ::fstat(found->get(), &info) != 0 || !S_ISDIR(info.st_mode)) continue;
    TRY(const auto attributes, read_attributes(found->get()));
    TRY_VOID(rootfs_.describe_implicit(path, attributes));
  }
  return {};
}

}  // namespace

}  // namespace oci::fetch
