// What Images and the helper program say to each other. One JSON document goes to the helper's stdin, JSON lines come
// from its stdout; credentials travel nowhere else, so that they are in no argv and no environment. Pure.
//
//   → {"data_dir":"/var/lib/…","reference":"docker.io/library/redis:7","username":"…","password":"…",
//      "hosts_dir":"/etc/…"}
//   ← {"progress":{"bytes_done":1,"bytes_total":2,"layers_done":0,"layers_total":5}}      any number
//   ← {"warning":"…"}                                                                      any number
//   ← {"done":{}}  or  {"error":{"code":14,"message":"…"}}                                 once, last
#pragma once

#include <string>
#include <string_view>
#include <variant>

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
};

struct HelperWarning {
  std::string text;
};
struct HelperDone {};
using HelperEvent = std::variant<PullProgress, HelperWarning, HelperDone, base::Error>;

std::string encode(const HelperRequest& request);
base::Result<HelperRequest> decode_request(std::string_view text);

/// One line, with its newline.
std::string encode(const HelperEvent& event);
base::Result<HelperEvent> decode_event(std::string_view line);

}  // namespace oci
