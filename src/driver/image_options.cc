// The rows of the option table that decide which images a node takes.
#include "driver/image_policy.h"
#include "driver/image_verifier.h"
#include "driver/option_checks.h"

namespace driver {

using base::Status;
using base::str;

namespace {

Status check_image_verifier(const std::string& where, const ImageVerifierOptions& options) {
  if (!options.bin_dir.empty()) return {};
  return base::Error::invalid_argument(
      str(where, ".bin_dir is missing: give the folder with the verifiers, like /opt/image-verifiers, or leave ", where,
          " out"));
}

const OptionTable<ImageVerifierOptions>& image_verifier_table() {
  static const OptionTable<ImageVerifierOptions> table = {
      text("bin_dir", &ImageVerifierOptions::bin_dir,
           {.example = "\"/opt/image-verifiers\"",
            .text = "The folder with the programs: nothing else may be in it, and only root may write to it.",
            .check = check_absolute}),
      number("max_verifiers", &ImageVerifierOptions::max_verifiers, 1, kVerifiersMax,
             {.example = "3", .text = "With more programs than this in the folder no image is let in."}),
      duration("per_verifier_timeout", &ImageVerifierOptions::per_verifier_timeout, std::chrono::milliseconds(100),
               {.example = "\"30s\"",
                .text = "How long one program may think about an image. `image_pull_timeout` goes on meanwhile."}),
  };
  return table;
}

}  // namespace

OptionTable<PluginOptions> image_gate_rows() {
  return {
      list("allowed_registries", &PluginOptions::allowed_registries,
           {.example = "[\"docker.io/library\", \"*.example.com\", \"docker-archive\"]",
            .text = "Where images may come from: registries, repositories with those below them, `*.` for any name "
                    "that ends so; `docker-archive`, `oci-archive` and `oci` for files that jobs bring along. Names "
                    "are compared in full: `redis` is `docker.io/library/redis`. Unset: from everywhere. See "
                    "security.md.",
            .check = check_registry_pattern}),
      boolean("require_digest", &PluginOptions::require_digest,
              {.example = "true",
               .text = "Refuse images that are not named by their digest (`name@sha256:…`), and files."}),
      block("image_verifier", &PluginOptions::image_verifier, image_verifier_table(), check_image_verifier,
            {.example = "bin_dir = \"/opt/image-verifiers\"",
             .text = "Programs that are asked about each image before it is fetched, by containerd's contract for "
                     "image verifiers. See security.md."}),
  };
}

}  // namespace driver
