// Content digests: "sha256:<64 lower-case hex>". Pure, except for the hashing object.
// spec: image-spec descriptor.md "Digests"
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace oci {

/// A well-formed digest of a supported algorithm (sha256). Value type; compares by text.
class Digest {
 public:
  /// kInvalidArgument when malformed, kUnimplemented for a well-formed but unsupported algorithm.
  static base::Result<Digest> parse(std::string_view text);
  static Digest of_bytes(std::string_view bytes);
  const std::string& text() const { return text_; }        ///< "sha256:…"
  std::string_view hex() const { return std::string_view(text_).substr(7); }
  auto operator<=>(const Digest&) const = default;

 private:
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

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
