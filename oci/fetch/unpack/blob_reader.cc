#include "oci/fetch/unpack/blob_reader.h"

#include <unistd.h>

#include <algorithm>

namespace oci::fetch {

base::Result<std::size_t> BlobReader::read(const base::Context& ctx, std::span<char> out) {
  const std::uint64_t left = bytes_ - taken_;
  out = out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), left)));
  for (bool grows = true; !out.empty();) {
    const ssize_t size = ::pread(file_.get(), out.data(), out.size(), static_cast<off_t>(taken_));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return base::Error::from_errno(errno, "reading the blob");
    if (size > 0) {
      taken_ += static_cast<std::uint64_t>(size);
      return static_cast<std::size_t>(size);
    }
    if (!grows) return base::Error::cancelled("the download ended early");
    char news[64];  // as many as have come, to wait for the next one then
    TRY(const std::size_t count, base::read_some(ctx, growth_.get(), news));
    grows = count > 0;
  }
  return std::size_t{0};
}

}  // namespace oci::fetch
