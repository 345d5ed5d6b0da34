// What a running pull needs before index.json says so: its blobs, and layers that came with other images.
//
// disk   ingest/hold-<pid>-<n>   a line that names the holder, then one for each path in the store ("layers/<hex>");
//                                locked (flock) by its pull. Without a lock its pull is gone, and it holds nothing
//
// A pull adds to its hold, and only then checks what is there; adding waits for a running collection, and the next one
// reads the hold. So nothing disappears between that check and the image's entry, however long the pull takes.
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
  ///   in   who   for messages: "a pull of docker.io/library/redis:7"
  ///   errors  kResourceExhausted disk full · errno codes
  static base::Result<std::unique_ptr<Hold>> create(const base::Context& ctx, const Store& store, std::string_view who);
  ~Hold();  ///< removes it
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  /// From its return until the hold is gone, those of these that are in the store stay.
  ///   blocks  while a collection moves things away, until ctx ends
  ///   errors  kResourceExhausted more than kHoldFileBytesMax, or disk full · kDeadlineExceeded · errno codes
  base::Status add_blobs(const base::Context& ctx, const std::vector<Digest>& digests);
  base::Status add_layers(const base::Context& ctx, const std::vector<Digest>& chain_ids);

 private:
  Hold(const Store& store, std::string path, base::Fd file)
      : store_(store), path_(std::move(path)), file_(std::move(file)) {}
  base::Status add(const base::Context& ctx, const std::string& lines);
  base::Status append(const base::Context& ctx, const std::string& lines);
  const Store& store_;
  const std::string path_;
  const base::Fd file_;
  std::size_t bytes_ = 0;
};

/// A running pull, and what it needs.
struct Holder {
  std::string who;
  std::set<std::string> paths;  ///< absolute, as Store::blob_path and layer_path give them
};
struct HeldPaths {
  std::vector<Holder> holders;
  /// A sentence for each hold that is locked, or may be, and cannot be read: its pull might need anything.
  std::vector<std::string> unreadable;
};
/// Of all running pulls. Call it with the exclusive lease, or the answer may be out of date at once.
HeldPaths read_holds(const Store& store);

}  // namespace oci
