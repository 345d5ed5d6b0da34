// Fetches, unpacks and settles the layers of one image: the part of a pull that uses several threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/fetch/blob.h"
#include "oci/fetch/rootfs.h"
#include "oci/fetch/source.h"
#include "oci/fetch/staging.h"
#include "oci/fetch/unpack.h"
#include "oci/images.h"
#include "oci/store.h"

namespace oci::fetch {

constexpr unsigned kFetchesMax = 3;  ///< at once from one registry; what other clients do, so registries expect it
constexpr unsigned kUnpacksMax = 8;  ///< at once, if there are as many CPUs
/// gzip cannot do better than 1030:1; a layer of nothing but zeros is an attack on the disk.
constexpr std::uint64_t kExpansionMax = 1000;
constexpr std::uint64_t kExpansionFreeBytes = 100ull << 20;  ///< small layers may

/// Counters that a reporting thread reads while the layers are worked on.
struct LayerCounters {
  std::atomic<std::uint64_t> bytes_done{0};
  std::atomic<int> layers_done{0};
};

/// threads: run() and the rest from one thread
class Layers {
 public:
  /// `descriptors` and `diff_ids` are of equal length, bottom first. All references outlive this object.
  Layers(const Store& store, Source& source, const std::vector<Descriptor>& descriptors,
         const std::vector<Digest>& diff_ids, LayerCounters& counters, Warn warn);
  ~Layers();
  Layers(const Layers&) = delete;
  Layers& operator=(const Layers&) = delete;

  /// Makes every layer visible in the store that is not, or none of them.
  ///   errors  the first that any thread met; with damaged_blob_removed(), another run will do better
  base::Status run(const base::Context& ctx);
  bool damaged_blob_removed() const { return damaged_blob_removed_; }

 private:
  struct Layer;
  void fetch_all(const base::Context& ctx);
  void unpack_all(const base::Context& ctx);
  base::Status fetch(const base::Context& ctx, HttpClient& http, Blob& blob);
  base::Status unpack(const base::Context& ctx, Layer& layer);
  base::Status settle(const base::Context& ctx);
  base::Status commit();
  void fail(base::Error error);
  void remove_what_we_stored();

  const Store& store_;
  Source& source_;
  LayerCounters& counters_;
  std::mutex warn_mutex_;
  const Warn warn_;
  std::vector<std::unique_ptr<Layer>> layers_;  // all, bottom first
  std::vector<std::shared_ptr<Blob>> blobs_;    // to be fetched or read, each digest once
  std::atomic<std::size_t> next_blob_{0};
  std::atomic<std::size_t> next_layer_{0};
  std::stop_source stop_;
  std::mutex error_mutex_;
  std::optional<base::Error> error_;
  std::mutex stored_mutex_;
  std::vector<Digest> stored_;  // blobs that this run has put into the store
  std::atomic<bool> damaged_blob_removed_{false};
};

}  // namespace oci::fetch
