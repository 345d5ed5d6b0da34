#include "oci/reference.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace oci {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_word(char c) {
  return is_digit(c) || is_lower(c) || is_upper(c) || c == '_';
}

base::Error malformed(std::string_view text, std::string_view why) {
  return base::Error::invalid_argument(
      base::str("image reference \"", text.substr(0, kReferenceBytesMax), "\" is malformed: ", why));
}

struct Split {
  std::string_view host;  // "" = none was written
  std::string_view rest;
};
Split split_host(std::string_view text);
bool is_host(std::string_view host);
bool is_path(std::string_view path);
bool is_tag(std::string_view tag);
bool is_image_id(std::string_view text);
const char* path_problem(std::string_view path);

}  // namespace

base::Result<Reference> Reference::parse(std::string_view text) {
  if (text.empty()) return malformed(text, "it is empty");
  if (text.size() > kReferenceBytesMax) return malformed(text, base::str("longer than ", kReferenceBytesMax, " bytes"));
  if (text.find("://") != std::string_view::npos) return malformed(text, "leave out the scheme (\"https://\")");
  if (is_image_id(text)) return malformed(text, "64 hex digits are an image id, not a name");

  auto [host, rest] = split_host(text);
  if (host.size() > kHostBytesMax) {
    return malformed(text, base::str("the host is longer than ", kHostBytesMax, " bytes"));
  }
  if (!host.empty() && !is_host(host)) return malformed(text, base::str("\"", host, "\" is not a host"));

  Reference out;
  if (const auto at = rest.find('@'); at != std::string_view::npos) {
    TRY(out.digest_, Digest::parse(rest.substr(at + 1)));
    rest = rest.substr(0, at);
  }
  std::string_view tag;
  if (const auto colon = rest.find(':'); colon != std::string_view::npos) {
    tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!is_tag(tag)) return malformed(text, base::str("\"", tag, "\" is not a tag"));
  }
  if (!is_path(rest)) return malformed(text, path_problem(rest));

  out.host_ = host.empty() || host == "index.docker.io" ? "docker.io" : host;
  out.repository_ = rest;
  if (out.host_ == "docker.io" && rest.find('/') == std::string_view::npos)
    out.repository_ = base::str("library/", rest);
  if (out.repository_.size() > kRepositoryPathBytesMax) {
    return malformed(text, base::str("the repository is longer than ", kRepositoryPathBytesMax, " bytes"));
  }
  if (!out.digest_) out.tag_ = tag.empty() ? "latest" : tag;
  return out;
}

std::string Reference::canonical() const {
  return digest_ ? base::str(host_, "/", repository_, "@", digest_->text())
                 : base::str(host_, "/", repository_, ":", tag_);
}

namespace {

// The part before the first slash is a host only if it cannot be the first component of a path on docker.io.
Split split_host(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return {"", text};
  const auto first = text.substr(0, slash);
  const bool host = first == "localhost" || first.find_first_of(".:") != std::string_view::npos ||
                    std::any_of(first.begin(), first.end(), is_upper);
  if (!host) return {"", text};
  return {first, text.substr(slash + 1)};
}

bool is_host_component(std::string_view text) {
  const auto ok = [](char c) { return is_digit(c) || is_lower(c) || is_upper(c) || c == '-'; };
  return !text.empty() && text.front() != '-' && text.back() != '-' && std::all_of(text.begin(), text.end(), ok);
}

bool is_port(std::string_view text) {
  return !text.empty() && text.size() <= 5 && std::all_of(text.begin(), text.end(), is_digit);
}

bool is_host(std::string_view host) {
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    if (end == std::string_view::npos || end == 1) return false;
    const auto address = host.substr(1, end - 1);
    const auto port = host.substr(end + 1);
    const auto ok = [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':'; };
    return std::all_of(address.begin(), address.end(), ok) && address.find(':') != std::string_view::npos &&
           (port.empty() || (port.front() == ':' && is_port(port.substr(1))));
  }
  if (const auto colon = host.find(':'); colon != std::string_view::npos) {
    if (!is_port(host.substr(colon + 1))) return false;
    host = host.substr(0, colon);
  }
  for (;;) {
    const auto dot = host.find('.');
    if (!is_host_component(host.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    host.remove_prefix(dot + 1);
  }
}

// Lower-case letters and digits, joined by one dot, one or two underscores, or any number of hyphens.
bool is_path_component(std::string_view text) {
  std::size_t i = 0;
  for (;;) {
    const std::size_t start = i;
    while (i < text.size() && (is_digit(text[i]) || is_lower(text[i]))) ++i;
    if (i == start) return false;
    if (i == text.size()) return true;
    const char separator = text[i];
    const std::size_t separators = std::min(text.find_first_not_of(separator, i), text.size()) - i;
    const bool ok = (separator == '.' && separators == 1) || (separator == '_' && separators <= 2) || separator == '-';
    if (!ok) return false;
    i += separators;
  }
}

bool is_path(std::string_view path) {
  const auto components = base::split(path, '/');
  return std::all_of(components.begin(), components.end(), is_path_component);
}

const char* path_problem(std::string_view path) {
  if (std::any_of(path.begin(), path.end(), is_upper)) return "the repository must be lower-case";
  return "a repository is lower-case letters and digits, joined by '.', '_', '__', '-' or '/'";
}

bool is_tag(std::string_view tag) {
  return !tag.empty() && tag.size() <= kTagBytesMax && is_word(tag.front()) &&
         std::all_of(tag.begin(), tag.end(), [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

bool is_image_id(std::string_view text) {
  return text.size() == 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

}  // namespace

}  // namespace oci
