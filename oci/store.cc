#include "oci/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <set>
#include <sstream>
#include <utility>

#include "base/dir.h"
#include "base/file.h"
#include "base/json.h"

namespace oci {

namespace {

constexpr std::string_view kLayoutFile = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::string_view kTrashPrefix = "image-";  // other files of trash/ are not the store's
constexpr std::size_t kTrashNameBytesMax = 128;      // of what a thing was called: with the rest below NAME_MAX
constexpr char kRefName[] = "org.opencontainers.image.ref.name";
constexpr char kContainerdName[] = "io.containerd.image.name";  // full names, where other tools put a bare tag above
constexpr char kResolvedDigest[] = "containerd-driver.resolved-digest";
constexpr char kResolvedType[] = "containerd-driver.resolved-type";
constexpr char kResolvedSize[] = "containerd-driver.resolved-size";
constexpr char kPulledAt[] = "containerd-driver.pulled-at";  // seconds since the epoch
constexpr char kVerifiers[] = "containerd-driver.verified-by";
constexpr char kVerifiedWord[] = "containerd-driver.verified";
constexpr char kPinned[] = "containerd-driver.pinned";
constexpr char kPlatform[] = "containerd-driver.platform";
constexpr char kVerifiedAt[] = "containerd-driver.verified-at";

base::Result<base::Fd> lock_file(const base::Context& ctx, const std::string& path, int operation);
base::Status lock(const base::Context& ctx, int fd, const std::string& path, int operation);
base::Result<std::optional<std::string>> read_index(const std::string& path);
base::Error index_damaged(std::string_view why);
base::Error index_full(std::size_t images);
std::string unique_text();
base::Result<Manifest> read_image_manifest(const Store& store, const ImageRecord& record);

}  // namespace

Store::Store(std::string data_dir) : data_dir_(std::move(data_dir)) {}

std::string Store::path(std::string_view name) const {
  return base::str(data_dir_, "/", name);
}
std::string Store::blob_path(const Digest& digest) const {
  return base::str(data_dir_, "/blobs/sha256/", digest.hex());
}
std::string Store::layer_path(const Digest& chain_id) const {
  return base::str(data_dir_, "/layers/", chain_id.hex());
}
std::string Store::seal_path(const Digest& chain_id) const {
  return base::str(data_dir_, "/seals/", chain_id.hex());
}

base::Status Store::create() const {
  struct stat info {};
  const bool created = ::stat(path("oci-layout").c_str(), &info) == 0;
  if (!created && errno != ENOENT) return base::Error::from_errno(errno, path("oci-layout"));
  // Each time: somebody who cleaned up may have taken an empty one.
  for (const char* folder : {"blobs/sha256", "layers", "ingest"}) {
    TRY_VOID(base::make_dirs(path(folder), 0700));
  }
  if (created) return {};
  // A blob that is durable in a folder that is not would be lost all the same.
  for (const char* folder : {"blobs", "."}) TRY_VOID(base::sync_dir(path(folder)));
  return base::write_file_atomic(path("oci-layout"), kLayoutFile, 0600, base::Durable::kYes);
}

base::Result<std::string> Store::read_document(const Digest& digest, std::size_t bytes_max) const {
  TRY(auto text, read_stored_file(blob_path(digest), bytes_max, base::str("blob ", digest.text())));
  if (Digest::of_bytes(text) != digest) {
    return base::Error::data_loss(base::str("blob ", digest.text(), " is damaged; pull the image again"));
  }
  return text;
}

base::Result<bool> Store::has_layer(const Digest& chain_id) const {
  const std::string path = layer_path(chain_id);
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) return S_ISDIR(info.st_mode);
  if (errno == ENOENT) return false;
  return base::Error::from_errno(errno, path);
}

base::Result<std::vector<ImageRecord>> Store::records() {
  TRY(const auto cache, index());
  return cache->records;
}

base::Result<ImageRecord> Store::record(const std::string& reference) {
  TRY(const auto cache, index());
  const auto found = cache->by_reference.find(reference);
  if (found == cache->by_reference.end()) {
    return base::Error::not_found(base::str("image ", reference, " is not in the store"));
  }
  return cache->records[found->second];
}

base::Status Store::check_room(const std::string& reference) {
  TRY(const auto cache, index());
  if (cache->by_reference.contains(reference)) return {};
  const ImageRecord typical{
      reference, std::string(kOciManifestType), Digest::of_bytes(""), 1, Digest::of_bytes(""), "amd64", 1};
  const std::size_t wanted = static_cast<std::size_t>(std::max<off_t>(cache->stamp.size, 0)) +
                             format_index_file({typical}).size() - format_index_file({}).size();
  return wanted <= kIndexFileBytesMax ? base::Status() : index_full(cache->records.size());
}

base::Status Store::put_record(const base::Context& ctx, const ImageRecord& record) {
  return edit_records(ctx, [&record](std::vector<ImageRecord>& records) {
    bool pinned = record.pinned;
    const auto replaced = std::erase_if(records, [&](const ImageRecord& other) {
      if (other.reference != record.reference) return false;
      pinned = pinned || other.pinned;
      return true;
    });
    records.push_back(record);
    records.back().pinned = pinned;
    return replaced == 0 ? kIndexFileBytesMax : kIndexNotesBytesMax;
  });
}

base::Status Store::remove_records(const base::Context& ctx, const std::vector<std::string>& references,
                                   const CheckRecords& check) {
  if (references.empty()) return {};
  const std::set<std::string_view> gone(references.begin(), references.end());
  return edit_records(ctx, [&](std::vector<ImageRecord>& records) -> base::Result<std::size_t> {
    if (check) TRY_VOID(check(records));
    std::erase_if(records, [&](const ImageRecord& record) { return gone.contains(record.reference); });
    return kIndexReadBytesMax;
  });
}

base::Status Store::put_verdict(const base::Context& ctx, const std::string& reference, const Digest& digest,
                                const Verdict& verdict) {
  bool found = false;
  TRY_VOID(edit_records(ctx, [&](std::vector<ImageRecord>& records) {
    for (ImageRecord& record : records) {
      const bool same = record.resolved_digest == digest || record.manifest_digest == digest;
      if (record.reference != reference || !same) continue;
      record.verdict = verdict;
      found = true;
    }
    return kIndexNotesBytesMax;
  }));
  if (found) return {};
  return base::Error::not_found(base::str("image ", reference, " (", digest.text(), ") is not in the store"));
}

base::Status Store::set_pinned(const base::Context& ctx, const std::string& reference, bool pinned) {
  bool found = false;
  TRY_VOID(edit_records(ctx, [&](std::vector<ImageRecord>& records) {
    for (ImageRecord& record : records) {
      if (record.reference != reference) continue;
      record.pinned = pinned;
      found = true;
    }
    return kIndexNotesBytesMax;
  }));
  if (found) return {};
  return base::Error::not_found(base::str("image ", reference, " is not in the store"));
}

base::Status Store::edit_records(const base::Context& ctx, const Edit& edit) {
  TRY(const auto lock, lock_file(ctx, path("lock"), LOCK_EX));
  // Not from the cache: another process may have written within the resolution of the file's time.
  TRY(const auto before, read_index(path("index.json")));
  std::vector<ImageRecord> records;
  if (before) {
    TRY(records, parse_index_file(*before));
  }
  const std::size_t images = records.size();
  TRY(const std::size_t bytes_max, edit(records));
  const std::string after = format_index_file(records);
  // What shrinks a file that is too large is always welcome.
  if (after.size() > bytes_max && (!before || after.size() > before->size())) return index_full(images);
  return base::write_file_atomic(path("index.json"), after, 0600, base::Durable::kYes);
}

base::Result<base::Fd> Store::lease(const base::Context& ctx, Lease kind) const {
  return lock_file(ctx, path("lease"), kind == Lease::kShared ? LOCK_SH : LOCK_EX);
}

base::Result<base::Fd> Store::lock_ingest(const base::Context& ctx, Lease kind) const {
  auto fd = base::open_file(path("ingest"), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  struct stat layout {};
  if (!fd && fd.error().code == base::Code::kNotFound && ::stat(path("oci-layout").c_str(), &layout) == 0) {
    TRY_VOID(base::make_dirs(path("ingest"), 0700));  // the store is there: somebody has taken its empty folder
    fd = base::open_file(path("ingest"), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }
  if (!fd) return std::move(fd).error();
  TRY_VOID(lock(ctx, fd->get(), path("ingest"), kind == Lease::kShared ? LOCK_SH : LOCK_EX));
  return fd;
}

// The folder may be written by whoever took over a helper: nothing is followed out of it.
base::Status Store::discard(const std::string& from) const {
  const std::filesystem::path full(from);
  const std::string folder = full.parent_path().filename().string();
  const std::string name = full.filename().string();
  const std::string_view kind = folder == "sha256" ? "blob" : folder == "layers" ? "layer" : "file";
  TRY_VOID(base::make_dirs(path("trash"), 0700));
  TRY(const auto trash, base::open_dir(path("trash")));
  const std::string target = base::str(kTrashPrefix, kind, "-", name.substr(0, kTrashNameBytesMax), "-", unique_text());
  if (::renameat(AT_FDCWD, from.c_str(), trash.get(), target.c_str()) != 0 && errno != ENOENT) {
    return base::Error::from_errno(errno, base::str("moving ", from, " to the trash"));
  }
  if (kind != "layer") return {};
  const std::string seal = path(base::str("seals/", name));
  if (::unlink(seal.c_str()) == 0 || errno == ENOENT) return {};
  return base::Error::from_errno(errno, base::str("removing ", seal));
}

std::vector<base::Error> Store::empty_trash() const {
  std::vector<base::Error> errors;
  const auto trash = base::open_file(path("trash"), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const auto names =
      trash ? base::list_dir(trash->get(), path("trash")) : base::Result<std::vector<std::string>>(trash.error());
  if (!names) {
    if (names.error().code != base::Code::kNotFound) errors.push_back(names.error());
    return errors;
  }
  for (const std::string& name : *names) {
    if (!name.starts_with(kTrashPrefix)) continue;
    if (auto removed = base::remove_tree_at(trash->get(), name); !removed) {
      errors.push_back(std::move(removed).error().wrap(base::str("removing ", path("trash/"), name)));
    }
  }
  return errors;
}

void Store::touch(const ImageRecord& record) const {
  const std::string path = blob_path(record.manifest_digest);
  [[maybe_unused]] const int touched = ::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

base::Result<std::vector<std::string>> Store::content(const ImageRecord& record) const {
  TRY(const auto manifest, read_image_manifest(*this, record));
  std::vector<std::string> paths = {blob_path(record.manifest_digest), blob_path(manifest.config.digest)};
  for (const Descriptor& layer : manifest.layers) paths.push_back(blob_path(layer.digest));
  TRY(const auto config_text, read_document(manifest.config.digest, kConfigBytesMax));
  TRY(const auto document, parse_config(config_text, base::str("config ", manifest.config.digest.text())));
  for (const Digest& chain_id : chain_ids(document.diff_ids)) paths.push_back(layer_path(chain_id));
  return paths;
}

base::Result<Image> Store::load(const ImageRecord& record) const {
  TRY(const auto manifest, read_image_manifest(*this, record));
  TRY(const auto config_text, read_document(manifest.config.digest, kConfigBytesMax));
  TRY(auto document, parse_config(config_text, base::str("config ", manifest.config.digest.text())));
  if (document.diff_ids.size() != manifest.layers.size()) {
    return base::Error::invalid_argument(base::str("image ", record.reference, " has ", manifest.layers.size(),
                                                   " layers but ", document.diff_ids.size(), " diff ids"));
  }
  Image image{record.reference,      record.manifest_digest, record.resolved_digest, std::move(document.config), {}, 0,
              record.pulled_at_unix, record.verdict,         manifest.config.digest};
  for (const Digest& chain_id : chain_ids(document.diff_ids)) {
    TRY(const bool present, has_layer(chain_id));
    if (!present) {
      return base::Error::not_found(
          base::str("layer ", chain_id.text(), " of image ", record.reference, " is missing"));
    }
    image.layer_dirs.push_back(layer_path(chain_id));
  }
  image.size_bytes = record.manifest_bytes + manifest.config.size;
  for (const Descriptor& layer : manifest.layers) image.size_bytes += layer.size;
  return image;
}

base::Result<Store::Stamp> Store::stamp() const {
  struct stat info {};
  if (::stat(path("index.json").c_str(), &info) != 0) {
    if (errno == ENOENT) return Stamp{};
    return base::Error::from_errno(errno, path("index.json"));
  }
  return Stamp{info.st_dev, info.st_ino, info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec, info.st_size};
}

base::Result<std::shared_ptr<const Store::Cache>> Store::index() {
  TRY(const Stamp now, stamp());
  std::shared_ptr<const Cache> cached = *cache_.lock();
  if (cached && cached->stamp == now) return cached;
  auto fresh = std::make_shared<Cache>();
  fresh->stamp = now;  // if the file is replaced before it is read, the next look sees another stamp
  if (!(now == Stamp{})) {
    TRY(const auto text, read_index(path("index.json")));
    if (text) {
      TRY(fresh->records, parse_index_file(*text));
    }
    for (std::size_t i = 0; i < fresh->records.size(); ++i) fresh->by_reference[fresh->records[i].reference] = i;
  }
  cached = std::move(fresh);
  *cache_.lock() = cached;
  return cached;
}

namespace {

/// A number among the annotations, which are text; 0 if it is none.
template <typename Number>
base::Status read_number(const base::Json& annotations, std::string_view key, Number& out) {
  TRY(const auto text, base::get_string(annotations, key));
  if (text) std::from_chars(text->data(), text->data() + text->size(), out);
  return {};
}

base::Status read_verdict(const base::Json& annotations, std::optional<Verdict>& out) {
  TRY(auto verifiers, base::get_string(annotations, kVerifiers));
  TRY(auto word, base::get_string(annotations, kVerifiedWord));
  if (!verifiers || !word) return {};
  out = Verdict{std::move(*verifiers), std::move(*word), 0};
  return read_number(annotations, kVerifiedAt, out->at_unix);
}

base::Result<ImageRecord> read_record(const base::Json& entry) {
  TRY(const auto media_type, base::get_string(entry, "mediaType"));
  TRY(const auto digest_text, base::get_string(entry, "digest"));
  TRY(const auto size, base::get_int(entry, "size"));
  TRY(const base::Json* annotations, base::get_object(entry, "annotations"));
  if (!digest_text || !media_type || !size || *size <= 0 || annotations == nullptr) {
    return base::Error::not_found("an entry of another tool");
  }
  TRY(const auto reference, base::get_string(*annotations, kRefName));
  if (!reference) return base::Error::not_found("an entry without a name");
  TRY(auto digest, Digest::parse(*digest_text));
  TRY(const auto resolved_text, base::get_string(*annotations, kResolvedDigest));
  TRY(auto resolved, Digest::parse(resolved_text.value_or(*digest_text)));
  ImageRecord record{
      *reference, *media_type, std::move(digest), static_cast<std::uint64_t>(*size), std::move(resolved), {}, 0};
  TRY_VOID(read_number(*annotations, kPulledAt, record.pulled_at_unix));
  TRY(auto resolved_type, base::get_string(*annotations, kResolvedType));
  record.resolved_media_type = std::move(resolved_type).value_or("");
  TRY_VOID(read_number(*annotations, kResolvedSize, record.resolved_bytes));
  TRY_VOID(read_verdict(*annotations, record.verdict));
  TRY(auto wanted, base::get_string(*annotations, kPlatform));
  record.platform = std::move(wanted).value_or("");
  TRY(const auto pinned, base::get_string(*annotations, kPinned));
  record.pinned = pinned.value_or("") == "true";
  TRY(const base::Json* platform, base::get_object(entry, "platform"));
  if (platform != nullptr) {
    TRY(auto architecture, base::get_string(*platform, "architecture"));
    record.architecture = std::move(architecture).value_or("");
  }
  return record;
}

}  // namespace

bool is_unreadable(const base::Error& error) {
  // ELOOP is a symlink, ENXIO a socket: not what the store has put there, whatever the moment.
  return error.sys_errno != 0 && error.sys_errno != ENOENT && error.sys_errno != ELOOP && error.sys_errno != ENXIO;
}

base::Result<base::Fd> open_stored_file(const std::string& path, int flags) {
  TRY(const auto named, base::open_file(path, O_PATH | O_NOFOLLOW));
  auto opened = base::open_named(named, base::FileKind::kFile, flags);
  if (opened || opened.error().sys_errno != 0) return opened;
  return base::Error::data_loss(base::str(path, " is not a file"));
}

base::Result<std::string> read_stored_file(const std::string& path, std::size_t bytes_max, std::string_view what) {
  const auto fd = open_stored_file(path, O_RDONLY);
  if (!fd && fd.error().code == base::Code::kDataLoss) {
    return base::Error::data_loss(base::str(what, " is not a file"));
  }
  if (!fd) return base::Error(fd.error()).wrap(what);
  struct stat info {};
  if (::fstat(fd->get(), &info) != 0) return base::Error::from_errno(errno, what);
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size > bytes_max) {
    return base::Error::invalid_argument(base::str(what, " has ", size, " bytes, more than the limit of ", bytes_max));
  }
  TRY(auto text, base::read_to_end(base::Context::background(), fd->get(), bytes_max, what));
  if (text.size() >= size) return text;
  // Files of the store are never cut: this is a disk, not damage that would be a reason to remove it.
  return base::Error::from_errno(EIO, base::str("reading ", what, ": only ", text.size(), " of ", size, " bytes"));
}

base::Result<std::vector<ImageRecord>> parse_index_file(std::string_view text) {
  constexpr std::size_t kBytesOfValueMin = 16;  // what this program writes takes more for each
  base::JsonLimits limits;
  limits.bytes_max = kIndexReadBytesMax;
  limits.nodes_max = kIndexReadBytesMax / kBytesOfValueMin;
  const auto document = base::parse_json(text, "JSON", limits);
  if (!document) return index_damaged(document.error().message);
  if (!document->is_object()) return index_damaged("it is not a JSON object");
  const auto manifests = base::get_array(*document, "manifests");
  if (!manifests) return index_damaged(manifests.error().message);
  std::vector<ImageRecord> records;
  if (*manifests == nullptr) return records;
  for (const base::Json& entry : **manifests) {
    auto record = read_record(entry);
    if (record) records.push_back(*std::move(record));
  }
  return records;
}

namespace {

base::Json annotations_of(const ImageRecord& record) {
  base::Json out = {{kRefName, record.reference},
                    {kContainerdName, record.reference},
                    {kResolvedDigest, record.resolved_digest.text()},
                    {kPulledAt, std::to_string(record.pulled_at_unix)}};
  if (!record.resolved_media_type.empty()) {
    out[kResolvedType] = record.resolved_media_type;
    out[kResolvedSize] = std::to_string(record.resolved_bytes);
  }
  if (!record.platform.empty()) out[kPlatform] = record.platform;
  if (record.pinned) out[kPinned] = "true";
  if (record.verdict) {
    out[kVerifiers] = record.verdict->verifiers;
    out[kVerifiedWord] = record.verdict->word;
    out[kVerifiedAt] = std::to_string(record.verdict->at_unix);
  }
  return out;
}

}  // namespace

std::string format_index_file(const std::vector<ImageRecord>& records) {
  base::Json manifests = base::Json::array();
  for (const ImageRecord& record : records) {
    manifests.push_back({{"mediaType", record.media_type},
                         {"digest", record.manifest_digest.text()},
                         {"size", record.manifest_bytes},
                         {"platform", {{"os", "linux"}, {"architecture", record.architecture}}},
                         {"annotations", annotations_of(record)}});
  }
  return base::dump_json({{"schemaVersion", 2}, {"mediaType", kOciIndexType}, {"manifests", std::move(manifests)}});
}

namespace {

base::Result<base::Fd> lock_file(const base::Context& ctx, const std::string& path, int operation) {
  auto fd = open_stored_file(path, O_RDWR);
  if (!fd && fd.error().code == base::Code::kNotFound) {
    fd = base::open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!fd && fd.error().sys_errno == EEXIST) fd = open_stored_file(path, O_RDWR);  // made by another process
  }
  if (!fd) return fd;
  TRY_VOID(lock(ctx, fd->get(), path, operation));
  return fd;
}

// flock cannot wait with a deadline, and all holders are quick.
base::Status lock(const base::Context& ctx, int fd, const std::string& path, int operation) {
  while (::flock(fd, operation | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return base::Error::from_errno(errno, base::str("locking ", path));
    TRY_VOID(ctx.sleep(std::chrono::milliseconds(5)));
  }
  return {};
}

// nullopt: there is none.
base::Result<std::optional<std::string>> read_index(const std::string& path) {
  auto text = read_stored_file(path, kIndexReadBytesMax, "index.json");
  if (text) return std::optional<std::string>(*std::move(text));
  if (text.error().code == base::Code::kNotFound) return std::optional<std::string>();
  return is_unreadable(text.error()) ? text.error() : index_damaged(text.error().message);
}

base::Error index_damaged(std::string_view why) {
  return base::Error::data_loss(
      base::str("index.json is damaged: ", why, "; `containerd-driver fsck --repair` sets it aside"));
}

base::Error index_full(std::size_t images) {
  return base::Error::resource_exhausted(
      base::str("index.json of the image store has ", images, " images and may not grow beyond ", kIndexFileBytesMax,
                " bytes; remove images with `containerd-driver gc --all` or `containerd-driver rmi`"));
}

std::string unique_text() {
  std::uint64_t value = 0;
  CHECK(::getrandom(&value, sizeof value, 0) == sizeof value);
  std::ostringstream out;
  out << std::hex << std::setw(16) << std::setfill('0') << value;
  return out.str();
}

base::Result<Manifest> read_image_manifest(const Store& store, const ImageRecord& record) {
  const std::string what = base::str("manifest ", record.manifest_digest.text());
  TRY(const auto text, store.read_document(record.manifest_digest, kManifestBytesMax));
  TRY(auto document, parse_manifest(text, record.media_type, what));
  auto* manifest = std::get_if<Manifest>(&document);
  if (manifest == nullptr) return base::Error::invalid_argument(base::str(what, " is an index, not a manifest"));
  return std::move(*manifest);
}

}  // namespace

}  // namespace oci
