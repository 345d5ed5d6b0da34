#include "oci/fetch/unpack/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "base/file.h"

namespace oci::fetch {

namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kReservedPrefix = ".wh..wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";

/// libarchive's tar reader over our stream.
class TarReader {
 public:
  explicit TarReader(TarHeaders& stream);
  /// nullptr at the end of the archive.
  base::Result<archive_entry*> next();
  struct Piece {
    std::string_view bytes;
    std::uint64_t offset = 0;
  };
  /// The next piece of the present entry's content; nullopt at its end. Holes of a sparse file are left out.
  base::Result<std::optional<Piece>> content();

 private:
  static la_ssize_t on_read(archive*, void* self, const void** buffer);
  base::Error failure();

  TarHeaders& stream_;
  bool opened_ = false;
  std::optional<base::Error> read_failure_;
  std::unique_ptr<archive, decltype(&archive_read_free)> archive_;
};

/// One run of unpack_layer().
class Unpacker {
 public:
  Unpacker(const base::Context& ctx, const ReadTar& read, Rootfs& rootfs, const UnpackLimits& limits)
      : ctx_(ctx),
        read_(read),
        counted_read_([this] { return read_counted(); }),
        headers_(counted_read_),
        reader_(headers_),
        rootfs_(rootfs),
        limits_(limits) {}
  base::Result<LayerTodo> run();

 private:
  base::Result<std::string_view> read_counted();
  base::Status apply(archive_entry* entry);
  base::Status apply_whiteout(const std::vector<std::string>& parent, const std::string& name, NameKind kind);
  base::Status make(archive_entry* entry, const std::vector<std::string>& parent, const std::string& name);
  base::Status make_file(archive_entry* entry, const Rootfs::Dir& dir, const std::string& name,
                         const Attributes& attributes);
  base::Status make_link(archive_entry* entry, const std::vector<std::string>& parent, const std::string& name);
  base::Status write_content(int fd, std::uint64_t size, const std::string& shown);
  base::Status remember(std::size_t bytes);
  base::Status count_claimed(std::int64_t bytes);

  const base::Context& ctx_;
  const ReadTar& read_;
  const ReadTar counted_read_;
  TarHeaders headers_;
  TarReader reader_;
  Rootfs& rootfs_;
  const UnpackLimits& limits_;
  LayerTodo todo_;
  std::uint64_t entries_ = 0;
  std::uint64_t stream_bytes_ = 0;
  std::uint64_t claimed_bytes_ = 0;
  std::size_t remembered_bytes_ = 0;
};

base::Result<Attributes> attributes_of(archive_entry* entry);
base::Error too_large(std::uint64_t bytes_max);

}  // namespace

base::Result<LayerTodo> unpack_layer(const base::Context& ctx, const ReadTar& read, Rootfs& rootfs,
                                     const UnpackLimits& limits) {
  return Unpacker(ctx, read, rootfs, limits).run();
}

base::Status ImageBudget::take(std::uint64_t entries, std::uint64_t bytes) {
  if (entries_.fetch_add(entries) + entries > entries_max_) {
    return base::Error::invalid_argument(base::str("the image has more than ", entries_max_, " entries"));
  }
  if (bytes_.fetch_add(bytes) + bytes > bytes_max_) {
    return base::Error::invalid_argument(base::str("the image unpacks to more than ", bytes_max_ >> 20, " MiB"));
  }
  return {};
}

NameKind name_kind(std::string_view name) {
  if (!name.starts_with(kWhiteoutPrefix)) return NameKind::kPlain;
  if (name == kOpaqueName) return NameKind::kOpaque;
  if (name.starts_with(kReservedPrefix)) return NameKind::kReserved;
  const auto hidden = name.substr(kWhiteoutPrefix.size());
  return hidden.empty() || hidden == "." || hidden == ".." ? NameKind::kInvalid : NameKind::kWhiteout;
}

namespace {

base::Result<LayerTodo> Unpacker::run() {
  for (;;) {
    TRY(archive_entry* const entry, reader_.next());
    if (entry == nullptr) break;
    TRY_VOID(ctx_.check());
    if (++entries_ > limits_.entries_max) {
      return base::Error::invalid_argument(base::str("the layer has more than ", limits_.entries_max, " entries"));
    }
    if (limits_.image != nullptr) TRY_VOID(limits_.image->take(1, 0));
    TRY_VOID(apply(entry));
    TRY_VOID(remember(0));
  }
  // Padding behind the archive is part of the layer, too.
  for (;;) {
    TRY_VOID(ctx_.check());
    TRY(const auto rest, read_counted());
    if (rest.empty()) return std::move(todo_);
  }
}

base::Result<std::string_view> Unpacker::read_counted() {
  TRY(const auto piece, read_());
  stream_bytes_ += piece.size();
  if (stream_bytes_ > limits_.bytes_max) return too_large(limits_.bytes_max);
  if (limits_.image != nullptr) TRY_VOID(limits_.image->take(0, piece.size()));
  return piece;
}

base::Status Unpacker::apply(archive_entry* entry) {
  const char* const path = archive_entry_pathname(entry);
  if (path == nullptr) return base::Error::invalid_argument("an entry of the layer has no usable name");
  TRY(auto components, split_path(path));
  if (components.empty()) {
    // The root itself: it is a directory whatever the archive says, and has the attributes that all roots have.
    if (archive_entry_filetype(entry) == AE_IFDIR && archive_entry_hardlink(entry) == nullptr) return {};
    return base::Error::invalid_argument(base::str("entry \"", path, "\" would replace the root directory"));
  }
  const std::string name = std::move(components.back());
  components.pop_back();
  for (const std::string& component : components) {
    if (component.starts_with(kWhiteoutPrefix)) {
      return base::Error::invalid_argument(base::str("entry \"", path, "\" is below a reserved name"));
    }
  }
  switch (const NameKind kind = name_kind(name)) {
    case NameKind::kPlain:
      return make(entry, components, name);
    case NameKind::kWhiteout:
    case NameKind::kOpaque:
      return apply_whiteout(components, name, kind);
    case NameKind::kReserved:
      return {};  // bookkeeping of another union file system
    case NameKind::kInvalid:
      break;
  }
  return base::Error::invalid_argument(base::str("entry \"", path, "\" is a whiteout of nothing"));
}

// Left for later in any case: a whiteout removes what lower layers have, never what this one adds before or after it.
base::Status Unpacker::apply_whiteout(const std::vector<std::string>& parent, const std::string& name, NameKind kind) {
  const std::string dir = join_path(parent);
  std::string path =
      kind == NameKind::kOpaque ? dir : child_path(dir, std::string_view(name).substr(kWhiteoutPrefix.size()));
  TRY_VOID(remember(path.size() + sizeof(std::string)));
  (kind == NameKind::kOpaque ? todo_.opaque_dirs : todo_.whiteouts).push_back(std::move(path));
  return {};
}

base::Status Unpacker::make(archive_entry* entry, const std::vector<std::string>& parent, const std::string& name) {
  if (archive_entry_hardlink(entry) != nullptr) return make_link(entry, parent, name);
  const auto type = archive_entry_filetype(entry);
  if (type == AE_IFSOCK) return {};  // means nothing without the process that listened
  const bool is_device = type == AE_IFCHR || type == AE_IFBLK;
  const dev_t device = is_device ? archive_entry_rdev(entry) : 0;
  // To overlay this device is a whiteout, whoever made it: an archive says whiteout with a name.
  if (type == AE_IFCHR && device == 0) return {};

  TRY(const auto attributes, attributes_of(entry));
  TRY(const auto dir, rootfs_.open_dir(parent, Rootfs::Missing::kCreate));
  switch (type) {
    case AE_IFREG:
      return make_file(entry, dir, name, attributes);
    case AE_IFDIR:
      return rootfs_.make_dir(dir, name, attributes);
    case AE_IFLNK: {
      const char* target = archive_entry_symlink(entry);
      if (target == nullptr || *target == '\0' || std::string_view(target).size() > kPathBytesMax) {
        return base::Error::invalid_argument(base::str("symlink ", dir.path_of(name), " has no usable target"));
      }
      return rootfs_.make_symlink(dir, name, target, attributes);
    }
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
      return rootfs_.make_node(dir, name, type, device, attributes);
    default:
      return base::Error::invalid_argument(base::str(dir.path_of(name), " is of an unknown type"));
  }
}

base::Status Unpacker::make_file(archive_entry* entry, const Rootfs::Dir& dir, const std::string& name,
                                 const Attributes& attributes) {
  const std::string shown = dir.path_of(name);
  const std::int64_t size = archive_entry_size_is_set(entry) != 0 ? archive_entry_size(entry) : 0;
  TRY_VOID(count_claimed(size));
  TRY(const auto fd, rootfs_.make_file(dir, name));
  TRY_VOID(write_content(fd.get(), static_cast<std::uint64_t>(size), shown));
  return rootfs_.finish_file(fd.get(), shown, attributes);
}

base::Status Unpacker::write_content(int fd, std::uint64_t size, const std::string& shown) {
  std::uint64_t end = 0;
  for (;;) {
    TRY(auto piece, reader_.content());
    if (!piece) break;
    TRY_VOID(ctx_.check());
    if (piece->offset > size || piece->bytes.size() > size - piece->offset) {
      return base::Error::data_loss(base::str(shown, " in the layer has more content than it says"));
    }
    end = std::max(end, piece->offset + piece->bytes.size());
    while (!piece->bytes.empty()) {
      const ssize_t n = ::pwrite(fd, piece->bytes.data(), piece->bytes.size(), static_cast<off_t>(piece->offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return base::Error::from_errno(errno, base::str("unpacking ", shown));
      piece->bytes.remove_prefix(static_cast<std::size_t>(n));
      piece->offset += static_cast<std::uint64_t>(n);
    }
  }
  if (end < size && ::ftruncate(fd, static_cast<off_t>(size)) != 0) {  // a sparse file that ends in a hole
    return base::Error::from_errno(errno, base::str("unpacking ", shown));
  }
  return {};
}

base::Status Unpacker::make_link(archive_entry* entry, const std::vector<std::string>& parent,
                                 const std::string& name) {
  TRY(auto components, split_path(archive_entry_hardlink(entry)));
  TRY(auto attributes, attributes_of(entry));
  std::string path = child_path(join_path(parent), name);
  if (components.empty()) return base::Error::invalid_argument(base::str(path, " is a hard link to the root"));
  const std::string target_path = join_path(components);
  const std::string target_name = std::move(components.back());
  components.pop_back();

  if (const auto target_dir = rootfs_.open_dir(components, Rootfs::Missing::kError)) {
    TRY(const auto held, base::dup_fd(target_dir->fd));
    struct stat info {};
    if (::fstatat(held.get(), target_name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
      TRY(const auto dir, rootfs_.open_dir(parent, Rootfs::Missing::kCreate));
      return rootfs_.make_link(held.get(), target_name, dir, name, attributes);
    }
  }
  // In a lower layer, or nowhere. Whatever this layer had under the link's name is replaced now.
  if (const auto dir = rootfs_.open_dir(parent, Rootfs::Missing::kError)) {
    TRY_VOID(rootfs_.remove(*dir, name));
  }
  std::size_t xattrs_bytes = 0;
  for (const Xattr& xattr : attributes.xattrs) xattrs_bytes += sizeof xattr + xattr.name.size() + xattr.value.size();
  TRY_VOID(remember(path.size() + target_path.size() + sizeof(LayerTodo::Link) + xattrs_bytes));
  todo_.links.push_back({std::move(path), target_path, std::move(attributes)});
  return {};
}

base::Status Unpacker::remember(std::size_t bytes) {
  remembered_bytes_ += bytes;
  if (remembered_bytes_ + rootfs_.remembered_bytes() <= limits_.remembered_bytes_max) return {};
  return base::Error::invalid_argument("the layer has too many directories, whiteouts and links to keep in memory");
}

base::Status Unpacker::count_claimed(std::int64_t bytes) {
  if (bytes < 0 || static_cast<std::uint64_t>(bytes) > limits_.bytes_max - claimed_bytes_) {
    return too_large(limits_.bytes_max);
  }
  claimed_bytes_ += static_cast<std::uint64_t>(bytes);
  return {};
}

base::Error too_large(std::uint64_t bytes_max) {
  return base::Error::invalid_argument(base::str("the layer unpacks to more than ", bytes_max >> 20, " MiB"));
}

// Outside of [1970, 2^34) is what no file system of ours stores: then the epoch.
timespec bounded(std::int64_t seconds, long nanoseconds) {
  constexpr std::int64_t kSecondsMax = std::int64_t{1} << 34;
  if (seconds < 0 || seconds >= kSecondsMax || nanoseconds < 0 || nanoseconds > 999'999'999) return {0, 0};
  return {static_cast<time_t>(seconds), nanoseconds};
}

base::Result<std::uint32_t> id_of(std::int64_t id, std::string_view what) {
  if (id >= 0 && id < 0xffffffff) return static_cast<std::uint32_t>(id);
  return base::Error::invalid_argument(base::str(what, " ", id, " in the layer is out of range"));
}

base::Result<Attributes> attributes_of(archive_entry* entry) {
  Attributes out;
  out.mode = archive_entry_perm(entry) & 07777;
  TRY(out.uid, id_of(archive_entry_uid(entry), "user id"));
  TRY(out.gid, id_of(archive_entry_gid(entry), "group id"));
  out.mtime = bounded(archive_entry_mtime(entry), archive_entry_mtime_nsec(entry));
  out.atime = out.mtime;
  if (archive_entry_atime_is_set(entry) != 0) {
    const timespec atime = bounded(archive_entry_atime(entry), archive_entry_atime_nsec(entry));
    const bool later =
        atime.tv_sec > out.mtime.tv_sec || (atime.tv_sec == out.mtime.tv_sec && atime.tv_nsec > out.mtime.tv_nsec);
    if (later) out.atime = atime;
  }
  std::size_t total = 0;
  archive_entry_xattr_reset(entry);
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    if (name == nullptr || !is_xattr_allowed(name)) continue;
    total += size;
    if (size > kXattrBytesMax || total > kXattrsBytesMax) {
      return base::Error::invalid_argument(base::str("attribute ", name, " in the layer is too large"));
    }
    out.xattrs.push_back({name, std::string(static_cast<const char*>(value), size)});
  }
  return out;
}

TarReader::TarReader(TarHeaders& stream) : stream_(stream), archive_(archive_read_new(), archive_read_free) {
  CHECK(archive_ != nullptr);
  archive* const a = archive_.get();
  CHECK(archive_read_support_format_tar(a) == ARCHIVE_OK);
  CHECK(archive_read_support_format_empty(a) == ARCHIVE_OK);  // a layer of no bytes changes nothing
  // Names are bytes here. libarchive takes a pax name for UTF-8 and converts it to the locale's charset (a way to turn
  // that off, hdrcharset=BINARY, exists for writing only). In "C" that fails for anything but ASCII, and then the bytes
  // are kept as they are; in a UTF-8 locale it would compose what is decomposed: "e" + U+0301 becomes another name.
}

base::Result<archive_entry*> TarReader::next() {
  archive* const a = archive_.get();
  if (!std::exchange(opened_, true) && archive_read_open(a, this, nullptr, on_read, nullptr) != ARCHIVE_OK) {
    return failure();
  }
  archive_entry* entry = nullptr;
  const int rc = archive_read_next_header(a, &entry);
  if (rc == ARCHIVE_EOF) return nullptr;
  if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) return failure();
  return entry;
}

base::Result<std::optional<TarReader::Piece>> TarReader::content() {
  const void* data = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  const int rc = archive_read_data_block(archive_.get(), &data, &size, &offset);
  if (rc == ARCHIVE_EOF) return std::optional<Piece>();
  if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) return failure();
  if (offset < 0) return base::Error::data_loss("the layer has a sparse file with a negative offset");
  return std::optional(
      Piece{std::string_view(static_cast<const char*>(data), size), static_cast<std::uint64_t>(offset)});
}

la_ssize_t TarReader::on_read(archive* a, void* self, const void** buffer) {
  auto& reader = *static_cast<TarReader*>(self);
  auto piece = reader.stream_.next();
  if (!piece) {
    reader.read_failure_ = std::move(piece).error();
    archive_set_error(a, EIO, "source");
    return -1;
  }
  *buffer = piece->data();
  return static_cast<la_ssize_t>(piece->size());
}

base::Error TarReader::failure() {
  if (read_failure_) return std::move(*read_failure_);
  const char* text = archive_error_string(archive_.get());
  return base::Error::data_loss(base::str("the layer is not a readable tar archive: ", text == nullptr ? "?" : text));
}

}  // namespace

}  // namespace oci::fetch
