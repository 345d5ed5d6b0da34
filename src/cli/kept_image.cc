#include "cli/kept_image.h"

#include "oci/images.h"
#include "oci/platform.h"
#include "oci/reference.h"
#include "oci/store.h"

namespace cli {

namespace {

using base::Result;
using base::Status;
using base::str;

Result<oci::ImageRecord> record_of(const oci::Store& store, const std::string& reference, const oci::Digest& digest,
                                   const std::string& platform);

}  // namespace

void note_image(const std::string& data_dir, const driver::TaskOptions& options, Definition& definition) {
  oci::Images images({.data_dir = data_dir, .helper = ""});
  const auto image = images.find(options.image, options.platform);
  if (!image) return;
  definition.image = image->reference;
  definition.image_digest = image->manifest_digest.text();
}

Status use_noted_image(const base::Context& ctx, const std::string& data_dir, const Definition& definition,
                       driver::TaskOptions& options) {
  const auto name = oci::Reference::parse(definition.image);
  const auto digest = oci::Digest::parse(definition.image_digest);
  if (!name || !digest) return {};  // an archive, or made before this was noted
  options.image = definition.image;
  oci::Images images({.data_dir = data_dir, .helper = ""});
  const auto now = images.find(definition.image, options.platform);
  if (now && now->manifest_digest == *digest) return {};
  options.image = str(name->host(), "/", name->repository(), "@", digest->text());
  if (images.find(options.image, options.platform)) return {};
  oci::Store store(data_dir);
  TRY(const auto lease, store.lease(ctx, oci::Store::Lease::kShared));
  auto record = record_of(store, options.image, *digest, options.platform);
  if (!record && record.error().code == base::Code::kNotFound) return {};  // its registry may still have it
  if (!record) return std::move(record).error();
  return store.put_record(ctx, *record);
}

namespace {

// kNotFound: a part of it is not here.
Result<oci::ImageRecord> record_of(const oci::Store& store, const std::string& reference, const oci::Digest& digest,
                                   const std::string& platform) {
  TRY(const auto text, store.read_document(digest, oci::kManifestBytesMax));
  TRY(std::string wanted, oci::wanted_platform(platform));
  oci::ImageRecord record{reference, oci::media_type_in(text), digest, text.size(), digest, {}, 0};
  record.resolved_media_type = record.media_type;
  record.resolved_bytes = record.manifest_bytes;
  record.platform = std::move(wanted);
  TRY(const auto image, store.load(record));
  record.architecture = image.config.architecture;
  return record;
}

}  // namespace
}  // namespace cli
