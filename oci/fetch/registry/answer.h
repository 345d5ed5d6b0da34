// What a registry's answer says beside its body: why it refuses, which part of a blob it is, when to ask again. Pure.
// spec: distribution-spec "Error Codes"; RFC 9110 (Content-Range, Content-Encoding, Retry-After)
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/fetch/registry/http.h"

namespace oci::fetch {

/// The longest wait that a registry may ask for before it is asked again.
inline constexpr std::chrono::seconds kRetryAfterMax{60};
constexpr std::size_t kReasonsShownMax = 3;
constexpr std::size_t kReasonBytesMax = 300;  ///< of each

/// The texts of {"errors":[{"code","message"},…]}, or of the members that token servers use instead, fit to be shown:
/// bounded, printable, and without any of `secrets`, which a server could repeat. "" if it gives none.
std::string reason_in(std::string_view body, const std::vector<std::string>& secrets);

/// Seconds, or a date; 0 if it is neither, and kRetryAfterMax at most.
std::chrono::seconds parse_retry_after(const std::string& value);

/// A digest is over the bytes as they are stored, and nobody was asked to encode them. Other words than those of
/// encodings (aws-chunked, identity) tell how the bytes once travelled: the digest decides whether they are right.
///   errors  kFailedPrecondition an encoding that changes bytes: gzip, deflate, br, zstd, compress
base::Status check_encoding(const HttpResponse& head);

/// Where in the blob the answer's first byte belongs: the asked offset, or 0 from a server that ignores ranges, or
/// calls the whole a part.
///   errors  kDataLoss another part, or of something of another size
base::Result<std::uint64_t> range_start(const HttpResponse& head, std::uint64_t asked, std::uint64_t total);

}  // namespace oci::fetch
