// Whom and what a person means: names, IDs and their beginnings.
#include <algorithm>

#include "cli/verb.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kNamedMax = 4;  // in a message

bool is_meant(const driver::TaskStatus& task, const std::string& wanted);
bool is_digest_prefix(std::string_view text);
std::string join(const std::vector<std::string>& names);

}  // namespace

std::string attribute(const driver::TaskStatus& task, const std::string& key, const std::string& otherwise) {
  const auto it = task.attributes.find(key);
  return it == task.attributes.end() ? otherwise : it->second;
}

std::string container_id_of(const driver::TaskStatus& task) {
  return attribute(task, "container_id");
}

std::vector<driver::TaskStatus> tasks_named(const std::vector<driver::TaskStatus>& tasks, const std::string& wanted) {
  std::vector<driver::TaskStatus> found;
  for (const driver::TaskStatus& task : tasks) {
    if (container_id_of(task) == wanted || task.id.text == wanted) return {task};
    if (is_meant(task, wanted)) found.push_back(task);
  }
  return found;
}

Result<driver::TaskStatus> find_task(const std::vector<driver::TaskStatus>& tasks, const std::string& wanted) {
  const auto found = tasks_named(tasks, wanted);
  if (found.size() == 1) return found.front();
  if (found.empty()) return Error::not_found(str("there is no container ", wanted, ": see containerd-driver ps"));
  std::vector<std::string> ids;
  for (const driver::TaskStatus& task : found) ids.push_back(container_id_of(task));
  return Error::invalid_argument(str(wanted, " may be ", join(ids), ": give more of it"));
}

Result<FoundTask> find_container(const Globals& globals, const std::string& wanted) {
  TRY(auto session, open_driver(globals));
  TRY(const auto tasks, session->driver.list());
  TRY(auto task, find_task(tasks, wanted));
  return FoundTask{std::move(session), std::move(task)};
}

Result<std::string> find_image(oci::Images& images, const std::string& wanted) {
  auto named = images.find(wanted);
  if (named) return std::move(named->reference);
  const bool may_be_digest = named.error().code == base::Code::kNotFound ||
                             named.error().code == base::Code::kInvalidArgument;  // "sha256:…" is no reference
  if (!may_be_digest) return named.error();
  auto found = image_of_digest(images, wanted);
  if (!found && found.error().code == base::Code::kNotFound) return named.error();
  return found;
}

Result<std::string> image_of_digest(oci::Images& images, const std::string& wanted) {
  const Error none = Error::not_found(str("there is no image ", wanted));
  if (!is_digest_prefix(wanted)) return none;
  TRY(const auto all, images.list());
  const std::string_view hex = std::string_view(wanted).substr(wanted.starts_with("sha256:") ? 7 : 0);
  std::vector<std::string> references;
  for (const oci::ImageSummary& image : all) {
    if (image.manifest_digest.hex().starts_with(hex)) references.push_back(image.reference);
  }
  if (references.size() == 1) return references.front();
  if (references.empty()) return none;
  return Error::invalid_argument(str(wanted, " may be ", join(references), ": give its name"));
}

namespace {

bool is_meant(const driver::TaskStatus& task, const std::string& wanted) {
  if (wanted.empty()) return false;
  if (container_id_of(task).starts_with(wanted)) return true;
  const std::string& id = task.id.text;  // ALLOCATION/TASK/HASH; of the command line's own: cli/NAME/HASH
  if (id.starts_with("cli/")) return false;
  const std::size_t slash = wanted.find('/');
  if (slash == std::string::npos) return id.starts_with(wanted);
  return id.starts_with(wanted.substr(0, slash)) && task.name == wanted.substr(slash + 1);
}

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
