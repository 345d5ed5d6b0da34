// Checks the store against its own digests and seals, and removes what is damaged, so that the next pull fetches it
// again.
//
// checked  index.json       is valid; what its entries lead to is there (manifest, config, unpacked layers)
//          blobs/sha256/    each has the digest that it is named by: every byte is read
//          layers/          each matches its seal (seal.h says what that finds, and what it does not); without a seal
//                           only that it is a directory
//          ingest/, trash/  what processes that are gone have left behind
// doubt    what cannot be read now (no descriptors, a broken disk) may be whole: it is a finding, and stays
// locks    none while it reads; the store's lease, alone, while it removes
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/gc.h"
#include "oci/store.h"

namespace oci {

struct FsckRequest {
  bool repair = false;
  /// Only blobs and layers that were stored before `before`, and not earlier than `window` before the last of these:
  /// what was written in the minutes before the machine went down. Absent: everything.
  struct Recent {
    GcTime before;
    std::chrono::seconds window{0};
  };
  std::optional<Recent> recent;
};

struct FsckFinding {
  std::string path;              ///< in the store: "blobs/sha256/…"
  std::string problem;           ///< "has digest sha256:…"
  std::set<std::string> images;  ///< references of the images that need it
  bool breaks_images = false;    ///< they cannot start without it; false: a compressed layer, of no use once unpacked
  bool unreadable = false;       ///< it could not be looked at: perhaps nothing is wrong with it, and it stays
  /// Also for what was missing: the entries of the images that it breaks go with it, so the next use pulls them.
  bool removed = false;
  std::string stays;  ///< why it was not removed although repair was requested; "" otherwise
};

struct FsckReport {
  std::vector<FsckFinding> findings;
  std::uint64_t images = 0;
  std::uint64_t blobs = 0;
  std::uint64_t blob_bytes = 0;
  std::uint64_t layers = 0;
  std::uint64_t layers_without_seal = 0;  ///< of these, those that could not be checked
  /// What else could not be done of a repair, a sentence each.
  std::vector<std::string> problems;
  /// Whether nothing is wrong any more.
  bool clean() const;
};

///   in      uses   what tasks run on; a layer that is in use, or may be, is never removed
///   blocks  disk: reads all blobs
///   errors  kNotFound there is no store · kDeadlineExceeded starts or a collection hold the lock · errno codes: a
///           folder of the store, or index.json, cannot be read; nothing was removed
base::Result<FsckReport> check_store(const base::Context& ctx, Store& store, const FsckRequest& request,
                                     const ListUses& uses);

}  // namespace oci
