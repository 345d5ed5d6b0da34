#include "cli/copy_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <vector>

#include "base/dir.h"
#include "base/file.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kDepthMax = 1000;  // folders; each keeps two descriptors while what is below is copied
constexpr std::size_t kChunkBytes = 1u << 20;

/// One entry on its way.
struct Entry {
  int from;
  const std::string& name;
  int to;
  const std::string& to_name;
  struct stat info;
};

Status copy_entry(const Context& ctx, int from, const std::string& name, int to, const std::string& to_name,
                  const CopyOptions& options, std::size_t depth);
Status copy_below(const Context& ctx, int from, int to, const CopyOptions& options, std::size_t depth);
Status copy_folder(const Context& ctx, const Entry& entry, const CopyOptions& options, std::size_t depth);
Status copy_file(const Context& ctx, const Entry& entry, const CopyOptions& options);
Status copy_link(const Entry& entry, const CopyOptions& options);
Status keep_attributes(int fd, const struct stat& info, const CopyOptions& options);
Status copy_piece(const Context& ctx, int from, int to, off_t begin, off_t end);
Error failed(const std::string& name);

}  // namespace

Status copy_tree(const Context& ctx, int from, const std::string& name, int to, const std::string& to_name,
                 const CopyOptions& options) {
  return copy_entry(ctx, from, name, to, to_name, options, 0);
}

Status copy_content(const Context& ctx, int from, int to, const CopyOptions& options) {
  return copy_below(ctx, from, to, options, 0);
}

Status copy_file_content(const Context& ctx, int from, int to) {
  struct stat info {};
  if (::fstat(from, &info) != 0) return failed("the file");
  if (::ftruncate(to, 0) != 0 || ::ftruncate(to, info.st_size) != 0) return failed("the file");
  for (off_t at = 0; at < info.st_size;) {
    const off_t begin = ::lseek(from, at, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) return {};  // a hole up to the end
    const off_t start = begin < 0 ? at : begin;  // a file system without holes
    const off_t hole = ::lseek(from, start, SEEK_HOLE);
    const off_t end = hole < 0 ? info.st_size : hole;
    TRY_VOID(copy_piece(ctx, from, to, start, end));
    at = end;
  }
  return {};
}

namespace {

Status copy_entry(const Context& ctx, int from, const std::string& name, int to, const std::string& to_name,
                  const CopyOptions& options, std::size_t depth) {
  TRY_VOID(ctx.check());
  Entry entry{from, name, to, to_name, {}};
  if (::fstatat(from, name.c_str(), &entry.info, AT_SYMLINK_NOFOLLOW) != 0) return failed(name);
  switch (entry.info.st_mode & S_IFMT) {
    case S_IFDIR:
      return copy_folder(ctx, entry, options, depth);
    case S_IFREG:
      return copy_file(ctx, entry, options);
    case S_IFLNK:
      return copy_link(entry, options);
    case S_IFIFO:
      if (::mkfifoat(to, to_name.c_str(), entry.info.st_mode & 07777) != 0 && errno != EEXIST) return failed(to_name);
      return {};
    default:
      if (options.on_skipped) options.on_skipped(name);
      return {};
  }
}

Status copy_folder(const Context& ctx, const Entry& entry, const CopyOptions& options, std::size_t depth) {
  if (depth >= kDepthMax) {
    return Error::invalid_argument(
        str(entry.name, " lies more than ", kDepthMax, " folders deep, and that is the limit"));
  }
  TRY(const Fd from, base::open_at(entry.from, entry.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (::mkdirat(entry.to, entry.to_name.c_str(), 0700) != 0 && errno != EEXIST) return failed(entry.to_name);
  auto to = base::open_at(entry.to, entry.to_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!to && (to.error().sys_errno == ENOTDIR || to.error().sys_errno == ELOOP)) {
    return Error::invalid_argument(
        str("the folder ", entry.name, " cannot become ", entry.to_name, ", which is there and is no folder"));
  }
  if (!to) return std::move(to).error();
  TRY_VOID(copy_below(ctx, from.get(), to->get(), options, depth + 1));
  return keep_attributes(to->get(), entry.info, options);
}

Status copy_below(const Context& ctx, int from, int to, const CopyOptions& options, std::size_t depth) {
  TRY(const auto names, base::list_dir(from, "the folder"));
  for (const std::string& name : names) TRY_VOID(copy_entry(ctx, from, name, to, name, options, depth));
  return {};
}

// What is there is removed first: it may be a link, or have other names, or be executed.
Status copy_file(const Context& ctx, const Entry& entry, const CopyOptions& options) {
  TRY(const Fd from, base::open_at(entry.from, entry.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  struct stat info {};
  if (::fstat(from.get(), &info) != 0) return failed(entry.name);
  if (!S_ISREG(info.st_mode)) return Error::failed_precondition(str(entry.name, " was replaced while it was copied"));
  if (::unlinkat(entry.to, entry.to_name.c_str(), 0) != 0 && errno != ENOENT) {
    if (errno != EISDIR) return failed(entry.to_name);
    return Error::invalid_argument(
        str("the file ", entry.name, " cannot become ", entry.to_name, ", which is a folder"));
  }
  TRY(const Fd to, base::open_at(entry.to, entry.to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY_VOID(copy_file_content(ctx, from.get(), to.get()));
  return keep_attributes(to.get(), info, options);
}

Status copy_link(const Entry& entry, const CopyOptions& options) {
  std::array<char, PATH_MAX> target{};
  const ssize_t size = ::readlinkat(entry.from, entry.name.c_str(), target.data(), target.size() - 1);
  if (size < 0) return failed(entry.name);
  if (::unlinkat(entry.to, entry.to_name.c_str(), 0) != 0 && errno != ENOENT) return failed(entry.to_name);
  if (::symlinkat(target.data(), entry.to, entry.to_name.c_str()) != 0) return failed(entry.to_name);
  if (!options.keep_owner) return {};
  if (::fchownat(entry.to, entry.to_name.c_str(), entry.info.st_uid, entry.info.st_gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return failed(entry.to_name);
  }
  return {};
}

// The owner first: a change of it takes set-user-ID away.
Status keep_attributes(int fd, const struct stat& info, const CopyOptions& options) {
  if (options.keep_owner && ::fchown(fd, info.st_uid, info.st_gid) != 0) return failed("the owner");
  if (::fchmod(fd, info.st_mode & 07777) != 0) return failed("the mode");
  const std::array<struct timespec, 2> times = {info.st_atim, info.st_mtim};
  ::futimens(fd, times.data());
  return {};
}

Status copy_piece(const Context& ctx, int from, int to, off_t begin, off_t end) {
  static thread_local std::vector<char> chunk(kChunkBytes);
  while (begin < end) {
    TRY_VOID(ctx.check());
    const auto wanted = std::min<std::size_t>(chunk.size(), static_cast<std::size_t>(end - begin));
    const ssize_t got = ::pread(from, chunk.data(), wanted, begin);
    if (got < 0) return failed("the file");
    if (got == 0) return {};  // it has become shorter
    for (ssize_t done = 0; done < got;) {
      const ssize_t put = ::pwrite(to, chunk.data() + done, static_cast<std::size_t>(got - done), begin + done);
      if (put < 0) return failed("the file");
      done += put;
    }
    begin += got;
  }
  return {};
}

Error failed(const std::string& name) {
  return Error::from_errno(errno, name);
}

}  // namespace
}  // namespace cli
