// The results cache, in libcni's place and format, so that its tools and other runtimes can read it.
//
// disk     <dir>/results/<network>-<container id>-<ifname>, one JSON document with kind "cniCacheV1"
// threads  any; writers of one attachment are serialised by its lock
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cni/attachment.h"

namespace cni {

inline constexpr char kDefaultCacheDir[] = "/var/lib/cni";

struct CachedResult {
  std::string network;
  Attachment attachment;
  std::string list_text;
  std::string result_text;
};

class Cache {
 public:
  explicit Cache(std::string dir) : dir_(std::move(dir)) {}
  const std::string& dir() const { return dir_; }

  /// Replaces the file as a whole.
  base::Status write(const CachedResult& entry) const;
  /// nullopt: there is none.
  ///   errors  kDataLoss it is there and not a document of ours · by errno: it could not be read
  base::Result<std::optional<CachedResult>> read(const std::string& network, const Attachment& attachment) const;
  /// Absent = OK.
  base::Status remove(const std::string& network, const Attachment& attachment) const;
  /// Those of one network; what cannot be read is left out.
  ///   errors  by errno: the folder cannot be listed. Missing: there are none
  base::Result<std::vector<CachedResult>> of_network(const std::string& network) const;

 private:
  std::string path_of(const std::string& network, const Attachment& attachment) const;
  std::string dir_;
};

}  // namespace cni
