// What Images and the helper program say to each other. One JSON document goes to the helper's stdin, JSON lines come
// from its stdout; credentials travel nowhere else, so that they are in no argv and no environment. Pure.
//
//   → {"data_dir":"/var/lib/…","reference":"docker.io/library/redis:7","username":"…","password":"…",
//      "hosts_dir":"/etc/…","archive":false}
//   ← {"progress":{"bytes_done":1,"bytes_total":2,"layers_done":0,"layers_total":5}}      any number
//   ← {"warning":"…"}                                                                      any number
//   ← {"done":{"references":["docker.io/library/redis:7"]}}  or  {"error":{"code":14,"message":"…"}}     once, last
//
// With "archive" the image comes from descriptor 3, an archive or the folder of an OCI layout, and "reference" is its
// name in there; "" means all that are in there.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "oci/images.h"

namespace oci {

constexpr std::size_t kHelperRequestBytesMax = 256u << 10;
constexpr std::size_t kHelperLineBytesMax = 64u << 10;

struct HelperRequest {
  std::string data_dir;
  std::string reference;
  Credentials credentials;
  std::string hosts_dir;  ///< as ImagesOptions::hosts_dir
  bool archive = false;   ///< from kArchiveFd instead of a registry
};
constexpr int kArchiveFd = 3;

struct HelperWarning {
  std::string text;
};
struct HelperDone {
  std::vector<std::string> references;  ///< of what is in the store now
};
using HelperEvent = std::variant<PullProgress, HelperWarning, HelperDone, base::Error>;

std::string encode(const HelperRequest& request);
base::Result<HelperRequest> decode_request(std::string_view text);

/// One line, with its newline.
std::string encode(const HelperEvent& event);
base::Result<HelperEvent> decode_event(std::string_view line);

}  // namespace oci
