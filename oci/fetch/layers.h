// Fetches the layers of one image and has them unpacked behind the download: the part of a pull that is worked on in
// several threads and in a second process (unpacker.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/fetch/registry/blob.h"
#include "oci/fetch/registry/source.h"
#include "oci/fetch/staging.h"
#include "oci/fetch/unpacker.h"
#include "oci/images.h"
#include "oci/store.h"

namespace oci::fetch {

constexpr unsigned kFetchesMax = 3;  ///< at once from one registry; what other clients do, so registries expect it

/// What a reporting thread reads of a layer while it is worked on.
struct LayerCounter {
  std::atomic<std::uint64_t> bytes_done{0};  ///< downloaded; more than there are if some came twice
  std::atomic<bool> begun{false};
  std::atomic<bool> unpacked{false};
};

/// What unpacking needs besides layers; made in main, before anything comes from outside.
struct UnpackSite {
  UnpackStarter& starter;
  /// The store's folder on a read-only mount: what is opened there for the unpack stage, that cannot write to.
  const base::Fd& store_view;
};

/// threads: run() and the rest from one thread
class Layers {
 public:
  /// `descriptors`, `diff_ids` and `counters` are of equal length, bottom first. All references outlive this object.
  /// `warn` may be called from the thread that runs run().
  Layers(const Store& store, Source& source, const UnpackSite& site, const std::vector<Descriptor>& descriptors,
         const std::vector<Digest>& diff_ids, std::vector<LayerCounter>& counters,
         std::function<void(const std::string&)> warn);
  ~Layers();
  Layers(const Layers&) = delete;
  Layers& operator=(const Layers&) = delete;

  /// Makes every layer visible in the store that is not, or none of them.
  ///   errors  the first that any thread met; with worth_another_run(), another run may do better
  base::Status run(const base::Context& ctx);
  bool worth_another_run() const { return worth_another_run_; }

 private:
  struct Layer;
  base::Status work(const base::Context& ctx);
  base::Status start_unpacker(const base::Context& ctx);
  base::Status fetch_and_unpack(const base::Context& outer);
  void fetch_all(const base::Context& ctx);
  base::Status fetch(const base::Context& ctx, HttpClient& http, Blob& blob);
  LayerCounter& counter_of(const Blob& blob);
  base::Status hand_over(const base::Context& ctx, Blob& blob);
  base::Status follow(const base::Context& ctx);
  base::Status check(const LayerUnpacked& unpacked);
  base::Status judge(UnpackFailed failed);
  base::Error explain(UnpackFailed failed);
  base::Status store(Blob& blob);
  base::Status settle(const base::Context& ctx);
  base::Status seal(const base::Context& ctx);
  base::Status commit();
  void fail(base::Error error);
  void remove_what_we_stored();

  const Store& store_;
  Source& source_;
  const UnpackSite& site_;
  std::vector<LayerCounter>& counters_;
  const std::function<void(const std::string&)> warn_;
  std::vector<Layer> layers_;                 // all, bottom first
  std::vector<std::shared_ptr<Blob>> blobs_;  // to be fetched or read, each digest once
  std::unique_ptr<Staging> staging_;          // outlives the unpacker, which works in it
  std::unique_ptr<Unpacker> unpacker_;
  std::atomic<std::size_t> next_blob_{0};
  std::stop_source stop_;
  std::mutex error_mutex_;
  std::optional<base::Error> error_;  // guarded by error_mutex_, as are arriving_ and unreadable_
  std::mutex stored_mutex_;
  std::vector<Digest> stored_;      // blobs that this run has put into the store
  std::set<const Blob*> arriving_;  // of several origins: whose fault it is if they are wrong shows at their end
  std::map<const Blob*, UnpackFailed> unreadable_;  // of these, what cannot be unpacked
  std::atomic<bool> worth_another_run_{false};
  std::atomic<bool> refused_{false};  // for what a layer holds
};

}  // namespace oci::fetch
