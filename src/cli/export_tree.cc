#include "cli/export_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/dir.h"
#include "base/file.h"
#include "oci/tar_format.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kExportDepthMax = 500;  ///< folders; each keeps a descriptor while what is below is written
constexpr std::size_t kPieceBytes = 1u << 20;
constexpr std::size_t kLinkedFilesMax = 1'000'000;          ///< beyond, files with several names are written for each
constexpr std::size_t kExportNamesMax = 5'000'000;          ///< of the folders that are open at once
constexpr std::uint64_t kExportHoleBytesMax = 64ull << 30;  ///< of all sparse files: in the tar they are zeros
constexpr std::uint64_t kExportBlockBytes = 512;            ///< of st_blocks
constexpr std::size_t kXattrListBytesMax = 64u << 10;

class Exporter {
 public:
  Exporter(const Context& ctx, int out, const ExportOptions& options) : ctx_(ctx), out_(out), options_(options) {}
  Status write_below(int folder, const std::string& path, std::size_t depth);
  Status finish() { return base::write_all(ctx_, out_, oci::tar_end()); }

 private:
  Status write_entry(int folder, const std::string& name, const std::string& path, std::size_t depth);
  Status write_folder(int folder, const std::string& name, oci::TarEntry entry, std::size_t depth);
  Status write_file(int folder, const std::string& name, oci::TarEntry entry);
  Status write_content(int file, const std::string& path, std::uint64_t size);
  /// The name that this file has been written under before.
  std::optional<std::string> earlier_name(const struct stat& info, const std::string& path);

  const Context& ctx_;
  const int out_;
  const ExportOptions& options_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
  std::size_t names_left_ = kExportNamesMax;
  std::uint64_t holes_left_bytes_ = kExportHoleBytesMax;
};

oci::TarEntry entry_of(const struct stat& info, const std::string& path);
Result<std::map<std::string, std::string>> xattrs_of(int fd);
bool is_gone(const Error& error);

}  // namespace

Status export_tree(const Context& ctx, const Fd& root, int out, const ExportOptions& options) {
  Exporter exporter(ctx, out, options);
  TRY_VOID(exporter.write_below(root.get(), "", 0));
  return exporter.finish();
}

namespace {

Status Exporter::write_below(int folder, const std::string& path, std::size_t depth) {
  if (depth >= kExportDepthMax) {
    return Error::invalid_argument(str("/", path, " lies ", kExportDepthMax, " folders deep, and that is the limit"));
  }
  TRY(const auto names, base::list_dir(folder, "/" + path, names_left_));
  names_left_ -= names.size();
  for (const std::string& name : names) TRY_VOID(write_entry(folder, name, path + name, depth));
  names_left_ += names.size();
  return {};
}

Status Exporter::write_entry(int folder, const std::string& name, const std::string& path, std::size_t depth) {
  TRY_VOID(ctx_.check());
  struct stat info {};
  if (::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? Status() : Error::from_errno(errno, "/" + path);  // it was removed just now
  }
  oci::TarEntry entry = entry_of(info, path);
  switch (info.st_mode & S_IFMT) {
    case S_IFDIR:
      return write_folder(folder, name, std::move(entry), depth);
    case S_IFREG:
      return write_file(folder, name, std::move(entry));
    case S_IFLNK: {
      std::array<char, PATH_MAX> target{};
      const ssize_t size = ::readlinkat(folder, name.c_str(), target.data(), target.size());
      if (size < 0) return errno == ENOENT || errno == EINVAL ? Status() : Error::from_errno(errno, "/" + path);
      entry.target.assign(target.data(), static_cast<std::size_t>(size));
      return base::write_all(ctx_, out_, oci::tar_head(entry));
    }
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
      return base::write_all(ctx_, out_, oci::tar_head(entry));
    default:
      if (options_.on_skipped) options_.on_skipped("/" + path);
      return {};
  }
}

Status Exporter::write_folder(int folder, const std::string& name, oci::TarEntry entry, std::size_t depth) {
  const auto inner = base::open_at(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!inner) return is_gone(inner.error()) ? Status() : Status(inner.error());
  entry.path += '/';
  TRY(entry.xattrs, xattrs_of(inner->get()));
  TRY_VOID(base::write_all(ctx_, out_, oci::tar_head(entry)));
  return write_below(inner->get(), entry.path, depth + 1);
}

// What the file is once it is open counts: it may have been replaced since it was looked at.
Status Exporter::write_file(int folder, const std::string& name, oci::TarEntry entry) {
  const auto file = base::open_at(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!file) return is_gone(file.error()) ? Status() : Status(file.error());
  struct stat info {};
  if (::fstat(file->get(), &info) != 0) return Error::from_errno(errno, "/" + entry.path);
  if (!S_ISREG(info.st_mode)) return {};
  entry = entry_of(info, entry.path);
  if (const auto earlier = earlier_name(info, entry.path)) {
    entry.type = oci::TarType::kHardLink;
    entry.target = *earlier;
    return base::write_all(ctx_, out_, oci::tar_head(entry));
  }
  const std::uint64_t on_disk = static_cast<std::uint64_t>(info.st_blocks) * kExportBlockBytes;
  const std::uint64_t holes = entry.size_bytes - std::min(entry.size_bytes, on_disk);
  if (holes > holes_left_bytes_) {
    return Error::resource_exhausted(str("/", entry.path, " is sparse: its ", holes,
                                         " bytes of holes would be written as zeros, and the limit of all files is at ",
                                         kExportHoleBytesMax));
  }
  holes_left_bytes_ -= holes;
  TRY(entry.xattrs, xattrs_of(file->get()));
  TRY_VOID(base::write_all(ctx_, out_, oci::tar_head(entry)));
  return write_content(file->get(), entry.path, entry.size_bytes);
}

Status Exporter::write_content(int file, const std::string& path, std::uint64_t size) {
  static thread_local std::vector<char> piece(kPieceBytes);
  for (std::uint64_t done = 0; done < size;) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), size - done));
    ssize_t got = ::read(file, piece.data(), wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "/" + path);
    if (got == 0) {  // it has become shorter
      std::fill_n(piece.begin(), wanted, '\0');
      got = static_cast<ssize_t>(wanted);
    }
    TRY_VOID(base::write_all(ctx_, out_, {piece.data(), static_cast<std::size_t>(got)}));
    done += static_cast<std::uint64_t>(got);
  }
  return base::write_all(ctx_, out_, oci::tar_padding(size));
}

std::optional<std::string> Exporter::earlier_name(const struct stat& info, const std::string& path) {
  if (info.st_nlink < 2) return std::nullopt;
  const std::pair key(info.st_dev, info.st_ino);
  const auto it = linked_.find(key);
  if (it != linked_.end()) return it->second;
  if (linked_.size() < kLinkedFilesMax) linked_.emplace(key, path);
  return std::nullopt;
}

oci::TarEntry entry_of(const struct stat& info, const std::string& path) {
  oci::TarEntry entry;
  switch (info.st_mode & S_IFMT) {
    case S_IFDIR:
      entry.type = oci::TarType::kFolder;
      break;
    case S_IFLNK:
      entry.type = oci::TarType::kSymlink;
      break;
    case S_IFCHR:
      entry.type = oci::TarType::kCharDevice;
      break;
    case S_IFBLK:
      entry.type = oci::TarType::kBlockDevice;
      break;
    case S_IFIFO:
      entry.type = oci::TarType::kFifo;
      break;
    default:
      entry.size_bytes = static_cast<std::uint64_t>(info.st_size);
  }
  entry.path = path;
  entry.mode = info.st_mode & 07777;
  entry.uid = info.st_uid;
  entry.gid = info.st_gid;
  entry.mtime = info.st_mtim.tv_sec;
  entry.device_major = major(info.st_rdev);
  entry.device_minor = minor(info.st_rdev);
  return entry;
}

Result<std::map<std::string, std::string>> xattrs_of(int fd) {
  std::map<std::string, std::string> found;
  std::string list(kXattrListBytesMax, '\0');
  const ssize_t size = ::flistxattr(fd, list.data(), list.size());
  if (size < 0 && errno != ENOTSUP) return Error::from_errno(errno, "listing the attributes of a file");
  list.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  for (std::size_t at = 0; at < list.size(); at += std::strlen(list.c_str() + at) + 1) {
    const std::string name = list.c_str() + at;
    if (name != "security.capability" && !name.starts_with("user.")) continue;
    std::string value(kXattrListBytesMax, '\0');  // XATTR_SIZE_MAX is the same
    const ssize_t length = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
    if (length < 0 && errno == ENODATA) continue;  // it was removed just now
    if (length < 0) return Error::from_errno(errno, name);
    value.resize(static_cast<std::size_t>(length));
    found.emplace(name, std::move(value));
  }
  return found;
}

// Removed, or replaced by something else.
bool is_gone(const Error& error) {
  return error.sys_errno == ENOENT || error.sys_errno == ENOTDIR || error.sys_errno == ELOOP ||
         error.sys_errno == ENXIO;
}

}  // namespace
}  // namespace cli
