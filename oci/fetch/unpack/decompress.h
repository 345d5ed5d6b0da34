// A compressed layer in, its tar stream out. What the bytes are is told by the bytes, not by their label.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace oci::fetch {

/// The compressed bytes, in order. 0 = end.
using ReadBytes = std::function<base::Result<std::size_t>(std::span<char> out)>;

constexpr int kZstdWindowLogMax = 27;  ///< 128 MiB: more is not a layer but an attack on memory

class Decompressor {
 public:
  virtual ~Decompressor() = default;
  /// The next piece of the uncompressed stream, valid until the next call; empty at its end.
  ///   errors  kDataLoss corrupt, cut off, or followed by garbage · those of the source
  virtual base::Result<std::string_view> next() = 0;
};

/// Looks at the first bytes: gzip (all members), zstd (all frames, skippable ones skipped, windows up to 128 MiB), or
/// plain tar. Anything else is kDataLoss, saying what was found. `what` names the layer.
base::Result<std::unique_ptr<Decompressor>> open_decompressor(ReadBytes source, std::string what);

/// A small download that fills the disk is an attack: gzip cannot do better than 1030:1, layers of programs are at
/// 10:1.
constexpr std::uint64_t kExpansionMax = 1000;
constexpr std::uint64_t kExpansionFreeBytes = 64u << 20;  ///< small layers may

class ExpansionLimit {
 public:
  /// `made` more bytes came out, `taken` in all went in.
  ///   errors  kInvalidArgument past both of the above
  base::Status add(std::uint64_t made, std::uint64_t taken);

 private:
  std::uint64_t made_ = 0;
};

}  // namespace oci::fetch
