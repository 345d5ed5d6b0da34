#include "oci/digest.h"

// The low-level SHA256_* functions, linked statically: 20 KiB of code, and the accelerated one on every CPU that has
// it. EVP does the same at 3 MiB more resident memory (the shared libcrypto), in a process that idles for months.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <algorithm>

namespace oci {

namespace {

constexpr std::string_view kPrefix = "sha256:";
constexpr std::size_t kHexChars = 64;

bool is_lower_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/// The grammar of an algorithm's name: components of letters and digits, joined by one of "+._-".
bool is_algorithm(std::string_view text) {
  bool want_component = true;
  for (const char c : text) {
    const bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    const bool separator = c == '+' || c == '.' || c == '_' || c == '-';
    if (!alnum && (!separator || want_component)) return false;
    want_component = separator;
  }
  return !want_component;
}

/// True for what the grammar calls a digest, whatever its algorithm.
bool is_well_formed(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos || !is_algorithm(text.substr(0, colon))) return false;
  const auto encoded = text.substr(colon + 1);
  return encoded.size() >= 32 && std::all_of(encoded.begin(), encoded.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '=' || c == '_' ||
                  c == '-';
         });
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kShownMax = 100;
  return base::str("\"", text.substr(0, kShownMax), text.size() > kShownMax ? "…\"" : "\"");
}

}  // namespace

base::Result<Digest> Digest::parse(std::string_view text) {
  if (!text.starts_with(kPrefix)) {
    if (!is_well_formed(text)) {
      return base::Error::invalid_argument(
          base::str("digest ", quoted(text), " is malformed: it must be sha256: and 64 lower-case hex digits"));
    }
    return base::Error::unimplemented(
        base::str("digest ", quoted(text), " has an unsupported algorithm: only sha256 is supported"));
  }
  const auto hex = text.substr(kPrefix.size());
  if (hex.size() != kHexChars || !std::all_of(hex.begin(), hex.end(), is_lower_hex)) {
    return base::Error::invalid_argument(
        base::str("digest ", quoted(text), " is malformed: sha256: must be followed by 64 lower-case hex digits"));
  }
  return Digest(std::string(text));
}

Digest Digest::of_bytes(std::string_view bytes) {
  Hasher hasher;
  hasher.update(bytes);
  return hasher.finish();
}

std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids) {
  std::vector<Digest> chain;
  chain.reserve(diff_ids.size());
  for (const Digest& diff_id : diff_ids) {
    if (chain.empty()) {
      chain.push_back(diff_id);
    } else {
      chain.push_back(Digest::of_bytes(base::str(chain.back().text(), " ", diff_id.text())));
    }
  }
  return chain;
}

struct Hasher::Impl {
  SHA256_CTX context;
};

Hasher::Hasher() : impl_(std::make_unique<Impl>()) {
  CHECK(SHA256_Init(&impl_->context) == 1);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::update(std::string_view bytes) {
  CHECK(SHA256_Update(&impl_->context, bytes.data(), bytes.size()) == 1);
}

Digest Hasher::finish() {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> raw{};
  CHECK(SHA256_Final(raw.data(), &impl_->context) == 1);
  constexpr std::string_view kHexDigits = "0123456789abcdef";
  std::string text(kPrefix);
  for (const unsigned char byte : raw) {
    text.push_back(kHexDigits[byte >> 4]);
    text.push_back(kHexDigits[byte & 0xf]);
  }
  return Digest(std::move(text));
}

}  // namespace oci
