#include "oci/images.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>

#include "base/json.h"
#include "cli/documents.h"
#include "cli/format.h"
#include "cli/verb.h"
#include "oci/reference.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kShortDigestHex = 12;
constexpr std::array<std::string_view, 6> kImageFilters = {"reference", "label", "id", "dangling", "before", "since"};

struct ImagesFlags {
  bool all = false;
  bool quiet = false;
  bool no_trunc = false;
  std::vector<std::string> filters;
  std::string format;
  std::string output;

  void declare(Flags& flags);
};

Status check_filters(const std::vector<std::string>& filters);
Result<std::vector<oci::ImageSummary>> select_images(const std::string& data_dir, const ImagesFlags& given);
Status apply_image_filter(const std::string& data_dir, const std::string& key, const std::string& value,
                          oci::Images& images, std::vector<oci::ImageSummary>& selected);
void print_images_json(Io& io, const std::vector<oci::ImageSummary>& list);
void print_images_table(Io& io, const std::vector<oci::ImageSummary>& list, bool no_trunc);
Json image_row(const std::string& data_dir, const oci::ImageSummary& image, const ImagesFlags& given);
Json image_heads();
bool has_label(const std::string& data_dir, const std::string& reference, const std::string& label);
bool is_reference(const oci::ImageSummary& image, const std::string& pattern);
std::string short_of(const oci::Digest& digest, bool whole);
std::string pulled_text(std::int64_t pulled_at_unix);

}  // namespace

int images_command(const Verb& self, Call& call) {
  Flags flags;
  ImagesFlags given;
  given.declare(flags);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(given.output); !valid) return misuse(self, call.io, valid.error());
  if (auto valid = check_filters(given.filters); !valid) return misuse(self, call.io, valid.error());
  const std::string data_dir = call.globals.options().data_dir;
  const auto list = select_images(data_dir, given);
  if (!list) return fail(call.io, list.error());
  if (given.output == "json") {
    print_images_json(call.io, *list);
  } else if (given.quiet || !given.format.empty()) {
    std::vector<Json> rows;
    for (const oci::ImageSummary& image : *list) rows.push_back(image_row(data_dir, image, given));
    if (auto printed = print_formatted(call.io, given.quiet ? "{{.ID}}" : given.format, rows, image_heads());
        !printed) {
      return fail(call.io, printed.error(), kExitMisuse);
    }
  } else {
    print_images_table(call.io, *list, given.no_trunc);
  }
  return kExitOk;
}

namespace {

void ImagesFlags::declare(Flags& flags) {
  flags.toggle("all", 'a', "every image (always)", all);
  flags.toggle("quiet", 'q', "print IDs only", quiet);
  flags.toggle("no-trunc", 0, "print whole IDs and digests", no_trunc);
  flags.list("filter", 'f', "KEY=VALUE", "only those with this reference, label, id, before, since or dangling",
             filters);
  flags.value("format", 0, "TEMPLATE", "json, or what a template makes of each: {{.Repository}} {{.Tag}}", format);
  flags.value("output", 'o', "json", "print JSON", output);
}

Status check_filters(const std::vector<std::string>& filters) {
  for (const std::string& filter : filters) {
    const std::size_t equals = filter.find('=');
    const std::string key = filter.substr(0, equals);
    const bool known = std::find(kImageFilters.begin(), kImageFilters.end(), key) != kImageFilters.end();
    if (known && equals != std::string::npos) continue;
    return Error::invalid_argument(str("--filter ", filter,
                                       known ? " has no value: write reference=*redis*"
                                             : " is not known: use reference, label, id, before, "
                                               "since or dangling"));
  }
  return {};
}

Result<std::vector<oci::ImageSummary>> select_images(const std::string& data_dir, const ImagesFlags& given) {
  oci::Images images({.data_dir = data_dir, .helper = ""});  // listing needs no helper
  TRY(auto selected, images.list());
  for (const std::string& filter : given.filters) {
    const std::size_t equals = filter.find('=');
    TRY_VOID(apply_image_filter(data_dir, filter.substr(0, equals), filter.substr(equals + 1), images, selected));
  }
  return selected;
}

Status apply_image_filter(const std::string& data_dir, const std::string& key, const std::string& value,
                          oci::Images& images, std::vector<oci::ImageSummary>& selected) {
  std::int64_t moment = 0;
  if (key == "before" || key == "since") {
    TRY(const std::string name, find_image(images, value));
    for (const oci::ImageSummary& image : selected) {
      if (image.reference == name) moment = image.pulled_at_unix;
    }
  }
  std::erase_if(selected, [&](const oci::ImageSummary& image) {
    if (key == "reference") return !is_reference(image, value);
    if (key == "label") return !has_label(data_dir, image.reference, value);
    if (key == "before") return image.pulled_at_unix >= moment;
    if (key == "since") return image.pulled_at_unix <= moment;
    if (key == "dangling") return value == "true";  // an image without a name is not kept
    const std::string hex = value.starts_with("sha256:") ? value.substr(7) : value;
    return !image.manifest_digest.hex().starts_with(hex) &&
           !(image.config_digest && image.config_digest->hex().starts_with(hex));
  });
  return {};
}

void print_images_json(Io& io, const std::vector<oci::ImageSummary>& list) {
  Json all = Json::array();
  for (const oci::ImageSummary& image : list) {
    all.push_back({{"reference", image.reference},
                   {"digest", image.manifest_digest.text()},
                   {"resolved_digest", image.resolved_digest.text()},
                   {"size_bytes", image.size_bytes},
                   {"architecture", image.architecture},
                   {"pulled_at", json_time(image.pulled_at_unix)}});
    if (image.config_digest) all.back()["id"] = image.config_digest->text();
    if (image.verdict) all.back()["verified"] = image.verdict->word;
    if (image.pinned) all.back()["pinned"] = true;
    if (!image.problem.empty()) all.back()["problem"] = image.problem;
  }
  print_json(io, all);
}

void print_images_table(Io& io, const std::vector<oci::ImageSummary>& list, bool no_trunc) {
  std::vector<std::vector<std::string>> rows = {{"IMAGE", "DIGEST", "SIZE", "ARCH", "PULLED"}};
  for (const oci::ImageSummary& image : list) {
    rows.push_back({image.reference, short_of(image.manifest_digest, no_trunc),
                    image.problem.empty() ? show_size(image.size_bytes) : "-", image.architecture,
                    pulled_text(image.pulled_at_unix)});
  }
  print_rows(io, rows);
  for (const oci::ImageSummary& image : list) {
    if (!image.problem.empty()) print_note(io, str("image ", image.reference, ": ", image.problem));
  }
}

// With --format json what `inspect` prints, else texts for people.
Json image_row(const std::string& data_dir, const oci::ImageSummary& image, const ImagesFlags& given) {
  const auto document = given.quiet ? Result<Json>(Json::object()) : image_document(data_dir, image.reference);
  if (given.format == "json" && document) return *document;
  const auto reference = oci::Reference::parse(image.reference);
  const oci::Digest& id = image.config_digest ? *image.config_digest : image.manifest_digest;
  const std::string tag = reference ? reference->tag() : "";
  return {{"ID", short_of(id, given.no_trunc)},
          {"Reference", image.reference},
          {"Repository", reference ? str(reference->host(), "/", reference->repository()) : image.reference},
          {"Tag", tag.empty() ? "<none>" : tag},
          {"Digest", image.resolved_digest.text()},
          {"Size", image.problem.empty() ? show_size(image.size_bytes) : "-"},
          {"Architecture", image.architecture},
          {"Created", pulled_text(image.pulled_at_unix)},
          {"CreatedSince", pulled_text(image.pulled_at_unix)},
          {"CreatedAt", document ? document->value("Created", "") : ""},
          {"PulledAt", json_time(image.pulled_at_unix)},
          {"Labels", document ? document->value("Labels", Json::object()) : Json::object()},
          {"Names", Json::array({image.reference})}};
}

Json image_heads() {
  return {{"ID", "IMAGE ID"},       {"Reference", "IMAGE"}, {"Repository", "REPOSITORY"}, {"Tag", "TAG"},
          {"Digest", "DIGEST"},     {"Size", "SIZE"},       {"Architecture", "ARCH"},     {"Created", "PULLED"},
          {"Labels", "LABELS"},     {"Names", "NAMES"},     {"CreatedSince", "PULLED"},   {"CreatedAt", "CREATED AT"},
          {"PulledAt", "PULLED AT"}};
}

bool has_label(const std::string& data_dir, const std::string& reference, const std::string& label) {
  const auto document = image_document(data_dir, reference);
  if (!document) return false;
  const std::size_t equals = label.find('=');
  const Json labels = document->value("Labels", Json::object());
  const auto it = labels.find(label.substr(0, equals));
  return it != labels.end() && (equals == std::string::npos || *it == label.substr(equals + 1));
}

// A pattern of the whole name, or of one that people write for it: without the tag, the host, library/.
bool is_reference(const oci::ImageSummary& image, const std::string& pattern) {
  const auto matches = [&](const std::string& name) { return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0; };
  const auto reference = oci::Reference::parse(image.reference);
  if (!reference) return matches(image.reference);
  const std::string tag = str(reference->digest() ? "@" : ":", reference->tag_or_digest());
  std::vector<std::string> names = {str(reference->host(), "/", reference->repository()), reference->repository()};
  if (reference->repository().starts_with("library/")) names.push_back(reference->repository().substr(8));
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return matches(name) || matches(name + tag); });
}

std::string short_of(const oci::Digest& digest, bool whole) {
  return whole ? digest.text() : std::string(digest.hex().substr(0, kShortDigestHex));
}

std::string pulled_text(std::int64_t pulled_at_unix) {
  if (pulled_at_unix == 0) return "-";
  const auto age = std::chrono::system_clock::now().time_since_epoch() - std::chrono::seconds(pulled_at_unix);
  return show_age(std::chrono::duration_cast<std::chrono::seconds>(age)) + " ago";
}

}  // namespace
}  // namespace cli
