// The bytes of a blob while another process still downloads them: the end of Blob (blob.h) that the unpack stage holds.
#pragma once

#include <cstdint>
#include <span>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace oci::fetch {

/// threads: one at a time
class BlobReader {
 public:
  /// `file` has some of the blob's `bytes` now, and gets the others appended. `growth` is a pipe: a byte in it means
  /// that there are more, its end that there will be no more.
  BlobReader(base::Fd file, base::Fd growth, std::uint64_t bytes)
      : file_(std::move(file)), growth_(std::move(growth)), bytes_(bytes) {}

  /// The next bytes, at least one; 0 = the end of the blob.
  ///   errors  kCancelled the download has ended before that
  base::Result<std::size_t> read(const base::Context& ctx, std::span<char> out);
  std::uint64_t taken() const { return taken_; }

 private:
  base::Fd file_;
  base::Fd growth_;
  const std::uint64_t bytes_;
  std::uint64_t taken_ = 0;
};

}  // namespace oci::fetch
