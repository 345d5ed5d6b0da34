#include "base/json.h"
#include "base/text.h"
#include "cli/documents.h"
#include "cli/verb.h"
#include "oci/platform.h"
#include "oci/reference.h"
#include "oci/store.h"

namespace cli {

using base::Json;
using base::Result;
using base::str;

namespace {

struct ConfigBlob {
  std::string id;
  Json config;  // the whole document
};

Result<ConfigBlob> read_config_blob(const oci::Store& store, const oci::Digest& digest);
void add_docker_form(const ConfigBlob& blob, const oci::Image& image, Json& out);
Json keys_of(const Json& object, const char* key);

}  // namespace

Result<Json> image_document(const std::string& data_dir, const std::string& reference) {
  oci::Store store(data_dir);
  TRY(const oci::ImageRecord record, store.record(reference));
  TRY(const oci::Image image, store.load(record));
  TRY(const ConfigBlob blob, read_config_blob(store, *image.config_digest));
  const oci::ImageConfig& config = image.config;
  Json out = {{"reference", image.reference},
              {"digest", image.manifest_digest.text()},
              {"resolved_digest", image.resolved_digest.text()},
              {"platform", oci::to_string(oci::normalize({config.os, config.architecture, config.variant, {}}))},
              {"size_bytes", image.size_bytes},
              {"pulled_at", json_time(image.pulled_at_unix)},
              {"layer_dirs", image.layer_dirs},
              {"config",
               {{"entrypoint", config.entrypoint},
                {"cmd", config.cmd},
                {"env", config.env},
                {"user", config.user},
                {"working_dir", config.working_dir},
                {"stop_signal", config.stop_signal},
                {"volumes", config.volumes},
                {"labels", config.labels}}}};
  if (image.verdict) {
    out["verified"] = {
        {"by", image.verdict->verifiers}, {"word", image.verdict->word}, {"at", json_time(image.verdict->at_unix)}};
  }
  add_docker_form(blob, image, out);
  return out;
}

namespace {

Result<ConfigBlob> read_config_blob(const oci::Store& store, const oci::Digest& digest) {
  TRY(const std::string text, store.read_document(digest, oci::kConfigBytesMax));
  base::JsonLimits limits;
  limits.duplicate_keys = true;  // as the store has accepted it
  TRY(Json config, base::parse_json(text, str("config ", digest.text()), limits));
  return ConfigBlob{digest.text(), std::move(config)};
}

void add_docker_form(const ConfigBlob& blob, const oci::Image& image, Json& out) {
  const oci::ImageConfig& config = image.config;
  const auto reference = oci::Reference::parse(image.reference);
  Json tags = Json::array();
  Json digests = Json::array();
  if (reference) {
    if (!reference->tag().empty()) tags.push_back(image.reference);
    digests.push_back(str(reference->host(), "/", reference->repository(), "@", image.resolved_digest.text()));
  }
  Json volumes = Json::object();
  for (const std::string& volume : config.volumes) volumes[volume] = Json::object();
  const auto created = base::get_string(blob.config, "created");
  const auto author = base::get_string(blob.config, "author");
  const auto rootfs = base::get_object(blob.config, "rootfs");
  out.update(
      {{"Id", blob.id},
       {"Digest", image.manifest_digest.text()},
       {"RepoTags", std::move(tags)},
       {"RepoDigests", std::move(digests)},
       {"Created", created && *created ? **created : ""},
       {"Author", author && *author ? **author : ""},
       {"Architecture", config.architecture},
       {"Variant", config.variant},
       {"Os", config.os},
       {"Size", image.size_bytes},
       {"Labels", config.labels},
       {"Config",
        {{"User", config.user},
         {"Env", config.env},
         {"Entrypoint", config.entrypoint},
         {"Cmd", config.cmd},
         {"WorkingDir", config.working_dir},
         {"Labels", config.labels},
         {"StopSignal", config.stop_signal},
         {"Volumes", std::move(volumes)},
         {"ExposedPorts", keys_of(blob.config, "ExposedPorts")}}},
       {"RootFS",
        {{"Type", "layers"},
         {"Layers", rootfs && *rootfs != nullptr ? (*rootfs)->value("diff_ids", Json::array()) : Json::array()}}}});
}

// A member of the image's "config" whose keys alone mean something.
Json keys_of(const Json& object, const char* key) {
  Json keys = Json::object();
  const auto config = base::get_object(object, "config");
  if (!config || *config == nullptr) return keys;
  const auto member = base::get_object(**config, key);
  if (!member || *member == nullptr) return keys;
  for (const auto& [name, value] : (*member)->items()) keys[name] = Json::object();
  return keys;
}

}  // namespace
}  // namespace cli
