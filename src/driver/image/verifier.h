// Programs of the operator that are asked about each image, by containerd's contract for image verifiers: every file of
// bin_dir is run, in the order of the names, and all must let the image pass.
//
//   argv    PROGRAM -name docker.io/library/redis:7 -digest sha256:… -stdin-media-type <kDescriptorType>
//   stdin   the descriptor of what the name led to: {"mediaType":"…","digest":"sha256:…","size":1234}
//   exit    0 lets the image pass
//   stdout  the reason, of which kReasonBytesMax count; stderr goes to the log, at level debug
//
// Other than containerd, which lets images pass when the folder is missing, empty, or has more programs than it runs,
// this fails closed: each of these is an error, as is a program that others than root could replace.
// spec: containerd docs/image-verification.md
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "driver/values/options.h"
#include "oci/images.h"

namespace driver {

constexpr std::string_view kDescriptorType = "application/vnd.oci.descriptor.v1+json";
constexpr std::int64_t kVerifiersMax = 100;
constexpr std::size_t kVerifierOutputBytesMax = 16u << 10;  ///< of each stream; what follows is read and dropped
constexpr std::size_t kReasonBytesMax = 512;                ///< that an event, a record or an error shows

/// The programs of bin_dir as they are now, ready to be asked. Null when no bin_dir is configured.
///   errors  kFailedPrecondition: the folder is missing, empty or has more than max_verifiers entries; an entry is not
///           an executable file; somebody but root could write to one of them, or to a folder on the way
/// What asking them returns:
///   out     "10-cosign: signed by …; 20-age: 3 days old"
///   errors  kPermissionDenied refused, with name and reason · kAborted no answer in time, or killed by a signal (worth
///           a retry) · kResourceExhausted no process or thread can be had · kFailedPrecondition it cannot be run
base::Result<std::shared_ptr<const oci::ImageVerifier>> find_image_verifier(const ImageVerifierOptions& options);

/// What a program wrote, as one line: control characters are blanks, cut to `bytes_max` at a whole character. Pure.
std::string one_line(std::string_view text, std::size_t bytes_max);

}  // namespace driver
