#include "driver/image/policy.h"

#include <algorithm>
#include <string_view>

#include "base/text.h"
#include "driver/image/archive.h"
#include "driver/values/words.h"
#include "oci/reference.h"

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::string_view kAnyHost = "*.";

/// "*.example.com/team" taken apart.
struct Pattern {
  std::string host;  ///< in lower case; after "*." if `any_below`
  std::string path;  ///< "" = all repositories
  bool any_below = false;
};

Pattern split(const std::string& pattern);
bool matches(const Pattern& pattern, const oci::Reference& reference);
Status check_archive(const std::string& image, const ImagePolicy& policy);
bool is_transport(const std::string& pattern);
std::string list_of(const std::vector<std::string>& names);

}  // namespace

Status check_registry_pattern(const std::string& where, const std::string& pattern) {
  if (is_transport(pattern)) return {};
  const Pattern parts = split(pattern);
  // A pattern is a name without its end: with one it must be a name, on the host that is written there.
  const auto name = oci::Reference::parse(str(parts.host, "/", parts.path.empty() ? "any" : parts.path, ":tag"));
  if (name && base::ascii_lower(name->host()) == parts.host) return {};
  return refuse(where, pattern,
                "is not a valid registry: write docker.io, registry.example.com:5000/team or *.example.com, without "
                "scheme and tag");
}

Status check_image(const std::string& image, const ImagePolicy& policy) {
  if (!policy.registries && !policy.require_digest) return {};
  if (archive_source(image)) return check_archive(image, policy);
  TRY(const auto reference, oci::Reference::parse(image));
  const auto covers = [&](const std::string& pattern) {
    return !is_transport(pattern) && matches(split(pattern), reference);
  };
  if (policy.registries && std::none_of(policy.registries->begin(), policy.registries->end(), covers)) {
    return Error::permission_denied(str("image ", reference.canonical(), " is not from an allowed registry (",
                                        list_of(*policy.registries),
                                        "): use one of these, or add it to allowed_registries in the plugin's "
                                        "configuration"));
  }
  if (policy.require_digest && !reference.digest()) {
    return Error::permission_denied(str("image ", reference.canonical(),
                                        " is named by a tag, and this node requires a digest (require_digest): write "
                                        "it as ",
                                        reference.host(), "/", reference.repository(), "@sha256:…"));
  }
  return {};
}

namespace {

Pattern split(const std::string& pattern) {
  Pattern out;
  const std::size_t slash = pattern.find('/');
  out.host = base::ascii_lower(pattern.substr(0, slash));
  if (slash != std::string::npos) out.path = pattern.substr(slash + 1);
  out.any_below = out.host.starts_with(kAnyHost);
  if (out.any_below) out.host.erase(0, kAnyHost.size());
  if (out.host == "index.docker.io" && !out.any_below) out.host = "docker.io";
  return out;
}

bool matches(const Pattern& pattern, const oci::Reference& reference) {
  const std::string host = base::ascii_lower(reference.host());
  const bool right_host = pattern.any_below ? host.ends_with("." + pattern.host) : host == pattern.host;
  if (!right_host || pattern.path.empty()) return right_host;
  return reference.repository() == pattern.path || reference.repository().starts_with(pattern.path + "/");
}

// A file comes from no registry, and nothing vouches for its digest.
Status check_archive(const std::string& image, const ImagePolicy& policy) {
  const std::string transport = image.substr(0, image.find(':'));
  const auto& allowed = policy.registries;
  if (allowed && std::find(allowed->begin(), allowed->end(), transport) == allowed->end()) {
    return Error::permission_denied(str("image ", image, " comes from a file, which this node does not allow: add \"",
                                        transport,
                                        "\" to allowed_registries in the plugin's configuration, or use an image from "
                                        "a registry"));
  }
  if (policy.require_digest) {
    return Error::permission_denied(str("image ", image,
                                        " comes from a file, and this node requires a digest (require_digest): use an "
                                        "image from a registry, by its digest"));
  }
  return {};
}

bool is_transport(const std::string& pattern) {
  return pattern.find_first_of(":/") == std::string::npos && archive_source(pattern + ":");
}

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += str(out.empty() ? "" : ", ", name);
  return out;
}

}  // namespace
}  // namespace driver
