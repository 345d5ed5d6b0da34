#include "base/file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <vector>

namespace base {

namespace {
constexpr int kOpenat2RetriesMax = 128;

Result<Fd> openat2_resolve(int root_fd, const std::string& path, int flags, mode_t mode, std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC));
  how.mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = resolve;
  for (int attempt = 0; attempt < kOpenat2RetriesMax; ++attempt) {
    const long fd = ::syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    // EAGAIN: a rename somewhere raced with a ".." in the path; the kernel asks for another try.
    if (errno != EAGAIN && errno != EINTR) break;
  }
  return Error::from_errno(errno, str("opening ", path));
}

/// One directory; fine if it is there.
Status make_dir(const std::filesystem::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) {
    if (::chmod(path.c_str(), mode) != 0) return Error::from_errno(errno, str("setting the mode of ", path.native()));
    return {};
  }
  if (errno != EEXIST) return Error::from_errno(errno, str("creating directory ", path.native()));
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
  return Error::failed_precondition(str(path.native(), " exists and is not a directory"));
}
}  // namespace

Result<Fd> open_file(const std::filesystem::path& path, int flags, mode_t mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return Error::from_errno(errno, str("opening ", path.native()));
  return Fd(fd);
}

Result<Fd> open_at(int dir_fd, const std::string& name, int flags, mode_t mode) {
  const int fd = ::openat(dir_fd, name.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return Error::from_errno(errno, str("opening ", name));
  return Fd(fd);
}

Result<Fd> open_dir(const std::filesystem::path& path) {
  return open_file(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

Result<Fd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode) {
  return openat2_resolve(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

Result<Fd> open_beneath(int root_fd, const std::string& path, int flags, mode_t mode) {
  return openat2_resolve(root_fd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

namespace {
std::string_view kind_name(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISLNK(mode)) return "a symbolic link";
  return S_ISREG(mode) ? "a file" : "a device";
}
}  // namespace

Result<Fd> open_named(const Fd& named, FileKind kind, int flags) {
  struct stat st {};
  if (::fstat(named.get(), &st) != 0) return Error::from_errno(errno, "looking what it is");
  const mode_t wanted = kind == FileKind::kFile ? S_IFREG : S_IFDIR;
  if ((st.st_mode & S_IFMT) != wanted) {
    return Error::invalid_argument(str("it is ", kind_name(st.st_mode), ", not ", kind_name(wanted)));
  }
  return open_file(str("/proc/self/fd/", named.get()), flags);
}

namespace {
Result<std::string> read_fd(int fd, std::size_t bytes_max, const std::string& what) {
  std::string out;
  char buffer[16 * 1024];
  while (true) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(errno, str("reading ", what));
    if (n == 0) return out;
    if (out.size() + static_cast<std::size_t>(n) > bytes_max) {
      return Error::resource_exhausted(str(what, " is larger than the limit of ", bytes_max, " bytes"));
    }
    out.append(buffer, static_cast<std::size_t>(n));
  }
}
}  // namespace

Result<std::string> read_file(const std::filesystem::path& path, std::size_t bytes_max) {
  TRY(const Fd fd, open_file(path, O_RDONLY | O_NONBLOCK));
  return read_fd(fd.get(), bytes_max, path.native());
}

Result<std::string> read_file_at(int dir_fd, const std::string& name, std::size_t bytes_max) {
  TRY(const Fd fd, open_at(dir_fd, name, O_RDONLY | O_NONBLOCK));
  return read_fd(fd.get(), bytes_max, name);
}

Status write_file_atomic(const std::filesystem::path& path, std::string_view content, mode_t mode, Durable durable) {
  static std::atomic<unsigned> counter{0};
  const std::filesystem::path temp =
      path.parent_path() / str(kTempPrefix, path.filename().native(), "-", ::getpid(), "-", counter++);
  const auto fail = [&temp](const char* what) {
    Error error = Error::from_errno(errno, str(what, " ", temp.native()));
    ::unlink(temp.c_str());
    return error;
  };
  {
    TRY(const Fd fd, open_file(temp, O_WRONLY | O_CREAT | O_EXCL, mode));
    if (::fchmod(fd.get(), mode) != 0) return fail("setting the mode of");
    while (!content.empty()) {
      const ssize_t n = ::write(fd.get(), content.data(), content.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail("writing");
      content.remove_prefix(static_cast<std::size_t>(n));
    }
    if (durable == Durable::kYes && ::fdatasync(fd.get()) != 0) return fail("syncing");
  }
  if (::rename(temp.c_str(), path.c_str()) != 0) return fail("renaming");
  if (durable == Durable::kYes) return sync_dir(path.parent_path());
  return {};
}

Status write_file(const std::filesystem::path& path, std::string_view content) {
  TRY(const Fd fd, open_file(path, O_WRONLY));
  ssize_t n;
  do {
    n = ::write(fd.get(), content.data(), content.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) return Error::from_errno(errno, str("writing ", path.native()));
  if (static_cast<std::size_t>(n) != content.size()) return Error::internal(str("short write to ", path.native()));
  return {};
}

Status make_dirs(const std::filesystem::path& path, mode_t mode) {
  // From the path up to the first directory that can be made, then down again.
  std::vector<std::filesystem::path> missing;
  for (std::filesystem::path at = path;;) {
    auto made = make_dir(at, mode);
    if (made) break;
    const bool has_parent = at.has_parent_path() && at.parent_path() != at;
    // The parent is there when we come back: ENOENT again is mkdir's own word (in /proc), or somebody removes it.
    if (made.error().sys_errno != ENOENT || !has_parent) return made;
    missing.push_back(at);
    at = at.parent_path();
  }
  for (; !missing.empty(); missing.pop_back()) TRY_VOID(make_dir(missing.back(), mode));
  return {};
}

Status remove_tree(const std::filesystem::path& path) {
  const auto parent = open_file(path.parent_path(), O_PATH | O_DIRECTORY);
  if (!parent) {
    if (parent.error().code == Code::kNotFound) return {};
    return parent.error();
  }
  auto removed = remove_tree_at(parent->get(), path.filename());
  if (!removed) return std::move(removed).error().wrap(str("removing ", path.native()));
  return {};
}

Result<std::string> absolute_path(const std::string& path) {
  std::error_code failed;
  const auto absolute = std::filesystem::absolute(path, failed);
  if (!failed) return absolute.lexically_normal().string();
  return Error::from_errno(failed.value(), str("the working directory, which ", path, " starts from"));
}

Status sync_dir(const std::filesystem::path& path) {
  TRY(const Fd fd, open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return Error::from_errno(errno, str("syncing directory ", path.native()));
  return {};
}

namespace {

bool says_mount_root(const struct statx& stx) {
  return (stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0 && (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace

Result<bool> is_mount_point(const std::filesystem::path& path) {
  struct statx stx {};
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Error::from_errno(errno, path.native());
  }
  return says_mount_root(stx);
}

Result<bool> is_mount_root(int fd, std::string_view what) {
  struct statx stx {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) != 0) return Error::from_errno(errno, what);
  return says_mount_root(stx);
}

}  // namespace base
