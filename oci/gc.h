// Removes images that nobody needs any more. What is needed follows from what lies on disk (index.json, the records of
// tasks, pins), never from memory, so that a restart forgets nothing.
//
// A run   1 measures, 2 takes the store's lease lock alone, 3 reads index.json and asks what tasks and pulls (hold.h)
//         need, 4 plans, 5 takes entries out of index.json and moves layers to trash/, 6 gives the lock back and
//         empties the trash.
//         A start holds the lock shared from finding its image until its record names the layers (Store::lease).
// doubt   What cannot be read is in use. A user of images (a task, a pull) whose needs are not known, or an image whose
//         documents cannot be read, might need any layer: then no content is removed at all, and the report says why.
// errors  One thing that cannot be removed does not stop the rest: GcReport::problems has all of them.
// crash   after any instruction: content without an entry is garbage for the next run, entries without content are
//         pulled again, trash is emptied by the next run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/store.h"

namespace oci {

using GcTime = std::chrono::system_clock::time_point;

struct GcPolicy {
  std::uint64_t store_bytes_max = 0;      ///< size limit of the store, 0 = none
  int high_percent = 85;                  ///< when more of the file system's bytes or inodes are in use, images go …
  int low_percent = 80;                   ///< … until no more than this is
  std::chrono::seconds unused_max{0};     ///< images that were unused for longer go, 0 = never
  std::chrono::seconds keep_at_least{0};  ///< images that were used within this time stay
  std::vector<std::string> pins;          ///< patterns of references that stay; '*' stands for any text
};

/// What must stay whatever the policy says, and for whom ("container web-…").
struct GcUse {
  std::set<std::string> paths;  ///< absolute, of layers or blobs; they stay even when their image goes
  std::string manifest_digest;  ///< "sha256:…" of an image that stays; "" = none in particular
  std::string user;
};

/// All uses there are, as far as they can be known.
struct GcUses {
  std::vector<GcUse> known;
  /// A sentence for each user whose needs could not be read: "the record of container web-1 cannot be read: …: Too many
  /// open files". A folder without a record yet is not one: its start holds the lease. As long as there is one, nothing
  /// is removed that it might need: no entry of index.json, no blob, no layer.
  std::vector<std::string> unknown;
};
/// Says what tasks use now. Called with the exclusive lease, so while no start is between its image and its record.
using ListUses = std::function<GcUses()>;

struct GcRequest {
  GcPolicy policy;
  std::uint64_t room_bytes = 0;  ///< free space to provide, on the file system and below the store's limit
  bool all = false;              ///< remove everything that is neither in use nor pinned
  bool dry_run = false;
  std::set<std::string> references;  ///< if not empty: remove these images and nothing else
};

struct GcDecision {
  std::string reference;
  std::string manifest_digest;
  std::uint64_t bytes = 0;  ///< what its removal frees or would free
  bool removed = false;
  std::string reason;
};

struct GcReport {
  std::vector<GcDecision> images;  ///< least recently used first
  std::uint64_t garbage_items = 0;
  std::uint64_t garbage_bytes = 0;
  std::uint64_t freed_bytes = 0;  ///< by images and garbage
  std::uint64_t store_bytes = 0;  ///< size of the store afterwards
  /// What could not be removed or not be looked at, and why nothing was removed, a sentence each. All else was done.
  std::vector<std::string> problems;
};

// ---- the pure part ----------------------------------------------------------------------------------------------

/// A blob or an unpacked layer.
struct GcItem {
  std::uint64_t bytes = 0;
  std::uint64_t inodes = 0;
  GcTime changed;
  bool operator==(const GcItem&) const = default;
};

struct GcImage {
  std::string reference;
  std::string manifest_digest;
  GcTime used;                  ///< for the last time
  std::set<std::string> items;  ///< paths; several images may share one
  std::string unreadable = {};  ///< why the items are not all known; "" = they are
  bool pinned = false;          ///< by `pin`
};

struct GcDisk {
  std::uint64_t bytes_total = 0;
  std::uint64_t bytes_free = 0;
  std::uint64_t inodes_total = 0;  ///< 0 where the file system has no fixed number
  std::uint64_t inodes_free = 0;
};

struct GcInventory {
  std::vector<GcImage> images;
  std::map<std::string, GcItem> items;  ///< by path: everything in the store
  GcUses uses;
  GcDisk disk;
  GcTime now;
};

struct GcPlan {
  std::vector<std::string> references;  ///< entries to remove from index.json
  std::vector<std::string> items;       ///< paths to remove that only those images need
  std::vector<std::string> garbage;     ///< paths to remove that nothing leads to
  GcReport report;
};

GcPlan plan_gc(const GcInventory& inventory, const GcRequest& request);
/// '*' stands for any text.
bool matches_pin(std::string_view pin, std::string_view reference);

/// Of a file, or of a directory with all that is below it on the same file system; links are not followed. What
/// somebody else removes meanwhile is passed over.
///   errors  kNotFound there is no `path` · kResourceExhausted it is more than 500 folders deep · by errno
base::Result<GcItem> measure_tree(const std::string& path);
/// Of the file system that `path` is on.
base::Result<GcDisk> measure_disk(const std::string& path);

// ---- the effect --------------------------------------------------------------------------------------------------

/// What must stay now: what `of_tasks` says, and what pulls hold (hold.h). With the exclusive lease.
GcUses uses_now(const Store& store, const ListUses& of_tasks);

/// threads  any; run() of several processes and threads wait for each other
class Collector {
 public:
  Collector(Store& store, ListUses uses) : store_(store), uses_(std::move(uses)) {}

  ///   blocks  disk: sizes of unpacked layers are measured once per object
  ///   errors  kDeadlineExceeded starts or another run hold the lock · errno codes: index.json or a folder of the store
  ///           cannot be read, nothing was removed · everything else is among the report's problems
  base::Result<GcReport> run(const base::Context& ctx, const GcRequest& request);

 private:
  struct Measured {
    std::map<std::string, GcItem> items;
    std::vector<std::string> problems;
  };
  using Paths = std::vector<std::string>;
  base::Result<Measured> measure_items(const base::Context& ctx);
  base::Result<GcItem> measure_layer(const std::string& path);
  base::Result<Paths> content_of(const ImageRecord& record);
  base::Result<GcInventory> take_inventory(std::map<std::string, GcItem> items);
  base::Result<GcImage> image_of(const ImageRecord& record);
  base::Status remove_entries(const base::Context& ctx, const Paths& references, GcReport& report);
  void discard(const Paths& paths, const GcInventory& inventory, GcReport& report);
  void empty_trash(GcReport& report);
  void forget_all_but(const GcInventory& inventory);

  Store& store_;
  const ListUses uses_;
  base::Guarded<std::map<std::string, GcItem>> measured_;  ///< layers by path: they never change
  base::Guarded<std::map<Digest, Paths>> contents_;        ///< of images by manifest: nor do they
};

}  // namespace oci
