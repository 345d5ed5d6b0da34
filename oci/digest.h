// Content digests: "sha256:<64 lower-case hex>". Pure, except for the hashing object.
// spec: image-spec descriptor.md "Digests", config.md "Layer ChainID"
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace oci {

/// A well-formed digest of a supported algorithm (sha256). Value type; compares by text.
class Digest {
 public:
  /// kInvalidArgument when malformed, kUnimplemented for a well-formed but unsupported algorithm.
  static base::Result<Digest> parse(std::string_view text);
  static Digest of_bytes(std::string_view bytes);
  const std::string& text() const { return text_; }  ///< "sha256:…"
  std::string_view hex() const { return std::string_view(text_).substr(7); }
  auto operator<=>(const Digest&) const = default;

 private:
  friend class Hasher;
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

/// The name of every layer by what lies below it, bottom first: the first is the layer's diff id, each next one is the
/// digest of "<chain id below> <diff id>". Same length as `diff_ids`.
std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids);

/// Incremental sha256.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  void update(std::string_view bytes);
  /// Ends the hash; the object is then only good for destruction.
  Digest finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oci
