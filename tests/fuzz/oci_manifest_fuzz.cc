// Documents from a registry or a damaged store: manifests, indexes, configs, index.json. What parses is within limits.
#include <cstdlib>
#include <string_view>

#include "oci/image_config.h"
#include "oci/manifest.h"
#include "oci/pull_protocol.h"
#include "oci/store.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const std::string_view type : {std::string_view(), oci::kOciManifestType, oci::kOciIndexType}) {
    const auto document = oci::parse_manifest(text, type, "fuzz");
    if (!document) continue;
    if (const auto* manifest = std::get_if<oci::Manifest>(&*document)) {
      if (type == oci::kOciIndexType) std::abort();
      if (manifest->layers.size() > oci::kLayersMax) std::abort();
    } else {
      if (type == oci::kOciManifestType) std::abort();
      const auto found = oci::candidates(std::get<oci::Index>(*document), {"linux", "arm64", "v8.2", {}}, "fuzz");
      if (found && found->empty()) std::abort();
    }
  }
  if (const auto config = oci::parse_config(text, "fuzz")) {
    if (oci::chain_ids(config->diff_ids).size() != config->diff_ids.size()) std::abort();
  }
  if (const auto records = oci::parse_index_file(text)) {
    const auto again = oci::parse_index_file(oci::format_index_file(*records));
    if (!again || again->size() != records->size()) std::abort();
  }
  [[maybe_unused]] const auto event = oci::decode_event(text);
  [[maybe_unused]] const auto request = oci::decode_request(text);
  return 0;
}
