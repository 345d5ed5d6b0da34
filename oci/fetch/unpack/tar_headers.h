// A tar stream on its way to libarchive, with the headers made to say what every reader of images takes them to mean.
// libarchive believes what the header of an entry without a body says of its size, in some formats and by some of the
// fields that can say it, and passes over that much: the next entries are lost, and nobody hears of it.
//
//   links, devices, folders, FIFOs   have no body: a size in the header, or in pax records, becomes 0
//   old GNU sparse maps              count for type S alone
//   one block of zeros, then headers damaged: other readers refuse that as well, libarchive takes it for the end
//   a file whose name ends in "/"    loses that, and stays a file; of the type that tars had before there was one for
//                                    folders it is a folder
//
// Nothing is added, left out or moved: positions in the stream are what they were, and what is not understood passes.
// spec: POSIX pax "ustar Interchange Format", "pax Extended Header"; GNU tar manual "Basic Tar Format"
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace oci::fetch {

/// The next piece of the uncompressed stream, valid until the next call; empty = end.
using ReadTar = std::function<base::Result<std::string_view>()>;

constexpr std::uint64_t kTarExtensionBytesMax = 1u << 20;   ///< pax records of an entry, or a long name; libarchive's
constexpr std::uint64_t kTarExtensionsBytesMax = 4u << 20;  ///< all that stands before the header of one entry

/// threads: one at a time
class TarHeaders {
 public:
  /// `read` outlives this object.
  explicit TarHeaders(const ReadTar& read) : read_(read) {}
  TarHeaders(const TarHeaders&) = delete;
  TarHeaders& operator=(const TarHeaders&) = delete;

  /// The next piece, valid until the next call; empty at the end of the stream.
  ///   errors  kDataLoss headers behind a block of zeros, a negative size · kInvalidArgument past
  ///   kTarExtensionsBytesMax ·
  ///           those of `read`
  base::Result<std::string_view> next();

 private:
  enum class Expect { kHeader, kExtension, kSparseMap, kSecondZeros };
  struct Extensions {
    std::size_t pax_at = 0;  // where in held_ the last pax records begin, and how many bytes they have
    std::size_t pax_bytes = 0;
    std::size_t name_at = 0;  // the same of a GNU "L" header's name
    std::size_t name_bytes = 0;
  };

  bool gather();
  base::Result<bool> take_block();
  base::Result<bool> take_header();
  base::Result<bool> take_entry(std::string_view header);
  void take_extension();
  std::string_view pass(std::size_t size);
  std::string_view release();

  const ReadTar& read_;
  std::string_view piece_;       // of the source, not yet passed on
  std::uint64_t body_left_ = 0;  // of an entry, with its padding: passed on as it is
  bool at_end_ = false;          // or not understood: all that follows is passed on

  std::string held_;  // the headers of one entry, until it is known what they should say
  bool released_ = false;
  Expect expect_ = Expect::kHeader;
  std::size_t block_at_ = 0;  // where in held_ begins what is expected, and its size
  std::size_t block_bytes_ = 512;
  char extension_type_ = 0;
  std::uint64_t extension_bytes_ = 0;
  Extensions extensions_;
};

}  // namespace oci::fetch
