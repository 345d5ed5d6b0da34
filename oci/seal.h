// What an unpacked layer looked like when it was stored, to tell later whether it still does.
//
// A seal covers the path, type, permissions, owner, size, time, number of links, device and link target of everything
// in the layer. It does not cover the content of files, nor their extended attributes: to read and hash all of that
// again when unpacking would cost more than it finds. So it finds what lost writes and manual changes leave (files that
// are empty, short, missing or added), but not a flipped bit on the disk.
//
// disk   seals/<hex of the chain id>   {"entries":12,"bytes":345,"tree":"sha256:…"}; gets its name after the layer has,
//                                      so a crash in between leaves a layer without one
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/context.h"
#include "base/result.h"
#include "oci/digest.h"

namespace oci {

constexpr std::size_t kSealFileBytesMax = 4096;
constexpr int kSealDepthMax = 256;  ///< directories in directories; unpacking allows one less

struct Seal {
  std::uint64_t entries = 0;  ///< without the root
  std::uint64_t bytes = 0;    ///< of regular files, by their length
  Digest tree;                ///< of all that the comment above names
  bool operator==(const Seal&) const = default;
};

/// Of the layer in `layer_dir`, without following a symlink or leaving the file system.
///   blocks  disk: one stat for each entry
///   errors  errno codes · kInvalidArgument deeper than kSealDepthMax
base::Result<Seal> seal_layer(const base::Context& ctx, const std::string& layer_dir);

std::string encode(const Seal& seal);
/// kInvalidArgument for what encode() does not write (after a power cut: an empty file).
base::Result<Seal> decode_seal(std::string_view text);

}  // namespace oci
