// Which image a person means: names, digests and their beginnings; and the container of a verb that takes one.
#include <algorithm>
#include <set>

#include "cli/verb.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kNamedMax = 4;  // in a message

bool is_digest_prefix(std::string_view text);
std::string join(const std::vector<std::string>& names);

}  // namespace

Result<FoundTask> find_running(const Globals& globals, const std::string& wanted) {
  TRY(auto found, find_container(globals, wanted));
  if (found.task.state == driver::TaskState::kRunning) return found;
  return Error::failed_precondition(str(wanted, " is not running"));
}

Result<FoundTask> find_container(const Globals& globals, const std::string& wanted) {
  TRY(auto session, open_driver(globals));
  TRY(const auto all, list_containers(session->driver));
  TRY(auto found, find_container(all, wanted));
  return FoundTask{std::move(session), std::move(found.task), std::move(found.definition), found.is_created};
}

Result<std::string> find_image(oci::Images& images, const std::string& wanted, OfSeveralNames choice) {
  auto named = images.find(wanted);
  if (named) return std::move(named->reference);
  const bool may_be_digest = named.error().code == base::Code::kNotFound ||
                             named.error().code == base::Code::kInvalidArgument;  // "sha256:…" is no reference
  if (!may_be_digest) return named.error();
  auto found = image_of_digest(images, wanted, choice);
  if (!found && found.error().code == base::Code::kNotFound) return named.error();
  return found;
}

Result<std::string> image_of_digest(oci::Images& images, const std::string& wanted, OfSeveralNames choice) {
  const Error none = Error::not_found(str("there is no image ", wanted));
  if (!is_digest_prefix(wanted)) return none;
  TRY(const auto all, images.list());
  const std::string_view hex = std::string_view(wanted).substr(wanted.starts_with("sha256:") ? 7 : 0);
  std::vector<std::string> references;
  std::set<oci::Digest> manifests;
  for (const oci::ImageSummary& image : all) {
    const bool is_id = image.config_digest && image.config_digest->hex().starts_with(hex);
    if (is_id || image.manifest_digest.hex().starts_with(hex)) {
      references.push_back(image.reference);
      manifests.insert(image.manifest_digest);
    }
  }
  if (manifests.size() == 1 && (references.size() == 1 || choice == OfSeveralNames::kFirst)) return references.front();
  if (references.empty()) return none;
  return Error::invalid_argument(str(wanted, " may be ", join(references), ": give its name"));
}

namespace {

bool is_digest_prefix(std::string_view text) {
  constexpr std::size_t kDigitsMin = 4;  // fewer are rather the name of an image
  constexpr std::size_t kDigitsMax = 64;
  if (text.starts_with("sha256:")) text.remove_prefix(7);
  return text.size() >= kDigitsMin && text.size() <= kDigitsMax &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamedMax); ++i) text += str(i == 0 ? "" : ", ", names[i]);
  if (names.size() > kNamedMax) text += str(" or one of ", names.size() - kNamedMax, " others");
  return text;
}

}  // namespace
}  // namespace cli
