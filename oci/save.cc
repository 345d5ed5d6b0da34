#include "oci/save.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "oci/hold.h"
#include "oci/reference.h"
#include "oci/tar_format.h"

namespace oci {

namespace {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

constexpr std::string_view kLayoutText = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::size_t kCopyBytes = 256u << 10;

Result<SavedImage> read_image(Store& store, const std::string& reference);
Result<std::map<Digest, std::uint64_t>> blobs_of(const std::vector<SavedImage>& images);
std::string blob_name(const Digest& digest);
Status save_text(ArchiveSink& sink, const std::string& path, std::string_view text);
Status save_blob(const base::Context& ctx, const Store& store, const Digest& digest, std::uint64_t size,
                 ArchiveSink& sink);
Status copy_blob(const base::Context& ctx, int fd, const Digest& digest, std::uint64_t size, ArchiveSink& sink);
Status make_folder(int root, const std::string& path);

}  // namespace

Status save_images(const base::Context& ctx, Store& store, const std::vector<std::string>& references,
                   ArchiveFormat format, ArchiveSink& sink) {
  std::vector<SavedImage> images;
  for (const std::string& reference : references) {
    TRY(auto image, read_image(store, reference));
    images.push_back(std::move(image));
  }
  TRY(const auto blobs, blobs_of(images));
  TRY(const auto hold, Hold::create(ctx, store, str("saving ", references.empty() ? "" : references.front())));
  std::vector<Digest> digests;
  for (const auto& [digest, size] : blobs) digests.push_back(digest);
  TRY_VOID(hold->add_blobs(ctx, digests));

  TRY_VOID(save_text(sink, "oci-layout", kLayoutText));
  TRY_VOID(save_text(sink, "index.json", saved_index(images)));
  if (format == ArchiveFormat::kDocker) TRY_VOID(save_text(sink, "manifest.json", saved_docker_manifest(images)));
  for (const auto& [digest, size] : blobs) TRY_VOID(save_blob(ctx, store, digest, size, sink));
  return {};
}

std::string saved_index(const std::vector<SavedImage>& images) {
  Json manifests = Json::array();
  for (const auto& [record, manifest] : images) {
    manifests.push_back(
        {{"mediaType", record.media_type},
         {"digest", record.manifest_digest.text()},
         {"size", record.manifest_bytes},
         {"platform", {{"os", "linux"}, {"architecture", record.architecture}}},
         {"annotations",
          {{"org.opencontainers.image.ref.name", record.reference}, {"io.containerd.image.name", record.reference}}}});
  }
  return base::dump_json({{"schemaVersion", 2}, {"mediaType", kOciIndexType}, {"manifests", std::move(manifests)}});
}

std::string saved_docker_manifest(const std::vector<SavedImage>& images) {
  Json entries = Json::array();
  std::map<Digest, std::size_t> places;  // of an image's entry, by its manifest
  for (const auto& [record, manifest] : images) {
    const auto [place, is_new] = places.emplace(record.manifest_digest, entries.size());
    if (is_new) {
      Json layers = Json::array();
      for (const Descriptor& layer : manifest.layers) layers.push_back(blob_name(layer.digest));
      entries.push_back(
          {{"Config", blob_name(manifest.config.digest)}, {"RepoTags", Json::array()}, {"Layers", std::move(layers)}});
    }
    const auto reference = Reference::parse(record.reference);
    if (reference && !reference->digest()) entries[place->second]["RepoTags"].push_back(record.reference);
  }
  return base::dump_json(entries);
}

Status TarSink::begin_file(const std::string& path, std::uint64_t size) {
  size_ = size;
  // Owned by root and of no time, so that the same images make the same archive.
  TarEntry entry;
  entry.path = path;
  entry.mode = 0644;
  entry.size_bytes = size;
  return write(tar_head(entry));
}

Status TarSink::write(std::string_view piece) {
  return base::write_all(ctx_, fd_, piece);
}

Status TarSink::finish_file() {
  return write(tar_padding(size_));
}

Status TarSink::finish() {
  return write(tar_end());
}

Status FolderSink::begin_file(const std::string& path, std::uint64_t) {
  for (std::size_t end = path.find('/'); end != std::string::npos; end = path.find('/', end + 1)) {
    TRY_VOID(make_folder(folder_, path.substr(0, end)));
  }
  TRY(file_, base::open_beneath(folder_, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644));
  return {};
}

Status FolderSink::write(std::string_view piece) {
  return base::write_all(ctx_, file_.get(), piece);
}

Status FolderSink::finish_file() {
  if (::fdatasync(file_.get()) != 0) return Error::from_errno(errno, "writing into the folder");
  file_.reset();
  return {};
}

Status FolderSink::finish() {
  for (const char* folder : {"blobs/sha256", "blobs", "."}) {
    TRY(const auto fd, base::open_beneath(folder_, folder, O_RDONLY | O_DIRECTORY));
    if (::fsync(fd.get()) != 0) return Error::from_errno(errno, "writing the folder");
  }
  return {};
}

namespace {

Result<SavedImage> read_image(Store& store, const std::string& reference) {
  TRY(auto record, store.record(reference));
  const std::string what = str("manifest ", record.manifest_digest.text());
  TRY(const auto text, store.read_document(record.manifest_digest, kManifestBytesMax));
  TRY(auto document, parse_manifest(text, record.media_type, what));
  auto* manifest = std::get_if<Manifest>(&document);
  if (manifest == nullptr) return Error::invalid_argument(str(what, " is an index, not a manifest"));
  record.manifest_bytes = text.size();
  return SavedImage{std::move(record), std::move(*manifest)};
}

Result<std::map<Digest, std::uint64_t>> blobs_of(const std::vector<SavedImage>& images) {
  std::map<Digest, std::uint64_t> blobs;
  for (const auto& [record, manifest] : images) {
    blobs.emplace(record.manifest_digest, record.manifest_bytes);
    std::vector<Descriptor> parts = manifest.layers;
    parts.push_back(manifest.config);
    for (const Descriptor& part : parts) {
      const auto [known, is_new] = blobs.emplace(part.digest, part.size);
      if (is_new || known->second == part.size) continue;
      return Error::invalid_argument(
          str("blob ", part.digest.text(), " has ", known->second, " bytes here and ", part.size, " there"));
    }
  }
  return blobs;
}

std::string blob_name(const Digest& digest) {
  return str("blobs/sha256/", digest.hex());
}

Status save_text(ArchiveSink& sink, const std::string& path, std::string_view text) {
  TRY_VOID(sink.begin_file(path, text.size()));
  TRY_VOID(sink.write(text));
  return sink.finish_file();
}

Status save_blob(const base::Context& ctx, const Store& store, const Digest& digest, std::uint64_t size,
                 ArchiveSink& sink) {
  const auto fd = open_stored_file(store.blob_path(digest), O_RDONLY);
  if (!fd && fd.error().code == base::Code::kNotFound) {
    // Two images may have a layer in common that registries keep compressed differently: only one of them was fetched.
    return Error::not_found(str("blob ", digest.text(),
                                " is not in the store, only what was unpacked from one like it; "
                                "pull the image into another --data-dir and save it from there"));
  }
  if (!fd) return fd.error();
  TRY_VOID(sink.begin_file(blob_name(digest), size));
  TRY_VOID(copy_blob(ctx, fd->get(), digest, size, sink));
  return sink.finish_file();
}

Status copy_blob(const base::Context& ctx, int fd, const Digest& digest, std::uint64_t size, ArchiveSink& sink) {
  const auto damaged = [&] {
    return Error::data_loss(str("blob ", digest.text(), " is damaged: see containerd-driver fsck --repair"));
  };
  Hasher hasher;
  std::vector<char> buffer(kCopyBytes);
  std::uint64_t left = size;
  for (;;) {
    TRY(const std::size_t got, base::read_some(ctx, fd, buffer));
    if (got > left) return damaged();
    if (got == 0) break;
    const std::string_view piece(buffer.data(), got);
    hasher.update(piece);
    TRY_VOID(sink.write(piece));
    left -= got;
  }
  if (left != 0 || hasher.finish() != digest) return damaged();
  return {};
}

// With this mode whatever the umask is; it may be there.
Status make_folder(int root, const std::string& path) {
  if (::mkdirat(root, path.c_str(), 0755) == 0) {
    TRY(const auto made, base::open_beneath(root, path, O_RDONLY | O_DIRECTORY));
    if (::fchmod(made.get(), 0755) == 0) return {};
  } else if (errno == EEXIST) {
    return {};
  }
  return Error::from_errno(errno, str("creating ", path));
}

}  // namespace
}  // namespace oci
