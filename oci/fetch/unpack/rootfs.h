// A directory tree that hostile paths are applied to. The kernel is never asked to follow a symlink of the tree: paths
// are opened with openat2(RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS) or one component at a time with O_NOFOLLOW, and symlinks
// are resolved here, inside the tree. What is then made or changed is named by (directory descriptor, last component).
// spec: image-spec layer.md
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace oci::fetch {

constexpr std::size_t kPathBytesMax = 4095;  ///< PATH_MAX without its NUL
constexpr std::size_t kPathDepthMax = 255;
constexpr std::size_t kNameBytesMax = 255;
constexpr int kSymlinksMax = 40;
constexpr std::size_t kXattrBytesMax = 64u << 10;  ///< each
constexpr std::size_t kXattrsBytesMax = 1u << 20;  ///< all of one entry

/// "./a//b/../c/" → {"a", "c"}. ".." stops at the root. kInvalidArgument past a limit.
base::Result<std::vector<std::string>> split_path(std::string_view path);
std::string join_path(const std::vector<std::string>& components);
/// "a/b" and "c" → "a/b/c"; "" and "c" → "c".
std::string child_path(std::string_view parent, std::string_view name);

struct Xattr {
  std::string name;
  std::string value;
};
/// Whether an archive may set this attribute: user.*, file capabilities, POSIX ACLs. Not trusted.* (overlay obeys
/// those), not security labels of another host.
bool is_xattr_allowed(std::string_view name);

/// What an inode looks like besides its content.
struct Attributes {
  mode_t mode = 0;  ///< permission bits, setuid and so on; no type
  uid_t uid = 0;
  gid_t gid = 0;
  timespec atime{};
  timespec mtime{};
  std::vector<Xattr> xattrs;
};
/// Reads them from an open descriptor (O_PATH will do), leaving out attributes that an archive could not set.
base::Result<Attributes> read_attributes(int fd);

/// Tells a person about something that was left out.
using Warn = std::function<void(const std::string&)>;

/// One tree. threads: one at a time.
class Rootfs {
 public:
  /// `root` is a directory, borrowed. `warn` may be empty.
  explicit Rootfs(int root, Warn warn = {});
  Rootfs(const Rootfs&) = delete;
  Rootfs& operator=(const Rootfs&) = delete;

  /// A directory in the tree and its canonical path ("" = the root; no symlinks in it).
  int fd() const { return root_; }

  struct Dir {
    int fd = -1;  ///< O_PATH, borrowed: valid until the next open_dir()
    std::string path;
    std::string path_of(std::string_view name) const { return child_path(path, name); }
  };
  enum class Missing { kError, kCreate };
  /// Follows symlinks inside the tree. kCreate makes what is missing, 0755 root, and remembers it as implicit.
  ///   errors  kNotFound (kError only) · kFailedPrecondition a component is not a directory · kInvalidArgument a loop
  base::Result<Dir> open_dir(const std::vector<std::string>& components, Missing missing);

  // Each of these makes `name` in `dir` and gives it its attributes, removing what was there before. Only a directory
  // over a directory keeps its content. The times of a directory are set by restore_dir_times().
  base::Status make_dir(const Dir& dir, const std::string& name, const Attributes& attributes);
  base::Status make_symlink(const Dir& dir, const std::string& name, const std::string& target,
                            const Attributes& attributes);
  /// `type` is S_IFCHR, S_IFBLK or S_IFIFO.
  base::Status make_node(const Dir& dir, const std::string& name, mode_t type, dev_t device,
                         const Attributes& attributes);
  /// Open for writing; finish_file() gives it its attributes once its content is there (a write clears some of them).
  base::Result<base::Fd> make_file(const Dir& dir, const std::string& name);
  base::Status finish_file(int fd, const std::string& shown, const Attributes& attributes);
  /// Links `name` to `target` of `target_dir`; a symlink is linked, not followed. The attributes become those of the
  /// file, under all its names; what it has beyond them (other xattrs) stays. kNotFound: no such target.
  base::Status make_link(int target_dir, const std::string& target, const Dir& dir, const std::string& name,
                         const Attributes& attributes);

  /// Removes `name` and all below it, without following or crossing anything. Absent is OK.
  base::Status remove(const Dir& dir, const std::string& name);

  /// Directories that were made for what they contain and that no entry has described (yet), parents first.
  std::vector<std::string> implicit_dirs() const;
  /// Attributes of an implicit directory, now that they are known from elsewhere.
  base::Status describe_implicit(const std::string& path, const Attributes& attributes);

  /// Directory times move whenever a child is made, so they come last.
  void restore_dir_times();
  /// What this object has to keep in memory for the above.
  std::size_t remembered_bytes() const { return remembered_bytes_; }

 private:
  base::Result<Dir> walk(const std::vector<std::string>& components, Missing missing);
  template <typename Make>
  base::Status make_new(const Dir& dir, const std::string& name, Make make);
  base::Status set_on_fd(int fd, const std::string& shown, const Attributes& attributes);
  base::Status set_on_name(const Dir& dir, const std::string& name, mode_t type, const Attributes& attributes);
  base::Status xattr_failed(int err, const Xattr& xattr, const std::string& shown, bool is_file_or_dir);
  void remember_times(const std::string& path, const Attributes& attributes);

  struct DirTimes {
    std::string path;
    timespec times[2];
  };

  const int root_;
  const Warn warn_;
  bool warned_ = false;
  // The directory of the last open_dir(): consecutive entries mostly share it. Forgotten when anything is removed.
  base::Fd cached_fd_;
  std::string cached_asked_;
  std::string cached_path_;
  bool cached_ = false;

  std::set<std::string> implicit_;  // sorts parents before children
  std::vector<DirTimes> dir_times_;
  std::size_t remembered_bytes_ = 0;
};

}  // namespace oci::fetch
