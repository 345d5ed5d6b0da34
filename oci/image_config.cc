#include "oci/image_config.h"

#include <utility>

#include "base/json.h"
#include "oci/members.h"

namespace oci {

namespace {

base::Status read_run_config(const base::Json& run, ImageConfig& config);
base::Result<std::vector<Digest>> read_diff_ids(const base::Json& document);

base::Result<ConfigDocument> read_document(const base::Json& document) {
  ConfigDocument out;
  TRY(auto platform, platform_in(document));
  out.config.os = std::move(platform.os);
  out.config.architecture = std::move(platform.architecture);
  out.config.variant = std::move(platform.variant);
  TRY(const base::Json* run, base::get_object(document, "config"));
  if (run != nullptr) TRY_VOID(read_run_config(*run, out.config));
  TRY(out.diff_ids, read_diff_ids(document));
  return out;
}

}  // namespace

base::Result<ConfigDocument> parse_config(std::string_view text, std::string_view what) {
  base::JsonLimits limits;
  limits.bytes_max = kConfigBytesMax;
  auto parsed = base::parse_json(text, what, limits);
  if (!parsed) return base::Error::invalid_argument(parsed.error().message);  // past a limit: no retry would help
  const base::Json& document = *parsed;
  if (!document.is_object()) return base::Error::invalid_argument(base::str(what, " is not a JSON object"));
  auto out = read_document(document);
  if (!out) return std::move(out).error().wrap(what);
  return out;
}

namespace {

base::Status read_run_config(const base::Json& run, ImageConfig& config) {
  TRY(config.env, texts_in(run, "Env"));
  TRY(config.entrypoint, texts_in(run, "Entrypoint", OneText::kAllowed));
  TRY(config.cmd, texts_in(run, "Cmd", OneText::kAllowed));
  TRY(config.working_dir, text_in(run, "WorkingDir"));
  TRY(config.user, text_in(run, "User"));
  TRY(config.stop_signal, text_in(run, "StopSignal"));
  TRY(const base::Json* volumes, base::get_object(run, "Volumes"));
  if (volumes != nullptr) {
    for (const auto& [path, ignored] : volumes->items()) {
      if (path.find('\0') != std::string::npos) {
        return base::Error::invalid_argument("\"Volumes\" contains a NUL byte");
      }
      config.volumes.push_back(path);
    }
  }
  TRY(const base::Json* labels, base::get_object(run, "Labels"));
  if (labels != nullptr) {
    for (const auto& [key, value] : labels->items()) {
      if (!value.is_string() && !value.is_null()) {
        return base::Error::invalid_argument(base::str("label \"", key, "\" is not a string"));
      }
      config.labels.emplace(key, value.is_null() ? "" : value.get<std::string>());
    }
  }
  return {};
}

base::Result<std::vector<Digest>> read_diff_ids(const base::Json& document) {
  std::vector<Digest> diff_ids;
  TRY(const base::Json* rootfs, base::get_object(document, "rootfs"));
  if (rootfs == nullptr) return diff_ids;
  TRY(const auto type, rootfs_type_in(*rootfs));
  if (type != "layers") return base::Error::invalid_argument("\"rootfs.type\" is not \"layers\"");
  TRY(const auto texts, texts_in(*rootfs, "diff_ids"));
  if (texts.size() > kLayersMax) {
    return base::Error::invalid_argument(
        base::str("the image has ", texts.size(), " layers; at most ", kLayersMax, " are supported"));
  }
  for (const std::string& text : texts) {
    TRY(auto digest, Digest::parse(text));
    diff_ids.push_back(std::move(digest));
  }
  return diff_ids;
}

}  // namespace

}  // namespace oci
