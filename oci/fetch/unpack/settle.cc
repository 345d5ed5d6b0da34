#include "oci/fetch/unpack/settle.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <utility>

#include "base/file.h"

namespace oci::fetch {

namespace {

bool is_whiteout(const struct stat& info) {
  return S_ISCHR(info.st_mode) && info.st_rdev == 0;
}
struct CloseLayerDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

/// One run of settle_layer().
class Settler {
 public:
  Settler(const base::Context& ctx, Rootfs& rootfs, const LayerTodo& todo, const LowerView& lower)
      : ctx_(ctx), rootfs_(rootfs), todo_(todo), lower_(lower) {}
  base::Status run();

 private:
  base::Status hide_contents(const std::string& dir_path);
  base::Status hide_contents_of(const std::string& canonical);
  base::Status hide(const std::string& path);
  base::Status hide_in(const Rootfs::Dir& dir, const std::string& name);
  base::Status link(const LayerTodo::Link& link);
  base::Status copy_up(const std::string& path);
  base::Status copy_file(int from, const Rootfs::Dir& dir, const std::string& name, const Attributes& attributes);
  base::Status describe_implicit_dirs();

  const base::Context& ctx_;
  Rootfs& rootfs_;
  const LayerTodo& todo_;
  const LowerView& lower_;
  std::set<std::string> copied_up_;  // here only to be linked to
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

base::Result<std::optional<base::Fd>> LowerView::find(const std::string& path) const {
  TRY(auto found, find_all(path));
  if (found.empty()) return std::optional<base::Fd>();
  return std::optional<base::Fd>(std::move(found.front()));
}

// Overlay's lookup: a directory merges with those of the layers below it, until it is hidden by a whiteout or by
// something that is not a directory. What is found, top first; if it is a directory, all that it is merged from.
base::Result<std::vector<base::Fd>> LowerView::find_all(const std::string& path) const {
  TRY(const auto components, split_path(path));
  std::vector<base::Fd> merged;
  for (auto root = roots_.rbegin(); root != roots_.rend(); ++root) {
    TRY(auto fd, base::dup_fd(root->get()));
    merged.push_back(std::move(fd));
  }
  for (const std::string& component : components) {
    std::vector<base::Fd> next;
    for (const base::Fd& dir : merged) {
      auto fd = base::open_at(dir.get(), component, O_PATH | O_NOFOLLOW);
      if (!fd && fd.error().code == base::Code::kNotFound) continue;
      if (!fd && fd.error().sys_errno == ENOTDIR) break;  // the last component was no directory
      if (!fd) return std::move(fd).error();
      struct stat info {};
      if (::fstat(fd->get(), &info) != 0) return base::Error::from_errno(errno, path);
      const bool is_dir = S_ISDIR(info.st_mode);
      if (is_whiteout(info) || (!is_dir && !next.empty())) break;
      next.push_back(*std::move(fd));
      if (!is_dir) break;
    }
    merged = std::move(next);
  }
  return merged;
}

base::Result<std::vector<std::string>> LowerView::names(const std::string& path) const {
  TRY(const auto dirs, find_all(path));
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const base::Fd& merged : dirs) {
    auto fd = base::open_at(merged.get(), ".", O_RDONLY | O_DIRECTORY);
    if (!fd && fd.error().sys_errno == ENOTDIR) return out;
    if (!fd) return std::move(fd).error();
    const std::unique_ptr<DIR, CloseLayerDir> dir(::fdopendir(fd->release()));
    if (!dir) return base::Error::from_errno(errno, "listing a layer");
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string name = entry->d_name;
      if (name == "." || name == ".." || !seen.insert(name).second) continue;
      struct stat info {};
      if (::fstatat(merged.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return base::Error::from_errno(errno, name);
      }
      if (!is_whiteout(info)) out.push_back(name);
    }
  }
  return out;
}

namespace {

base::Status Settler::run() {
  // First, as a link may be to what this layer removes.
  for (const LayerTodo::Link& wanted : todo_.links) TRY_VOID(link(wanted));
  if (!lower_.empty()) {
    for (const std::string& path : todo_.opaque_dirs) TRY_VOID(hide_contents(path));
    for (const std::string& path : todo_.whiteouts) TRY_VOID(hide(path));
  }
  TRY_VOID(describe_implicit_dirs());
  rootfs_.restore_dir_times();
  return {};
}

base::Status Settler::hide_contents(const std::string& dir_path) {
  TRY(const auto components, split_path(dir_path));
  auto dir = rootfs_.open_dir(components, Rootfs::Missing::kError);
  if (!dir && dir.error().code == base::Code::kNotFound && lower_.has_dir(dir_path)) {
    dir = rootfs_.open_dir(components, Rootfs::Missing::kCreate);
  }
  if (!dir) return {};  // neither here nor below, or not a directory here: nothing shows through
  const std::string canonical = dir->path;
  return hide_contents_of(canonical);
}

// Deep, where both have a directory: these merge.
base::Status Settler::hide_contents_of(const std::string& canonical) {
  std::vector<std::string> todo{canonical};
  while (!todo.empty()) {
    const std::string path = std::move(todo.back());
    todo.pop_back();
    TRY(const auto names, lower_.names(path));
    TRY(const auto components, split_path(path));
    for (const std::string& name : names) {
      TRY(const auto dir, rootfs_.open_dir(components, Rootfs::Missing::kError));
      struct stat info {};
      if (::fstatat(dir.fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode)) {
        todo.push_back(dir.path_of(name));
      } else {
        TRY_VOID(hide_in(dir, name));
      }
    }
  }
  return {};
}

base::Status Settler::hide(const std::string& path) {
  TRY(const auto split, split_last(path));
  auto dir = rootfs_.open_dir(split.parent, Rootfs::Missing::kError);
  if (!dir && dir.error().code == base::Code::kNotFound && lower_.has(path)) {
    dir = rootfs_.open_dir(split.parent, Rootfs::Missing::kCreate);
  }
  if (!dir) return {};
  const std::string canonical = dir->path_of(split.name);
  if (!lower_.has(canonical)) return {};
  struct stat info {};
  if (::fstatat(dir->fd, split.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode)) {
    return hide_contents_of(canonical);  // removed, and made anew
  }
  return hide_in(*dir, split.name);
}

/// `name` is visible in the lower layers, and no directory here.
base::Status Settler::hide_in(const Rootfs::Dir& dir, const std::string& name) {
  TRY_VOID(ctx_.check());
  const std::string path = dir.path_of(name);
  if (copied_up_.contains(path) && ::unlinkat(dir.fd, name.c_str(), 0) != 0)
    return base::Error::from_errno(errno, path);
  // What this layer has there, be it a whiteout already, hides it as well.
  if (::mknodat(dir.fd, name.c_str(), S_IFCHR, 0) != 0 && errno != EEXIST) return base::Error::from_errno(errno, path);
  return {};
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
  return rootfs_.make_link(held.get(), from.name, to_dir, to.name, wanted.attributes);
}

base::Status Settler::copy_up(const std::string& path) {
  TRY(const auto found, lower_.find(path));
  CHECK(found.has_value());
  TRY(const auto split, split_last(path));
  TRY(const auto attributes, read_attributes(found->get()));
  TRY(const auto dir, rootfs_.open_dir(split.parent, Rootfs::Missing::kCreate));
  copied_up_.insert(dir.path_of(split.name));
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
