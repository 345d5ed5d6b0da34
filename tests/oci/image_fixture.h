// Images put into a store by hand, without a registry.
#pragma once

#include <sys/stat.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "oci/store.h"

namespace tests {

inline oci::Digest add_blob(const oci::Store& store, const std::string& bytes) {
  const auto digest = oci::Digest::of_bytes(bytes);
  std::ofstream(store.blob_path(digest)) << bytes;
  return digest;
}

/// A complete image whose layers have the diff ids sha256("<layer>"), and empty folders.
inline oci::ImageRecord add_image(oci::Store& store, const std::string& reference,
                                  const std::vector<std::string>& layers) {
  base::Json diff_ids = base::Json::array();
  base::Json descriptors = base::Json::array();
  std::vector<oci::Digest> digests;
  for (const std::string& layer : layers) {
    digests.push_back(oci::Digest::of_bytes(layer));
    diff_ids.push_back(digests.back().text());
    descriptors.push_back({{"mediaType", "application/vnd.oci.image.layer.v1.tar+gzip"},
                           {"digest", digests.back().text()},
                           {"size", 100}});
  }
  for (const oci::Digest& chain_id : oci::chain_ids(digests)) ::mkdir(store.layer_path(chain_id).c_str(), 0755);
  const std::string config = base::dump_json({{"os", "linux"},
                                              {"architecture", "amd64"},
                                              {"config", {{"Cmd", {"sh"}}}},
                                              {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}});
  const std::string manifest = base::dump_json({{"schemaVersion", 2},
                                                {"mediaType", oci::kOciManifestType},
                                                {"config",
                                                 {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                                                  {"digest", add_blob(store, config).text()},
                                                  {"size", config.size()}}},
                                                {"layers", descriptors}});
  const auto digest = add_blob(store, manifest);
  const oci::ImageRecord record{reference, std::string(oci::kOciManifestType), digest, manifest.size(), digest, "amd64",
                                1};
  if (!store.put_record(base::Context::cleanup(), record)) ::abort();
  return record;
}

}  // namespace tests
