// The config document of an image: what a container of it runs, and which layers it is made of. Pure.
// spec: image-spec config.md
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace oci {

constexpr std::size_t kConfigBytesMax = 4u << 20;
/// What the overlay of one container can be made of, with room below the kernel's 500; Docker's own limit is 127.
constexpr std::size_t kLayersMax = 128;

/// The part of an image's config that a container is made from. All of it is the image author's word: hostile.
struct ImageConfig {
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string working_dir;
  std::string user;
  std::string stop_signal;
  std::vector<std::string> volumes;
  std::map<std::string, std::string> labels;
  std::string os;            ///< never empty; these three as platform_in() has them
  std::string architecture;  ///< "" if the image does not say
  std::string variant;
};

struct ConfigDocument {
  ImageConfig config;
  std::vector<Digest> diff_ids;  ///< one a layer, bottom first: digests of the uncompressed tars; none: an empty image
};

/// Parses and checks a config. `what` names it in messages ("config sha256:…").
///   errors  kInvalidArgument: not JSON, a member of another type, a NUL in a string, too many layers
base::Result<ConfigDocument> parse_config(std::string_view text, std::string_view what);

}  // namespace oci
