// The messages between Images and the helper program. A line of JSON goes to the helper's stdin, lines of JSON come
// from its stdout; credentials are passed nowhere else, so that they are in no argv and no environment. Pure.
//
//   → {"data_dir":"/var/lib/…","reference":"docker.io/library/redis:7","username":"…","password":"…",
//      "hosts_dir":"/etc/…","archive":false,"confirm":true,"platform":"","login":false}
//   ← {"progress":{"bytes_done":1,"bytes_total":2,"layers_done":0,"layers_total":5,
//                 "under_way":[{"digest":"sha256:…","bytes_done":1,"bytes_total":2}]}}           any number
//   ← {"warning":"…"}                                                                      any number
//   ← {"resolved":{"reference":"…","media_type":"…","digest":"sha256:…","size":1234}}      with "confirm", each image
//   → go                                            nothing but its manifest is fetched, or unpacked, before that
//   ← {"done":{"references":["docker.io/library/redis:7"],"left_out":["…"]}}  or  {"error":{"code":14,"message":"…"}}
//                                                                                                     once, last
//
// With "archive" the image comes from descriptor 3, an archive or the folder of an OCI layout, and "reference" is its
// name in there; "" means all that are in there. With "login" nothing is fetched: the registry of the reference is
// asked whether it accepts the credentials.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "oci/images.h"
#include "oci/manifest.h"

namespace oci {

constexpr std::size_t kHelperRequestBytesMax = 256u << 10;
/// Of a warning's or error's text: what is longer is cut when it is sent.
constexpr std::size_t kHelperTextBytesMax = 16u << 10;
constexpr std::size_t kHelperLeftOutMax = 100;
constexpr std::size_t kHelperLeftOutBytesMax = 200;  ///< of each of these texts
/// The longest lines: the text above with every byte escaped ("\u0001"), the names of all images of an archive, the
/// progress of 128 layers.
constexpr std::size_t kHelperLineBytesMax = 256u << 10;
/// The answer to HelperResolved; the helper gives up if stdin ends without it.
constexpr std::string_view kHelperGo = "go";
/// How long the helper waits for it: the driver has its own, shorter limit for a pull.
constexpr std::chrono::hours kHelperGoTimeMax{1};

struct HelperRequest {
  std::string data_dir;
  std::string reference;
  Credentials credentials;
  std::string hosts_dir;      ///< as ImagesOptions::hosts_dir
  bool archive = false;       ///< from kArchiveFd instead of a registry
  bool confirm = false;       ///< ask for approval of each image
  std::string platform = {};  ///< as wanted_platform() says it
  bool login = false;         ///< only ask the registry whether it accepts the credentials
};
constexpr int kArchiveFd = 3;

struct HelperWarning {
  std::string text;
};
struct HelperDone {
  std::vector<std::string> references;     ///< of what is in the store now
  std::vector<std::string> left_out = {};  ///< for a person: what of an archive is not, and why
};
/// What a name leads to. The helper goes on when that is approved.
struct HelperResolved {
  std::string reference;  ///< canonical
  Descriptor image;       ///< of the manifest or index
};
using HelperEvent = std::variant<PullProgress, HelperWarning, HelperDone, base::Error, HelperResolved>;

/// One line, with its newline.
///   errors  kInvalidArgument longer than kHelperRequestBytesMax: that is the credentials
base::Result<std::string> encode(const HelperRequest& request);
base::Result<HelperRequest> decode_request(std::string_view text);

/// One line, with its newline, not longer than kHelperLineBytesMax. What the helper says may come from an image or a
/// registry, or from whoever took it over: texts are decoded as base::printable() has them, and names with blanks or
/// control characters are errors.
std::string encode(const HelperEvent& event);
base::Result<HelperEvent> decode_event(std::string_view line);

}  // namespace oci
