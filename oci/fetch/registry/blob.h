// A blob of the store as the fetch pipeline sees it: one thread appends what comes from the network, and the unpack
// stage reads behind it (blob_reader.h), so that unpacking starts with the first byte instead of after the last.
//
// disk   ingest/<hex>   what has come so far; locked (flock) by the process that downloads it. Kept when a download
//        breaks off: the next one goes on from there. Becomes blobs/sha256/<hex> by rename when size and digest are
//        right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/digest.h"
#include "oci/manifest.h"
#include "oci/store.h"

namespace oci::fetch {

/// What a reader in another process gets: see BlobReader.
struct BlobFds {
  base::Fd file;
  base::Fd growth;
};

/// threads: one
class Blob {
 public:
  /// The store outlives the blob.
  Blob(const Store& store, const Descriptor& descriptor);
  Blob(const Blob&) = delete;
  Blob& operator=(const Blob&) = delete;

  const Descriptor& descriptor() const { return descriptor_; }

  enum class Begin { kPresent, kMissing };
  /// Looks whether the store has it (kPresent: readers get it from there), else takes hold of its ingest file: waits
  /// for another process that is downloading it, then hashes what is there from an earlier, broken download.
  base::Result<Begin> begin(const base::Context& ctx);

  /// Bytes that have arrived; where to go on.
  std::uint64_t offset() const;
  /// Of these, what an earlier, broken download had left.
  std::uint64_t inherited() const { return inherited_; }
  /// kDataLoss past the descriptor's size. kResourceExhausted when the disk is full.
  base::Status append(std::string_view bytes);
  /// Checks size and digest, and gives it its name in the store; durable once the folder is synced.
  ///   errors  kDataLoss not what the descriptor says: what came is removed · kResourceExhausted, kInternal disk
  base::Status commit();
  /// Readers get to the end of what is there. The ingest file stays for a later attempt, if `resumable`.
  void fail(bool resumable);

  /// For one more reader, between begin() and the end of the download. The file is opened below `store_view`, a
  /// directory descriptor of the store: if that is on a read-only mount, the reader cannot write to it either.
  base::Result<BlobFds> open_for_reader(int store_view);

  /// Hashes what the store holds and removes it if it is damaged. True if it was.
  base::Result<bool> remove_if_damaged();

 private:
  base::Result<bool> open_present();
  base::Result<bool> lock_ingest(const base::Context& ctx);
  base::Status rehash(const base::Context& ctx);
  base::Status flush();
  void tell_readers();

  const Store& store_;
  const Descriptor descriptor_;
  base::Fd file_;
  std::string ingest_path_;
  std::optional<Hasher> hasher_;
  std::string buffer_;  // small network reads become large writes
  std::uint64_t received_ = 0;
  std::uint64_t inherited_ = 0;

  bool complete_ = false;         // file_ is the blob in the store
  std::vector<base::Fd> growth_;  // write ends, not blocking: a full pipe wakes its reader, too
};

/// Puts a small document that is in memory into the store (a manifest, a config). Its digest is known to be right.
base::Status put_document(const Store& store, const Digest& digest, std::string_view bytes);

}  // namespace oci::fetch
