#include "cni/lock.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>

#include "base/file.h"

namespace cni {

namespace {

using base::Error;
using base::Result;
using base::str;

constexpr std::chrono::milliseconds kAgainAfter{10};

off_t byte_of(std::string_view name);

}  // namespace

Result<base::Fd> lock_name(const base::Context& ctx, const std::string& path, std::string_view name, Share share) {
  TRY_VOID(base::make_dirs(std::filesystem::path(path).parent_path(), 0700));
  TRY(base::Fd file, base::open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  struct flock range {};
  range.l_type = share == Share::kExclusive ? F_WRLCK : F_RDLCK;
  range.l_whence = SEEK_SET;
  range.l_start = byte_of(name);
  range.l_len = 1;
  while (::fcntl(file.get(), F_OFD_SETLK, &range) != 0) {
    if (errno != EAGAIN && errno != EACCES && errno != EINTR) return Error::from_errno(errno, str("locking ", path));
    auto waited = ctx.sleep(kAgainAfter);
    if (!waited) return std::move(waited).error().wrap(str("waiting for whoever else works on ", name));
  }
  return file;
}

namespace {

// FNV-1a, without its highest bits: an offset in a file is positive.
off_t byte_of(std::string_view name) {
  constexpr std::uint64_t kBasis = 14695981039346656037ULL;
  constexpr std::uint64_t kPrime = 1099511628211ULL;
  std::uint64_t hash = kBasis;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * kPrime;
  return static_cast<off_t>(hash >> 2);
}

}  // namespace
}  // namespace cni
