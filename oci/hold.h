// What a pull needs of the store while index.json does not say so yet: its blobs, and layers that other images brought.
//
// disk   ingest/hold-<pid>-<n>   a line for who holds, then one for each path in the store ("layers/<hex>"); locked
//                                (flock) by its pull. Without a lock it is of a pull that is gone, and holds nothing
//
// A pull adds to its hold, and only then looks what is there; adding waits for a collection that is under way, and the
// next one reads the hold. So nothing disappears between that look and the image's entry, however long the pull takes.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/digest.h"
#include "oci/store.h"

namespace oci {

constexpr std::string_view kHoldPrefix = "hold-";    ///< of names in ingest/
constexpr std::size_t kHoldFileBytesMax = 1u << 20;  ///< an image of 128 layers needs 20 KiB, the largest archive 800

/// threads: one
class Hold {
 public:
  ///   in   who   for people: "a pull of docker.io/library/redis:7"
  ///   errors  kResourceExhausted disk full · errno codes
  static base::Result<std::unique_ptr<Hold>> create(const base::Context& ctx, const Store& store, std::string_view who);
  ~Hold();  ///< removes it
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  /// From when it returns until the hold is gone, what is there of these stays.
  ///   blocks  while a collection moves things away, until ctx ends
  base::Status add_blobs(const base::Context& ctx, const std::vector<Digest>& digests);
  base::Status add_layers(const base::Context& ctx, const std::vector<Digest>& chain_ids);

 private:
  Hold(const Store& store, std::string path, base::Fd file)
      : store_(store), path_(std::move(path)), file_(std::move(file)) {}
  base::Status add(const base::Context& ctx, const std::string& lines);
  const Store& store_;
  const std::string path_;
  const base::Fd file_;
};

/// One that is locked now.
struct HeldPaths {
  std::string who;
  std::set<std::string> paths;  ///< absolute, as Store::blob_path and layer_path give them
};
/// Of all pulls that live. What cannot be read holds nothing. Call it with the exclusive lease, or it may be old at
/// once.
std::vector<HeldPaths> read_holds(const Store& store);

}  // namespace oci
