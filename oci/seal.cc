#include "oci/seal.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"

namespace oci {

namespace {

using base::Error;
using base::Result;
using base::Status;
using base::str;

/// One run of seal_layer().
class Sealer {
 public:
  explicit Sealer(const base::Context& ctx) : ctx_(ctx) {}
  Result<Seal> run(const std::string& layer_dir);

 private:
  Status add_contents(base::Fd dir, const std::string& path, int depth);
  Status add_entry(int dir, const std::string& name, const std::string& path, int depth);

  const base::Context& ctx_;
  dev_t device_ = 0;
  Hasher hasher_;
  std::uint64_t entries_ = 0;
  std::uint64_t bytes_ = 0;
};

Result<std::string> link_target(int dir, const std::string& name);

}  // namespace

Result<Seal> seal_layer(const base::Context& ctx, const std::string& layer_dir) {
  return Sealer(ctx).run(layer_dir);
}

std::string encode(const Seal& seal) {
  return base::dump_json({{"entries", seal.entries}, {"bytes", seal.bytes}, {"tree", seal.tree.text()}});
}

Result<Seal> decode_seal(std::string_view text) {
  base::JsonLimits limits;
  limits.bytes_max = kSealFileBytesMax;
  TRY(const base::Json document, base::parse_json(text, "seal", limits));
  TRY(const auto entries, base::get_int(document, "entries"));
  TRY(const auto bytes, base::get_int(document, "bytes"));
  TRY(const auto tree, base::get_string(document, "tree"));
  if (!entries || !bytes || !tree || *entries < 0 || *bytes < 0) return Error::invalid_argument("not a seal");
  TRY(auto digest, Digest::parse(*tree));
  return Seal{static_cast<std::uint64_t>(*entries), static_cast<std::uint64_t>(*bytes), std::move(digest)};
}

namespace {

// Of the root only what an image can set: if no entry names it, its time is that of the unpacking.
Result<Seal> Sealer::run(const std::string& layer_dir) {
  TRY(auto root, base::open_file(layer_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat info {};
  if (::fstat(root.get(), &info) != 0) return Error::from_errno(errno, layer_dir);
  device_ = info.st_dev;
  hasher_.update(str(info.st_mode, " ", info.st_uid, " ", info.st_gid, "\n"));
  auto added = add_contents(std::move(root), "", 0);
  if (!added) return std::move(added).error().wrap(str("reading layer ", layer_dir));
  return Seal{entries_, bytes_, hasher_.finish()};
}

Status Sealer::add_contents(base::Fd dir, const std::string& path, int depth) {
  if (depth > kSealDepthMax) return Error::invalid_argument(str(path, " is nested more than ", kSealDepthMax, " deep"));
  TRY_VOID(ctx_.check());
  TRY(const auto names, base::list_dir(dir.get(), str("layer folder ", path.empty() ? "/" : path)));
  for (const std::string& name : names) TRY_VOID(add_entry(dir.get(), name, str(path, "/", name), depth));
  return {};
}

// Names have no NUL, so no two trees give the same bytes.
Status Sealer::add_entry(int dir, const std::string& name, const std::string& path, int depth) {
  struct stat info {};
  if (::fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return Error::from_errno(errno, path);
  const bool is_dir = S_ISDIR(info.st_mode);
  const bool is_file = S_ISREG(info.st_mode);
  std::string line = path;
  line += '\0';
  line += str(info.st_mode, " ", info.st_uid, " ", info.st_gid, " ", is_file ? info.st_size : 0, " ",
              info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec, " ", is_dir ? 0 : info.st_nlink, " ", major(info.st_rdev),
              ":", minor(info.st_rdev), "\n");
  if (S_ISLNK(info.st_mode)) {
    TRY(const std::string target, link_target(dir, name));
    line += target;
    line += '\0';
  }
  hasher_.update(line);
  ++entries_;
  if (is_file) bytes_ += static_cast<std::uint64_t>(info.st_size);
  if (!is_dir || info.st_dev != device_) return {};
  TRY(auto child, base::open_at(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return add_contents(std::move(child), path, depth + 1);
}

Result<std::string> link_target(int dir, const std::string& name) {
  std::string target(PATH_MAX, '\0');
  const ssize_t size = ::readlinkat(dir, name.c_str(), target.data(), target.size());
  if (size < 0) return Error::from_errno(errno, name);
  target.resize(static_cast<std::size_t>(size));
  return target;
}

}  // namespace

}  // namespace oci
