// Images on disk: an OCI image layout that other tools can read, and beside it the unpacked layers.
//
//   oci-layout, index.json   the layout; index.json has one entry an image: the platform's manifest, named by
//                            org.opencontainers.image.ref.name
//   blobs/sha256/<hex>       manifests, configs, compressed layers; complete and never changed once they have that name
//   layers/<chain id hex>/   an unpacked layer as overlay wants it; complete once it has that name
//   ingest/                  what is being downloaded or unpacked, locked (flock) by the process that does
//   lock                     held (flock) while index.json is replaced
//   lease                    held (flock) shared by those who are about to use an image, exclusively by collections
//   seals/<chain id hex>     what the layer looked like when it was stored (seal.h)
//   trash/image-…            what is being removed, under unique names
//
// Several processes may use a store at once: readers need no lock, as everything appears by rename.
//
// Whatever is asked of a store has three answers: it is there, it is not there (or damaged, which a pull repairs), and
// it could not be looked at (is_unreadable). The third is an error of the operation, and never a reason to remove,
// fetch or overwrite anything.
// spec: image-spec image-layout.md
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/sync.h"
#include "oci/digest.h"
#include "oci/image.h"
#include "oci/manifest.h"

namespace oci {

/// All that the store consists of. Whatever else lies in its folder is somebody else's, and the image helper, which
/// writes to the store, neither sees nor changes it.
constexpr std::string_view kStoreNames[] = {"oci-layout", "index.json", "blobs", "layers", "seals",
                                            "ingest",     "trash",      "lock",  "lease"};
/// What the driver keeps beside the store. Made before a helper looks at anything from outside, so that it cannot make
/// it; never removed or replaced.
constexpr char kTasksName[] = "tasks";
/// How large a new image may make index.json: some 6,000 images.
constexpr std::size_t kIndexFileBytesMax = 4u << 20;
/// How large it may get by approvals of images that are in it, and by pulls that replace them.
constexpr std::size_t kIndexNotesBytesMax = 2 * kIndexFileBytesMax;
/// What is read: more than this or an earlier version has ever written, so that a store at its limit can be used,
/// listed and emptied.
constexpr std::size_t kIndexReadBytesMax = 2 * kIndexNotesBytesMax;
constexpr std::string_view kStagingPrefix = "layers-";  ///< of folders in ingest/ where layers are unpacked

/// An image's entry in index.json.
struct ImageRecord {
  std::string reference;  ///< canonical
  std::string media_type;
  Digest manifest_digest;
  std::uint64_t manifest_bytes = 0;
  Digest resolved_digest;
  std::string architecture;
  std::int64_t pulled_at_unix = 0;
  std::string resolved_media_type = {};  ///< of resolved_digest; "" in what older versions stored
  std::uint64_t resolved_bytes = 0;
  std::optional<Verdict> verdict = {};
  std::string platform = {};  ///< that it was requested for, as wanted_platform() spells it: "" = this host's
  bool pinned = false;        ///< collections leave it alone
};

/// threads: any, each method
class Store {
 public:
  explicit Store(std::string data_dir);
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Makes the folders and `oci-layout` where they are missing (mode 0700: unpacked layers hold setuid files that must
  /// be out of reach of the host's users). Nothing else creates anything.
  base::Status create() const;

  std::string blob_path(const Digest& digest) const;
  std::string layer_path(const Digest& chain_id) const;
  std::string seal_path(const Digest& chain_id) const;  ///< of a layer's seal (seal.h)
  std::string path(std::string_view name) const;        ///< of something directly in the store

  /// Content of the manifest or config `digest`, checked against it.
  ///   errors  kNotFound absent · kDataLoss it is not what its name says · kInvalidArgument larger than bytes_max ·
  ///           those of is_unreadable()
  base::Result<std::string> read_document(const Digest& digest, std::size_t bytes_max) const;
  /// Errors are those of is_unreadable().
  base::Result<bool> has_layer(const Digest& chain_id) const;

  /// All images, in the order of index.json; none if there is no store yet. Kept in memory until index.json changes.
  ///   errors  kDataLoss index.json is not what it should be, which fsck repairs · those of is_unreadable()
  base::Result<std::vector<ImageRecord>> records();
  /// kNotFound if there is no such image; else as records().
  base::Result<ImageRecord> record(const std::string& reference);
  /// Whether put_record() will find room for an image of this name: to be asked before it is fetched.
  ///   errors  kResourceExhausted index.json is at its limit: the message says what to remove · as records()
  base::Status check_room(const std::string& reference);
  /// Adds `record`, or replaces the one of the same reference, which stays pinned if it was. Durable when it returns.
  ///   errors  kResourceExhausted index.json is at its limit, or the disk is full · as records()
  base::Status put_record(const base::Context& ctx, const ImageRecord& record);

  using CheckRecords = std::function<base::Status(const std::vector<ImageRecord>& all)>;
  /// Takes the entries of these references out; their content stays. Durable when it returns.
  ///   in      check  is asked before, while nobody else can change index.json; its error ends it, and nothing is
  ///   changed
  base::Status remove_records(const base::Context& ctx, const std::vector<std::string>& references,
                              const CheckRecords& check = {});

  /// Records an approval of the image, if `digest` is still what its name leads to. Durable when it returns.
  ///   errors  kNotFound no such image, or it was replaced · else as put_record()
  base::Status put_verdict(const base::Context& ctx, const std::string& reference, const Digest& digest,
                           const Verdict& verdict);

  /// Keeps the image of this name from collections, or no longer; a pull that replaces it changes nothing about that.
  /// Durable when it returns.
  ///   errors  kNotFound no such image · else as put_record()
  base::Status set_pinned(const base::Context& ctx, const std::string& reference, bool pinned);

  enum class Lease { kShared, kExclusive };
  /// While a shared lease is held nothing is collected; an exclusive one waits for those. Released with the descriptor.
  ///   blocks  until ctx ends: a shared lease is held for milliseconds, an exclusive one for as long as a rename of
  ///           each removed layer takes
  base::Result<base::Fd> lease(const base::Context& ctx, Lease kind) const;

  /// The same for ingest/: held shared while something is made there that is not locked yet, exclusively by those who
  /// remove what is not locked. kNotFound without a store.
  base::Result<base::Fd> lock_ingest(const base::Context& ctx, Lease kind) const;

  /// Moves a blob or a layer, with its seal, to trash/: gone with one rename, whatever its size. Absent is fine. With
  /// the exclusive lease.
  ///   errors  errno codes: it is still where it was (EBUSY, immutable, …)
  base::Status discard(const std::string& path) const;
  /// Removes what discard() has moved there. What cannot be removed stays for the next time, and stops nothing else.
  ///   out  the errors, one for each that stays
  std::vector<base::Error> empty_trash() const;

  /// Records that the image is used now. Best effort.
  void touch(const ImageRecord& record) const;

  /// Paths of all that the image consists of: manifest, config, compressed and unpacked layers; there or not.
  ///   errors  as load(), but for missing layers
  base::Result<std::vector<std::string>> content(const ImageRecord& record) const;

  /// Reads manifest and config and checks that every layer is unpacked.
  ///   errors  kNotFound something is missing · kDataLoss, kInvalidArgument a document is damaged (a pull repairs all
  ///           of these) · those of is_unreadable()
  base::Result<Image> load(const ImageRecord& record) const;

 private:
  /// Tells one version of index.json from another: it is only ever replaced by rename.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    std::int64_t mtime_ns = 0;
    off_t size = -1;
    bool operator==(const Stamp&) const = default;
  };
  struct Cache {
    Stamp stamp;
    std::vector<ImageRecord> records;
    std::map<std::string, std::size_t> by_reference;  ///< position in records
  };
  base::Result<Stamp> stamp() const;
  /// The parsed index.json of now.
  base::Result<std::shared_ptr<const Cache>> index();
  /// Returns how large index.json may get by it.
  using Edit = std::function<base::Result<std::size_t>(std::vector<ImageRecord>&)>;
  base::Status edit_records(const base::Context& ctx, const Edit& edit);

  const std::string data_dir_;
  base::Guarded<std::shared_ptr<const Cache>> cache_;
};

/// Whether the error says that something could not be looked at (no descriptors or memory, a broken disk, no
/// permission): then it has to be taken for whole and in use. Otherwise it is known to be missing or damaged.
bool is_unreadable(const base::Error& error);

/// Opens a file of the store, if it is a regular one: whoever takes over an image helper can put a FIFO, a device or a
/// symlink in its place, which must not block, do something or lead elsewhere when the driver opens it as root.
///   errors  kNotFound · kDataLoss not a file · those of is_unreadable()
base::Result<base::Fd> open_stored_file(const std::string& path, int flags);

/// The content of a file of the store, all of it. A symlink is not followed.
///   in      what  for messages
///   errors  kNotFound · kDataLoss not a file · kInvalidArgument larger than bytes_max · those of is_unreadable()
base::Result<std::string> read_stored_file(const std::string& path, std::size_t bytes_max, std::string_view what);

/// index.json as text, from and to records. Entries that we cannot use (no name, no manifest) are skipped when reading.
base::Result<std::vector<ImageRecord>> parse_index_file(std::string_view text);
std::string format_index_file(const std::vector<ImageRecord>& records);

}  // namespace oci
