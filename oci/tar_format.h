// Entries of a tar as `export` and `save` write them: POSIX ustar, and pax records for what has no room in it.
// spec: POSIX pax "ustar Interchange Format", "pax Extended Header"; SCHILY.xattr of star
// threads  pure
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

namespace oci {

enum class TarType : char {
  kFile = '0',
  kHardLink = '1',
  kSymlink = '2',
  kCharDevice = '3',
  kBlockDevice = '4',
  kFolder = '5',
  kFifo = '6'
};

struct TarEntry {
  TarType type = TarType::kFile;
  std::string path;    ///< "etc/hosts", of a folder "etc/"
  std::string target;  ///< of links
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t size_bytes = 0;  ///< of a file: what follows
  std::int64_t mtime = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::map<std::string, std::string> xattrs;
};

/// All that stands before an entry's content; a multiple of 512 bytes.
std::string tar_head(const TarEntry& entry);
/// What fills the last block of so much content.
std::string tar_padding(std::uint64_t size_bytes);
/// What stands behind the last entry.
std::string tar_end();

}  // namespace oci
