// Compares the store with what it says of itself, and takes out what is damaged, so that the next pull brings it anew.
//
// checked  index.json       can be read; what its entries lead to is there (manifest, config, unpacked layers)
//          blobs/sha256/    each has the digest that it is called by: every byte is read
//          layers/          each looks as its seal says (seal.h says what that finds, and what it does not); without a
//                           seal there is only that it is a directory
//          ingest/, trash/  what is left of processes that are gone
// doubt    what cannot be read now (no descriptors, a broken disk) may be whole: it is a finding, and stays
// locks    none while it reads; the store's lease lock, alone, while it takes things out
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
  /// Only blobs and layers that came within `window` before the last of those that came before `before`: what was
  /// written in the minutes before the machine went down. Absent: everything.
  struct Recent {
    GcTime before;
    std::chrono::seconds window{0};
  };
  std::optional<Recent> recent;
};

struct FsckFinding {
  std::string path;              ///< in the store: "blobs/sha256/…"
  std::string problem;           ///< "has digest sha256:…"
  std::set<std::string> images;  ///< references that need it; none: no image does
  bool breaks_images = false;    ///< they cannot be started without it; else it is only their packed form
  bool unreadable = false;       ///< it could not be looked at: perhaps nothing is wrong with it, and it stays
  /// Also of what was missing: the entries of images that it breaks are gone with it, so the next use pulls them.
  bool removed = false;
  std::string stays;  ///< why it was not removed though that was asked for; "" otherwise
};

struct FsckReport {
  std::vector<FsckFinding> findings;
  std::uint64_t images = 0;
  std::uint64_t blobs = 0;
  std::uint64_t blob_bytes = 0;
  std::uint64_t layers = 0;
  std::uint64_t layers_without_seal = 0;  ///< of these, what nothing is known about
  /// What else could not be done of a repair, a sentence each.
  std::vector<std::string> problems;
  /// Whether anything is wrong now.
  bool clean() const;
};

///   in      uses   what tasks run on; a layer that is in use, or may be, is never removed
///   blocks  disk: reads all blobs
///   errors  kNotFound there is no store · kDeadlineExceeded starts or a collection hold the lock · errno codes: a
///           folder of the store, or index.json, cannot be read; nothing was removed
base::Result<FsckReport> check_store(const base::Context& ctx, Store& store, const FsckRequest& request,
                                     const ListUses& uses);

}  // namespace oci
