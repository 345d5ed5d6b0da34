#include "oci/members.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/json.h"

namespace oci {

namespace {

base::Status check_text(const std::string& text, std::string_view key) {
  if (text.find('\0') == std::string::npos) return {};
  return base::Error::invalid_argument(base::str("\"", key, "\" contains a NUL byte"));
}

}  // namespace

base::Result<std::string> text_in(const base::Json& object, std::string_view key) {
  TRY(auto text, base::get_string(object, key));
  if (!text) return std::string();
  TRY_VOID(check_text(*text, key));
  return std::move(*text);
}

base::Result<std::vector<std::string>> texts_in(const base::Json& object, std::string_view key, OneText one) {
  std::vector<std::string> out;
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return out;
  if (one == OneText::kAllowed && found->is_string()) {
    TRY(auto text, text_in(object, key));
    if (!text.empty()) out.push_back(std::move(text));
    return out;
  }
  TRY(const base::Json* list, base::get_array(object, key));
  for (const base::Json& element : *list) {
    if (!element.is_null() && !element.is_string()) {
      return base::Error::invalid_argument(base::str("\"", key, "\" must be a list of strings"));
    }
    out.push_back(element.is_null() ? "" : element.get<std::string>());
    TRY_VOID(check_text(out.back(), key));
  }
  return out;
}

base::Result<Platform> platform_in(const base::Json& object) {
  Platform platform;
  TRY(platform.os, text_in(object, "os"));
  TRY(platform.architecture, text_in(object, "architecture"));
  TRY(platform.variant, text_in(object, "variant"));
  TRY(platform.os_features, texts_in(object, "os.features"));
  if (platform.os.empty()) platform.os = "linux";
  return normalize(std::move(platform));
}

base::Result<std::int64_t> schema_version_in(const base::Json& document) {
  TRY(const auto version, base::get_int(document, "schemaVersion"));
  return version.value_or(0) == 0 ? std::int64_t{2} : *version;
}

base::Result<std::string> rootfs_type_in(const base::Json& rootfs) {
  TRY(auto type, text_in(rootfs, "type"));
  if (type.empty()) type = "layers";
  return type;
}

bool is_untold_config_type(std::string_view media_type) {
  constexpr std::array<std::string_view, 4> kTypes = {"", "application/octet-stream", "application/json", "text/plain"};
  return std::find(kTypes.begin(), kTypes.end(), media_type) != kTypes.end();
}

}  // namespace oci
