#include "oci/fetch/import_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "oci/fetch/registry/blob.h"
#include "oci/fetch/staging.h"
#include "oci/fetch/unpack/tar_headers.h"
#include "oci/manifest.h"
#include "oci/members.h"

namespace oci::fetch {

namespace {

using base::Error;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kReadBytes = 256u << 10;
constexpr int kLinksMax = 8;  // links to links
constexpr std::string_view kBlobsPrefix = "blobs/sha256/";

/// The next bytes of a file, 0 at its end.
using ReadPiece = std::function<Result<std::size_t>(std::span<char> out)>;

/// One run of import_archive().
class Import {
 public:
  Import(const base::Context& ctx, const Store& store, Hold& hold, int fd)
      : ctx_(ctx), store_(store), hold_(hold), fd_(fd) {}
  Result<std::vector<ArchivedImage>> run();

 private:
  struct File {
    ArchivedFile file;
    std::string staged;  // its path until it has its name
  };

  Status read_tar();
  Status add(archive_entry* entry);
  Status read_folder();
  Status add_file(const std::string& key, std::uint64_t size, const ReadPiece& read);
  Result<File> store_file(const std::string& key, std::uint64_t size, const ReadPiece& read);
  Status copy_file(const base::Fd& out, const ReadPiece& read, ArchivedFile& file);
  void forget(const File& file);
  const ArchivedFile* find(const std::string& path);
  static const ArchivedFile* with_document(File& file);
  Status commit(std::vector<ArchivedImage>& images);
  Result<std::string_view> read_unpacked();
  Error failure();
  static la_ssize_t on_read(archive*, void* self, const void** buffer);
  static la_ssize_t on_tar(archive*, void* self, const void** buffer);

  const base::Context& ctx_;
  const Store& store_;
  Hold& hold_;
  const int fd_;
  using Reader = std::unique_ptr<archive, decltype(&archive_read_free)>;
  Reader packed_{archive_read_new(), &archive_read_free};  // the bytes of the tar
  const ReadTar unpacked_ = [this] { return read_unpacked(); };
  TarHeaders headers_{unpacked_};
  Reader archive_{archive_read_new(), &archive_read_free};  // its entries
  std::string buffer_ = std::string(kReadBytes, '\0');      // of one file's content
  std::optional<Error> read_failure_;
  std::unique_ptr<Staging> staging_;
  int files_made_ = 0;
  std::map<std::string, File> files_;
  std::map<std::string, std::string> links_;
  std::size_t entries_ = 0;
  std::uint64_t bytes_ = 0;
  std::size_t memory_bytes_ = 0;  // of small files
};

std::string layer_type(bool gzip) {
  return gzip ? "application/vnd.oci.image.layer.v1.tar+gzip" : "application/vnd.oci.image.layer.v1.tar";
}

template <typename Make>
ArchivedImage image_of(Make make);
Result<ArchivedImage> docker_image(const base::Json& entry, const FindFile& find);
Result<ArchivedImage> layout_image(const base::Json& entry, const FindFile& find);
Status describe(const base::Json& entry, ArchivedImage& image);

Error not_an_archive(std::string_view why) {
  return Error::invalid_argument(
      str("this is not an image archive: ", why, "; make one with `docker save`, `podman save` or `skopeo copy`"));
}

}  // namespace

Result<std::vector<ArchivedImage>> import_archive(const base::Context& ctx, const Store& store, Hold& hold, int fd) {
  return Import(ctx, store, hold, fd).run();
}

std::string archive_key(std::string_view path) {
  std::vector<std::string_view> parts;
  for (const std::string_view part : base::path_components(path)) {
    if (part == "..") {
      if (parts.empty()) return "";
      parts.pop_back();
    } else {
      parts.push_back(part);
    }
  }
  std::string key;
  for (const std::string_view part : parts) key += str(key.empty() ? "" : "/", part);
  return key;
}

Result<std::vector<ArchivedImage>> images_of_docker_manifest(std::string_view manifest_json, const FindFile& find) {
  TRY(const base::Json entries, base::parse_json(manifest_json, "manifest.json"));
  if (!entries.is_array() || entries.size() > kArchiveImagesMax) return not_an_archive("manifest.json is not a list");
  std::vector<ArchivedImage> images;
  for (const base::Json& entry : entries) {
    if (!entry.is_object()) return not_an_archive("manifest.json is not a list of images");
    auto names = texts_in(entry, "RepoTags");
    ArchivedImage image = image_of([&] { return docker_image(entry, find); });
    if (!names) image.problem = std::move(names).error();
    const auto all_names = names && !names->empty() ? *names : std::vector<std::string>{""};
    for (const std::string& name : all_names) {
      image.name = name;
      images.push_back(image);
    }
  }
  return images;
}

Result<std::vector<ArchivedImage>> images_of_index(std::string_view index_json, const FindFile& find) {
  TRY(const base::Json index, base::parse_json(index_json, "index.json"));
  TRY(const base::Json* entries, base::get_array(index, "manifests"));
  if (entries == nullptr || entries->size() > kArchiveImagesMax) return not_an_archive("index.json has no manifests");
  std::vector<ArchivedImage> images;
  for (const base::Json& entry : *entries) {
    if (!entry.is_object()) return not_an_archive("index.json is not a list of images");
    ArchivedImage image = image_of([&] { return layout_image(entry, find); });
    if (auto described = describe(entry, image); !described) image.problem = std::move(described).error();
    images.push_back(std::move(image));
  }
  return images;
}

namespace {

/// What is wrong with one entry is a fact about that entry.
template <typename Make>
ArchivedImage image_of(Make make) {
  Result<ArchivedImage> made = make();
  if (made) return *std::move(made);
  ArchivedImage out{"", Digest::of_bytes(""), "", ""};
  out.problem = std::move(made).error();
  return out;
}

Result<ArchivedImage> docker_image(const base::Json& entry, const FindFile& find) {
  TRY(const std::string config_path, text_in(entry, "Config"));
  TRY(const auto layer_paths, texts_in(entry, "Layers"));
  const ArchivedFile* config = config_path.empty() ? nullptr : find(config_path);
  if (config == nullptr) return not_an_archive("manifest.json names a config that is not there");
  const base::Json config_descriptor = {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                                        {"digest", config->digest.text()},
                                        {"size", config->size}};
  base::Json layers = base::Json::array();
  for (const std::string& path : layer_paths) {
    const ArchivedFile* layer = find(path);
    if (layer == nullptr) return not_an_archive(str("layer ", path, " is missing"));
    layers.push_back({{"mediaType", layer_type(layer->gzip)}, {"digest", layer->digest.text()}, {"size", layer->size}});
  }
  std::string document = base::dump_json({{"schemaVersion", 2},
                                          {"mediaType", kOciManifestType},
                                          {"config", config_descriptor},
                                          {"layers", std::move(layers)}});
  const Digest digest = Digest::of_bytes(document);
  return ArchivedImage{"", digest, std::string(kOciManifestType), std::move(document)};
}

Result<ArchivedImage> layout_image(const base::Json& entry, const FindFile& find) {
  TRY(const std::string digest_text, text_in(entry, "digest"));
  TRY(const std::string media_type, text_in(entry, "mediaType"));
  TRY(const Digest digest, Digest::parse(digest_text));
  const ArchivedFile* file = find(str(kBlobsPrefix, digest.hex()));
  if (file == nullptr || file->document.empty()) return not_an_archive(str("manifest ", digest.text(), " is missing"));
  return ArchivedImage{"", digest, media_type, file->document};
}

/// What the entry says about the image, whether that is there or not.
Status describe(const base::Json& entry, ArchivedImage& image) {
  TRY(const base::Json* platform, base::get_object(entry, "platform"));
  if (platform != nullptr) {
    TRY(image.platform, platform_in(*platform));
    image.is_attestation = image.platform->os == "unknown";
    if (image.platform->architecture.empty()) image.platform.reset();
  }
  TRY(const base::Json* annotations, base::get_object(entry, "annotations"));
  if (annotations == nullptr) return {};
  TRY(const std::string reference_type, text_in(*annotations, "vnd.docker.reference.type"));
  if (reference_type == "attestation-manifest") image.is_attestation = true;
  // containerd and docker write the full name beside the tag that other tools know.
  TRY(image.name, text_in(*annotations, "io.containerd.image.name"));
  if (!image.name.empty()) return {};
  TRY(image.name, text_in(*annotations, "org.opencontainers.image.ref.name"));
  image.only_tag = !image.name.empty() && image.name.find_first_of("/:@") == std::string::npos;
  return {};
}

}  // namespace

namespace {

Result<std::vector<ArchivedImage>> Import::run() {
  TRY_VOID(store_.create());
  TRY(staging_, Staging::create(ctx_, store_));
  struct stat info {};
  if (::fstat(fd_, &info) != 0) return Error::from_errno(errno, "the archive");
  TRY_VOID(S_ISDIR(info.st_mode) ? read_folder() : read_tar());
  const FindFile find_file = [this](const std::string& path) { return find(path); };
  std::vector<ArchivedImage> images;
  if (const ArchivedFile* index = find("index.json"); index != nullptr && find("oci-layout") != nullptr) {
    TRY(images, images_of_index(index->document, find_file));
  } else if (const ArchivedFile* manifest = find("manifest.json")) {
    TRY(images, images_of_docker_manifest(manifest->document, find_file));
  } else {
    return not_an_archive("it has neither index.json nor manifest.json");
  }
  if (images.empty()) return not_an_archive("it holds no image");
  TRY_VOID(commit(images));
  const bool none =
      std::all_of(images.begin(), images.end(), [](const auto& image) { return image.problem.has_value(); });
  if (none) return *images.front().problem;
  return images;
}

// One reader takes the compression off, another reads the tar, with what makes its headers sound in between.
Status Import::read_tar() {
  for (const auto support :
       {archive_read_support_filter_none, archive_read_support_filter_gzip, archive_read_support_filter_zstd,
        archive_read_support_filter_xz, archive_read_support_filter_bzip2, archive_read_support_format_raw,
        archive_read_support_format_empty}) {
    if (support(packed_.get()) != ARCHIVE_OK) return failure();
  }
  if (archive_read_open(packed_.get(), this, nullptr, &Import::on_read, nullptr) != ARCHIVE_OK) return failure();
  archive_entry* entry = nullptr;
  const int first = archive_read_next_header(packed_.get(), &entry);
  if (first == ARCHIVE_EOF) return {};
  if (first != ARCHIVE_OK && first != ARCHIVE_WARN) return failure();
  if (archive_read_support_format_tar(archive_.get()) != ARCHIVE_OK ||
      archive_read_open(archive_.get(), this, nullptr, &Import::on_tar, nullptr) != ARCHIVE_OK) {
    return failure();
  }
  for (;;) {
    TRY_VOID(ctx_.check());
    const int status = archive_read_next_header(archive_.get(), &entry);
    if (status == ARCHIVE_EOF) return {};
    if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return failure();
    if (++entries_ > kArchiveEntriesMax) {
      return not_an_archive(str("it has more than ", kArchiveEntriesMax, " entries"));
    }
    TRY_VOID(add(entry));
  }
}

Status Import::add(archive_entry* entry) {
  const char* path = archive_entry_pathname(entry);
  const std::string key = archive_key(path == nullptr ? "" : path);
  if (key.empty()) return {};
  if (const char* target = archive_entry_hardlink(entry)) {
    links_[key] = archive_key(target);
  } else if (archive_entry_filetype(entry) == AE_IFLNK) {
    const char* link = archive_entry_symlink(entry);
    const auto folder = key.rfind('/');
    links_[key] = archive_key(str(folder == std::string::npos ? "" : key.substr(0, folder + 1), link ? link : ""));
  } else if (archive_entry_filetype(entry) == AE_IFREG) {
    return add_file(key, static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0)),
                    [this](std::span<char> out) -> Result<std::size_t> {
                      const la_ssize_t size = archive_read_data(archive_.get(), out.data(), out.size());
                      if (size < 0) return failure();
                      return static_cast<std::size_t>(size);
                    });
  }
  return {};
}

// Only what a layout consists of, and no links: the folder may be a job's.
Status Import::read_folder() {
  std::vector<std::string> keys = {"oci-layout", "index.json"};
  TRY(base::Fd folder, base::open_beneath(fd_, "blobs/sha256", O_RDONLY | O_DIRECTORY));
  TRY(base::Dir blobs, base::Dir::read(std::move(folder), "blobs/sha256"));
  while (true) {
    TRY(const dirent* const entry, blobs.next());
    if (entry == nullptr) break;
    keys.push_back(str("blobs/sha256/", entry->d_name));
    if (keys.size() > kArchiveEntriesMax) return not_an_archive(str("it has more than ", kArchiveEntriesMax, " blobs"));
  }
  for (const std::string& key : keys) {
    TRY_VOID(ctx_.check());
    TRY(const base::Fd file, base::open_beneath(fd_, key, O_RDONLY | O_NONBLOCK));
    struct stat info {};
    if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
      return not_an_archive(str(key, " is not a regular file"));
    TRY_VOID(add_file(key, static_cast<std::uint64_t>(info.st_size),
                      [this, &file](std::span<char> out) { return base::read_some(ctx_, file.get(), out); }));
  }
  return {};
}

Status Import::add_file(const std::string& key, std::uint64_t size, const ReadPiece& read) {
  TRY(File file, store_file(key, size, read));
  if (const auto old = files_.find(key); old != files_.end()) forget(old->second);
  files_.insert_or_assign(key, std::move(file));
  return {};
}

void Import::forget(const File& file) {
  if (file.staged.empty()) {
    memory_bytes_ -= file.file.document.size();
  } else {
    ::unlink(file.staged.c_str());
  }
}

Result<Import::File> Import::store_file(const std::string& key, std::uint64_t size, const ReadPiece& read) {
  File file{{Digest::of_bytes(""), 0, false, {}}, ""};
  base::Fd out;
  if (size > kArchiveSmallBytesMax || memory_bytes_ + size > kArchiveMemoryBytesMax) {
    file.staged = staging_->path_of(files_made_++);
    TRY(out, base::open_file(file.staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  }
  auto copied = copy_file(out, read, file.file);
  if (copied && key.starts_with(kBlobsPrefix) && key.substr(kBlobsPrefix.size()) != file.file.digest.hex()) {
    copied = Error::data_loss(str("the archive is damaged: ", key, " has digest ", file.file.digest.text()));
  }
  if (copied) return file;
  forget(file);
  return std::move(copied).error();
}

/// To the file `out`, or, if there is none, into the document.
Status Import::copy_file(const base::Fd& out, const ReadPiece& read, ArchivedFile& file) {
  Hasher hasher;
  for (;;) {
    TRY(const std::size_t size, read(buffer_));
    if (size == 0) break;
    const std::string_view bytes = std::string_view(buffer_).substr(0, size);
    if (file.size == 0) file.gzip = bytes.starts_with("\x1f\x8b");
    file.size += size;
    bytes_ += size;
    if (bytes_ > kArchiveBytesMax)
      return not_an_archive(str("it is larger than the limit of ", kArchiveBytesMax >> 30, " GiB"));
    hasher.update(bytes);
    if (!out) {
      memory_bytes_ += size;
      file.document += bytes;
      if (file.size > kArchiveSmallBytesMax) return not_an_archive("a file in it is larger than it says");
      continue;
    }
    auto written = base::write_all(ctx_, out.get(), bytes);
    if (!written) return std::move(written).error().wrap("storing a file of the archive");
  }
  file.digest = hasher.finish();
  return {};
}

const ArchivedFile* Import::find(const std::string& path) {
  std::string key = archive_key(path);
  for (int links = 0; links < kLinksMax; ++links) {
    if (const auto file = files_.find(key); file != files_.end()) return with_document(file->second);
    const auto link = links_.find(key);
    if (link == links_.end()) return nullptr;
    key = link->second;
  }
  return nullptr;
}

/// One that is on the disk may be a document, too.
const ArchivedFile* Import::with_document(File& file) {
  if (!file.staged.empty() && file.file.document.empty() && file.file.size <= kArchiveDocumentBytesMax) {
    file.file.document = base::read_file(file.staged, kArchiveDocumentBytesMax).value_or("");
  }
  return &file.file;
}

// Everything that is a blob by its name, or that a manifest of ours leads to. The rest was only packaging.
Status Import::commit(std::vector<ArchivedImage>& images) {
  std::set<Digest> wanted;
  for (ArchivedImage& image : images) {
    if (image.problem) continue;
    const auto document = parse_manifest(image.document, image.media_type, "manifest");
    if (!document) {
      image.problem = document.error();
      continue;
    }
    if (image.media_type.empty()) image.media_type = media_type_in(image.document);
    TRY_VOID(put_document(store_, image.digest, image.document));
    const auto* manifest = std::get_if<Manifest>(&*document);
    if (manifest == nullptr) continue;  // an index: all its blobs have their names
    wanted.insert(manifest->config.digest);
    for (const Descriptor& layer : manifest->layers) wanted.insert(layer.digest);
  }
  for (const auto& [key, file] : files_) {
    if (key.starts_with(kBlobsPrefix)) wanted.insert(file.file.digest);
  }
  TRY_VOID(hold_.add_blobs(ctx_, {wanted.begin(), wanted.end()}));
  for (const auto& [key, file] : files_) {
    if (!wanted.contains(file.file.digest)) continue;
    const std::string path = store_.blob_path(file.file.digest);
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 && static_cast<std::uint64_t>(info.st_size) == file.file.size) continue;
    if (file.staged.empty()) {
      TRY_VOID(put_document(store_, file.file.digest, file.file.document));
      continue;
    }
    TRY(const base::Fd fd, base::open_file(file.staged, O_RDONLY | O_NOFOLLOW));
    if (::fdatasync(fd.get()) != 0 || ::fchmod(fd.get(), 0400) != 0 ||
        ::rename(file.staged.c_str(), path.c_str()) != 0) {
      return Error::from_errno(errno, str("storing blob ", file.file.digest.text()));
    }
  }
  return {};
}

la_ssize_t Import::on_read(archive*, void* self, const void** buffer) {
  auto* import = static_cast<Import*>(self);
  static thread_local std::string chunk(kReadBytes, '\0');
  auto size = base::read_some(import->ctx_, import->fd_, chunk);
  if (!size) {
    import->read_failure_ = std::move(size).error();
    return -1;
  }
  *buffer = chunk.data();
  return static_cast<la_ssize_t>(*size);
}

la_ssize_t Import::on_tar(archive*, void* self, const void** buffer) {
  auto* import = static_cast<Import*>(self);
  auto piece = import->headers_.next();
  if (!piece) {
    if (!import->read_failure_) import->read_failure_ = not_an_archive(piece.error().message);
    return -1;
  }
  *buffer = piece->data();
  return static_cast<la_ssize_t>(piece->size());
}

Result<std::string_view> Import::read_unpacked() {
  const void* data = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  const int status = archive_read_data_block(packed_.get(), &data, &size, &offset);
  if (status == ARCHIVE_EOF) return std::string_view();
  if (status != ARCHIVE_OK && status != ARCHIVE_WARN) {
    Error error = failure();
    read_failure_ = error;
    return error;
  }
  return std::string_view(static_cast<const char*>(data), size);
}

Error Import::failure() {
  if (read_failure_) return *read_failure_;
  const char* why = archive_error_string(packed_.get());
  if (why == nullptr) why = archive_error_string(archive_.get());
  return not_an_archive(why == nullptr ? "it cannot be read" : why);
}

}  // namespace
}  // namespace oci::fetch
