// Files and directory trees. Paths from images, jobs or peers are opened beneath a directory descriptor with
// open_in_root; plain paths are for names that this program made itself.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace base {

/// open(2) with O_CLOEXEC added. kNotFound etc. by errno; the message names the path.
Result<Fd> open_file(const std::filesystem::path& path, int flags, mode_t mode = 0);
/// openat(2) with O_CLOEXEC added; `name` should be a single component made by us.
Result<Fd> open_at(int dir_fd, const std::string& name, int flags, mode_t mode = 0);
/// O_PATH|O_DIRECTORY|O_NOFOLLOW of a directory.
Result<Fd> open_dir(const std::filesystem::path& path);

/// Opens `path` as if `root_fd` were "/": openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS). Absolute symlinks and ".."
/// stay inside; /proc magic links fail. Retries EAGAIN (concurrent rename) a bounded number of times.
Result<Fd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode = 0);
/// The same with RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS|RESOLVE_NO_MAGICLINKS: any symlink or ".." that leaves is an
/// error.
Result<Fd> open_beneath(int root_fd, const std::string& path, int flags, mode_t mode = 0);

enum class FileKind { kFile, kDirectory };
/// Opens what an O_PATH descriptor names, if it is a regular file, or a directory. Opening anything else could block
/// for ever (a FIFO) or do something (a device), so its kind is looked at first; links were followed, or not, when
/// `named` was opened.
///   in      flags  O_RDONLY and the like; not O_CREAT
///   errors  kInvalidArgument it is a FIFO, a device, …; "it" is the subject of the message · by errno
Result<Fd> open_named(const Fd& named, FileKind kind, int flags);

/// Reads a whole regular file (or /proc, /sys file). Larger than `bytes_max` is kResourceExhausted.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t bytes_max);
Result<std::string> read_file_at(int dir_fd, const std::string& name, std::size_t bytes_max);

inline constexpr std::string_view kTempPrefix = ".tmp-";
enum class Durable : bool { kNo, kYes };
/// Replaces `path` as a whole: temp file in the same directory, (fsync,) rename, (fsync of the directory). A crash at
/// any instruction leaves the old or the new content. Leftover temp names start with kTempPrefix.
Status write_file_atomic(const std::filesystem::path& path, std::string_view content, mode_t mode, Durable durable);
/// Plain write without temp file, for cgroup, /proc and /sys files.
Status write_file(const std::filesystem::path& path, std::string_view content);

/// mkdir -p; new directories get `mode` exactly (umask does not matter). An existing directory is fine.
///   errors  kFailedPrecondition something else is there · by errno otherwise, kNotFound where nothing can be made
Status make_dirs(const std::filesystem::path& path, mode_t mode);

/// Removes `name` in `dir_fd` and everything below it through directory descriptors, without following symlinks and
/// without crossing into another mount (that is kFailedPrecondition; what can be removed is removed). Absent = OK.
///   limits  ten descriptors and no stack, however deep the tree is
///   errors  by errno, the first one · kAborted a directory was moved meanwhile: nothing outside was touched, try again
Status remove_tree_at(int dir_fd, const std::string& name);
Status remove_tree(const std::filesystem::path& path);

/// `path` from the root, without "." and "..": from the working directory if it is relative.
///   errors  kNotFound: the working directory was removed
Result<std::string> absolute_path(const std::string& path);

/// Makes a directory's entries durable.
Status sync_dir(const std::filesystem::path& path);

/// True if something is mounted exactly on `path` (statx STATX_ATTR_MOUNT_ROOT); false if there is no such path.
///   errors  by errno: whether something is mounted there is not known
Result<bool> is_mount_point(const std::filesystem::path& path);
/// True if an open file or directory is what is mounted somewhere. `what` names it in errors.
Result<bool> is_mount_root(int fd, std::string_view what);

}  // namespace base
