#include "cli/layer_diff.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include "base/dir.h"
#include "base/file.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kChangesMax = 1'000'000;
constexpr std::size_t kLayerNamesMax = 5'000'000;  ///< of the folders that are open at once
constexpr std::size_t kLayerDepthMax = 500;  ///< folders; each keeps a descriptor while what is below is looked at

/// Which layers show something in a folder, the top-most first, by their places in the list of all.
using Showing = std::vector<std::size_t>;

/// What the layers below show under a name.
struct Below {
  bool is_folder = false;
  Showing showing;  ///< in the folder, if it is one
};

class Comparison {
 public:
  Comparison(const Context& ctx, const std::vector<Fd>& layers) : ctx_(ctx), layers_(layers) {}
  /// A folder of the writable layer, where the layers below show `showing`.
  Status compare(int folder, const std::string& path, const Showing& showing, std::size_t depth);
  std::vector<LayerChange> changes() &&;

 private:
  Result<std::optional<Below>> below(const std::string& path, const Showing& showing) const;
  Status compare_entry(int folder, const std::string& name, const std::string& path, const Showing& showing,
                       std::size_t depth);
  Status add_hidden(const std::string& path, const Showing& showing, const std::vector<std::string>& shown);
  Status add(ChangeKind kind, const std::string& path);

  const Context& ctx_;
  const std::vector<Fd>& layers_;
  std::vector<LayerChange> changes_;
  std::size_t names_left_ = kLayerNamesMax;
};

bool is_whiteout(const struct stat& info);
Result<bool> is_opaque(int folder);

}  // namespace

Result<std::vector<LayerChange>> layer_changes(const Context& ctx, const Fd& upper, const std::vector<Fd>& layers) {
  Comparison comparison(ctx, layers);
  Showing all;
  for (std::size_t i = layers.size(); i > 0; --i) all.push_back(i - 1);
  TRY_VOID(comparison.compare(upper.get(), "", all, 0));
  return std::move(comparison).changes();
}

namespace {

Status Comparison::compare(int folder, const std::string& path, const Showing& showing, std::size_t depth) {
  if (depth >= kLayerDepthMax) {
    return Error::invalid_argument(str(path, " lies ", kLayerDepthMax, " folders deep, and that is the limit"));
  }
  TRY(const auto names, base::list_dir(folder, path.empty() ? "/" : path, names_left_));
  names_left_ -= names.size();
  TRY(const bool opaque, is_opaque(folder));
  if (opaque) TRY_VOID(add_hidden(path, showing, names));
  for (const std::string& name : names) {
    TRY_VOID(compare_entry(folder, name, str(path, "/", name), showing, depth));
  }
  names_left_ += names.size();
  return {};
}

Status Comparison::compare_entry(int folder, const std::string& name, const std::string& path, const Showing& showing,
                                 std::size_t depth) {
  TRY_VOID(ctx_.check());
  struct stat info {};
  if (::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};  // it was removed just now
    return Error::from_errno(errno, path);
  }
  TRY(const auto before, below(path, showing));
  if (is_whiteout(info)) return before ? add(ChangeKind::kDeleted, path) : Status();
  TRY_VOID(add(before ? ChangeKind::kChanged : ChangeKind::kAdded, path));
  if (!S_ISDIR(info.st_mode)) return {};
  const auto inner = base::open_at(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!inner && (inner.error().sys_errno == ENOENT || inner.error().sys_errno == ENOTDIR)) return {};
  if (!inner) return inner.error();
  return compare(inner->get(), path, before ? before->showing : Showing(), depth + 1);
}

// Layers are complete and never changed: a path leads through folders of one of them only.
Result<std::optional<Below>> Comparison::below(const std::string& path, const Showing& showing) const {
  std::optional<Below> found;
  for (const std::size_t layer : showing) {
    const auto entry = base::open_in_root(layers_[layer].get(), path, O_PATH | O_NOFOLLOW);
    if (!entry && (entry.error().sys_errno == ENOENT || entry.error().sys_errno == ENOTDIR)) continue;
    if (!entry) return entry.error();
    struct stat info {};
    if (::fstat(entry->get(), &info) != 0) return Error::from_errno(errno, path);
    if (is_whiteout(info)) return found;
    if (!found) found.emplace(Below{.is_folder = S_ISDIR(info.st_mode), .showing = {}});
    if (!S_ISDIR(info.st_mode) || !found->is_folder) return found;
    found->showing.push_back(layer);
    TRY(const Fd folder, base::open_in_root(layers_[layer].get(), path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY(const bool opaque, is_opaque(folder.get()));
    if (opaque) return found;
  }
  return found;
}

// Of an opaque folder: what the layers below have in it is gone, unless there is something of that name again.
Status Comparison::add_hidden(const std::string& path, const Showing& showing, const std::vector<std::string>& shown) {
  std::set<std::string> hidden;
  for (const std::size_t layer : showing) {
    TRY(const Fd folder,
        base::open_in_root(layers_[layer].get(), path.empty() ? "/" : path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY(const auto names, base::list_dir(folder.get(), path, kLayerNamesMax));
    hidden.insert(names.begin(), names.end());
  }
  for (const std::string& name : hidden) {
    if (std::binary_search(shown.begin(), shown.end(), name)) continue;
    TRY(const auto before, below(str(path, "/", name), showing));
    if (before) TRY_VOID(add(ChangeKind::kDeleted, str(path, "/", name)));
  }
  return {};
}

Status Comparison::add(ChangeKind kind, const std::string& path) {
  if (changes_.size() >= kChangesMax) {
    return Error::resource_exhausted(str("it has changed more than ", kChangesMax, " files, and that is the limit"));
  }
  changes_.push_back({kind, path});
  return {};
}

std::vector<LayerChange> Comparison::changes() && {
  std::sort(changes_.begin(), changes_.end(),
            [](const LayerChange& a, const LayerChange& b) { return a.path < b.path; });
  return std::move(changes_);
}

bool is_whiteout(const struct stat& info) {
  return S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0);
}

Result<bool> is_opaque(int folder) {
  char value = 0;
  const ssize_t size = ::fgetxattr(folder, "trusted.overlay.opaque", &value, 1);
  if (size < 0 && errno != ENODATA && errno != ENOTSUP && errno != ERANGE) {
    return Error::from_errno(errno, "trusted.overlay.opaque");
  }
  return size == 1 && value == 'y';
}

}  // namespace
}  // namespace cli
