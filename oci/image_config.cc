#include "oci/image_config.h"

#include <utility>

#include "base/json.h"

namespace oci {

namespace {

base::Result<std::string> text_of(const base::Json& object, std::string_view key);
base::Result<std::vector<std::string>> texts_of(const base::Json& object, std::string_view key);
base::Status read_run_config(const base::Json& run, ImageConfig& config);
base::Result<std::vector<Digest>> read_diff_ids(const base::Json& document);

base::Result<ConfigDocument> read_document(const base::Json& document) {
  ConfigDocument out;
  TRY(out.config.os, text_of(document, "os"));
  TRY(out.config.architecture, text_of(document, "architecture"));
  TRY(out.config.variant, text_of(document, "variant"));
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

// A NUL would end the string early at the kernel's door, so that what was checked is not what is run.
base::Status check_text(const std::string& text, std::string_view key) {
  if (text.find('\0') == std::string::npos) return {};
  return base::Error::invalid_argument(base::str("\"", key, "\" contains a NUL byte"));
}

base::Result<std::string> text_of(const base::Json& object, std::string_view key) {
  TRY(auto text, base::get_string(object, key));
  if (!text) return std::string();
  TRY_VOID(check_text(*text, key));
  return std::move(*text);
}

base::Result<std::vector<std::string>> texts_of(const base::Json& object, std::string_view key) {
  TRY(auto texts, base::get_string_list(object, key));
  if (!texts) return std::vector<std::string>();
  for (const std::string& text : *texts) TRY_VOID(check_text(text, key));
  return std::move(*texts);
}

base::Status read_run_config(const base::Json& run, ImageConfig& config) {
  TRY(config.env, texts_of(run, "Env"));
  TRY(config.entrypoint, texts_of(run, "Entrypoint"));
  TRY(config.cmd, texts_of(run, "Cmd"));
  TRY(config.working_dir, text_of(run, "WorkingDir"));
  TRY(config.user, text_of(run, "User"));
  TRY(config.stop_signal, text_of(run, "StopSignal"));
  TRY(const base::Json* volumes, base::get_object(run, "Volumes"));
  if (volumes != nullptr) {
    for (const auto& [path, ignored] : volumes->items()) {
      TRY_VOID(check_text(path, "Volumes"));
      config.volumes.push_back(path);
    }
  }
  TRY(const base::Json* labels, base::get_object(run, "Labels"));
  if (labels != nullptr) {
    for (const auto& [key, value] : labels->items()) {
      if (!value.is_string()) {
        return base::Error::invalid_argument(base::str("label \"", key, "\" is not a string"));
      }
      config.labels.emplace(key, value.get<std::string>());
    }
  }
  return {};
}

base::Result<std::vector<Digest>> read_diff_ids(const base::Json& document) {
  TRY(const base::Json* rootfs, base::get_object(document, "rootfs"));
  if (rootfs == nullptr) return base::Error::invalid_argument("there is no \"rootfs\"");
  TRY(const auto type, base::get_string(*rootfs, "type"));
  if (type != "layers") return base::Error::invalid_argument("\"rootfs.type\" is not \"layers\"");
  TRY(const auto texts, base::get_string_list(*rootfs, "diff_ids"));
  if (!texts || texts->empty()) return base::Error::invalid_argument("the image has no layers");
  if (texts->size() > kLayersMax) {
    return base::Error::invalid_argument(
        base::str("the image has ", texts->size(), " layers; at most ", kLayersMax, " are supported"));
  }
  std::vector<Digest> diff_ids;
  for (const std::string& text : *texts) {
    TRY(auto digest, Digest::parse(text));
    diff_ids.push_back(std::move(digest));
  }
  return diff_ids;
}

}  // namespace

}  // namespace oci
