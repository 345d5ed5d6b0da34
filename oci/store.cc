#include "oci/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "base/json.h"

namespace oci {

namespace {

constexpr std::string_view kLayoutFile = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::string_view kTrashPrefix = "image-";  // other files of trash/ are not the store's
constexpr char kRefName[] = "org.opencontainers.image.ref.name";
constexpr char kContainerdName[] = "io.containerd.image.name";  // full names, where other tools put a bare tag above
constexpr char kResolvedDigest[] = "containerd-driver.resolved-digest";
constexpr char kResolvedType[] = "containerd-driver.resolved-type";
constexpr char kResolvedSize[] = "containerd-driver.resolved-size";
constexpr char kPulledAt[] = "containerd-driver.pulled-at";  // seconds since the epoch
constexpr char kVerifiers[] = "containerd-driver.verified-by";
constexpr char kVerifiedWord[] = "containerd-driver.verified";
constexpr char kPlatform[] = "containerd-driver.platform";
constexpr char kVerifiedAt[] = "containerd-driver.verified-at";

base::Result<base::Fd> lock_file(const base::Context& ctx, const std::string& path, int operation);
base::Status lock(const base::Context& ctx, int fd, const std::string& path, int operation);
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
  if (::stat(path("oci-layout").c_str(), &info) == 0) return {};  // written last: all else is there
  for (const char* folder : {"blobs/sha256", "layers", "ingest"}) {
    TRY_VOID(base::make_dirs(path(folder), 0700));
  }
  // A blob that is durable in a folder that is not would be lost all the same.
  for (const char* folder : {"blobs", "."}) TRY_VOID(base::sync_dir(path(folder)));
  return base::write_file_atomic(path("oci-layout"), kLayoutFile, 0600, base::Durable::kYes);
}

base::Result<std::string> Store::read_document(const Digest& digest, std::size_t bytes_max) const {
  TRY(const auto fd, base::open_file(blob_path(digest), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return base::Error::from_errno(errno, base::str("blob ", digest.text()));
  if (!S_ISREG(info.st_mode)) return base::Error::data_loss(base::str("blob ", digest.text(), " is not a file"));
  if (static_cast<std::uint64_t>(info.st_size) > bytes_max) {
    return base::Error::invalid_argument(
        base::str("blob ", digest.text(), " has ", info.st_size, " bytes, more than the limit of ", bytes_max));
  }
  TRY(auto text, base::read_to_end(base::Context::background(), fd.get(), bytes_max, digest.text()));
  if (Digest::of_bytes(text) != digest) {
    return base::Error::data_loss(base::str("blob ", digest.text(), " is damaged; pull the image again"));
  }
  return text;
}

bool Store::has_layer(const Digest& chain_id) const {
  struct stat info {};
  return ::lstat(layer_path(chain_id).c_str(), &info) == 0 && S_ISDIR(info.st_mode);
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

base::Status Store::put_record(const base::Context& ctx, const ImageRecord& record) {
  return edit_records(ctx, [&record](std::vector<ImageRecord>& records) {
    std::erase_if(records, [&](const ImageRecord& other) { return other.reference == record.reference; });
    records.push_back(record);
  });
}

base::Status Store::remove_records(const base::Context& ctx, const std::vector<std::string>& references) {
  if (references.empty()) return {};
  return edit_records(ctx, [&references](std::vector<ImageRecord>& records) {
    std::erase_if(records, [&](const ImageRecord& record) {
      return std::find(references.begin(), references.end(), record.reference) != references.end();
    });
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
  }));
  if (found) return {};
  return base::Error::not_found(base::str("image ", reference, " (", digest.text(), ") is not in the store"));
}

base::Status Store::edit_records(const base::Context& ctx, const std::function<void(std::vector<ImageRecord>&)>& edit) {
  TRY(const auto lock, lock_file(ctx, path("lock"), LOCK_EX));
  // Not from the cache: another process may have written within the resolution of the file's time.
  std::vector<ImageRecord> records;
  auto text = base::read_file(path("index.json"), kIndexFileBytesMax);
  if (text) {
    TRY(records, parse_index_file(*text));
  } else if (text.error().code != base::Code::kNotFound) {
    return std::move(text).error();
  }
  edit(records);
  return base::write_file_atomic(path("index.json"), format_index_file(records), 0600, base::Durable::kYes);
}

base::Result<base::Fd> Store::lease(const base::Context& ctx, Lease kind) const {
  return lock_file(ctx, path("lease"), kind == Lease::kShared ? LOCK_SH : LOCK_EX);
}

base::Result<base::Fd> Store::lock_ingest(const base::Context& ctx, Lease kind) const {
  TRY(auto fd, base::open_file(path("ingest"), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY_VOID(lock(ctx, fd.get(), path("ingest"), kind == Lease::kShared ? LOCK_SH : LOCK_EX));
  return fd;
}

base::Status Store::discard(const std::string& from) const {
  const std::string name = std::filesystem::path(from).filename().string();
  TRY_VOID(base::make_dirs(path("trash"), 0700));
  const std::string target = path(base::str("trash/", kTrashPrefix, name, ".", ::getpid()));
  if (::rename(from.c_str(), target.c_str()) != 0 && errno != ENOENT) {
    return base::Error::from_errno(errno, base::str("moving ", from, " to the trash"));
  }
  if (from.starts_with(path("layers/"))) ::unlink(path(base::str("seals/", name)).c_str());
  return {};
}

base::Status Store::empty_trash() const {
  std::error_code error;
  std::filesystem::directory_iterator entries(path("trash"), error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    if (!entries->path().filename().native().starts_with(kTrashPrefix)) continue;
    TRY_VOID(base::remove_tree(entries->path()));
  }
  return {};
}

void Store::touch(const ImageRecord& record) const {
  [[maybe_unused]] const int touched = ::utimensat(AT_FDCWD, blob_path(record.manifest_digest).c_str(), nullptr, 0);
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
              record.pulled_at_unix, record.verdict};
  for (const Digest& chain_id : chain_ids(document.diff_ids)) {
    if (!has_layer(chain_id)) {
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
    TRY(const auto text, base::read_file(path("index.json"), kIndexFileBytesMax));
    TRY(fresh->records, parse_index_file(text));
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
  TRY(const base::Json* platform, base::get_object(entry, "platform"));
  if (platform != nullptr) {
    TRY(auto architecture, base::get_string(*platform, "architecture"));
    record.architecture = std::move(architecture).value_or("");
  }
  return record;
}

}  // namespace

base::Result<std::vector<ImageRecord>> parse_index_file(std::string_view text) {
  base::JsonLimits limits;
  limits.bytes_max = kIndexFileBytesMax;
  TRY(const base::Json document, base::parse_json(text, "index.json", limits));
  TRY(const base::Json* manifests, base::get_array(document, "manifests"));
  std::vector<ImageRecord> records;
  if (manifests == nullptr) return records;
  for (const base::Json& entry : *manifests) {
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
  TRY(auto fd, base::open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  TRY_VOID(lock(ctx, fd.get(), path, operation));
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
