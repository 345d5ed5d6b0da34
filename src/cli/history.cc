// How an image was made, as its config tells: the steps of its build, newest first, and the layers that some made.
#include <ctime>

#include "base/json.h"
#include "base/text.h"
#include "cli/format.h"
#include "cli/verb.h"
#include "oci/store.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kShortStepBytes = 45;
constexpr std::size_t kShortIdHex = 12;

struct Step {
  std::string created;  // RFC 3339, as the image says it
  std::string created_by;
  std::string comment;
  std::uint64_t bytes = 0;  // of its layer as it was pulled
  bool has_layer = false;
};
struct History {
  oci::Digest id;
  std::vector<Step> steps;  // oldest first
};

Result<History> read_history(const std::string& data_dir, const std::string& reference);
Result<std::vector<Step>> steps_of(const Json& config, const oci::Manifest& manifest);
Json step_row(const History& history, const Step& step, bool is_newest, bool whole);
std::string age_of(const std::string& created);

}  // namespace

int history_command(const Verb& self, Call& call) {
  Flags flags;
  bool whole = false;
  bool quiet = false;
  std::string format;
  std::string output;
  flags.toggle("no-trunc", 0, "print whole IDs and commands", whole);
  flags.toggle("quiet", 'q', "print IDs only", quiet);
  flags.value("format", 0, "TEMPLATE", "json, or what a template makes of each: {{.CreatedBy}} {{.Size}}", format);
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  if (args->size() != 1) return misuse(self, call.io, Error::invalid_argument("name one image"));
  const std::string data_dir = call.globals.options().data_dir;
  oci::Images images({.data_dir = data_dir, .helper = ""});
  const auto name = find_image(images, args->front());
  if (!name) return fail(call.io, name.error(), kExitMisuse);
  const auto history = read_history(data_dir, *name);
  if (!history) return fail(call.io, history.error(), kExitMisuse);
  const bool is_json = output == "json" || format == "json";
  std::vector<Json> rows;
  for (auto step = history->steps.rbegin(); step != history->steps.rend(); ++step) {
    const bool is_newest = step == history->steps.rbegin();
    if (!is_json) {
      rows.push_back(step_row(*history, *step, is_newest, whole));
      continue;
    }
    rows.push_back({{"created", step->created},
                    {"createdBy", step->created_by},
                    {"comment", step->comment},
                    {"size", step->bytes},
                    {"empty", !step->has_layer}});
    if (is_newest) rows.back()["id"] = history->id.text();
  }
  const std::string wanted = is_json ? "json"
                             : quiet ? "{{.ID}}"
                             : !format.empty()
                                 ? format
                                 : "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
  const Json heads = {
      {"ID", "ID"},     {"CreatedSince", "CREATED"}, {"CreatedAt", "CREATED AT"}, {"CreatedBy", "CREATED BY"},
      {"Size", "SIZE"}, {"Comment", "COMMENT"}};
  const auto printed = print_formatted(call.io, wanted, rows, heads);
  return printed ? kExitOk : fail(call.io, printed.error(), kExitMisuse);
}

namespace {

Result<History> read_history(const std::string& data_dir, const std::string& reference) {
  oci::Store store(data_dir);
  TRY(const auto record, store.record(reference));
  TRY(const auto manifest_text, store.read_document(record.manifest_digest, oci::kManifestBytesMax));
  TRY(const auto document, oci::parse_manifest(manifest_text, record.media_type, reference));
  const auto* manifest = std::get_if<oci::Manifest>(&document);
  if (manifest == nullptr) return Error::invalid_argument(str(reference, " is an index, not an image"));
  TRY(const auto config_text, store.read_document(manifest->config.digest, oci::kConfigBytesMax));
  base::JsonLimits limits;
  limits.duplicate_keys = true;  // as the store has accepted it
  TRY(const Json config, base::parse_json(config_text, str("the config of ", reference), limits));
  TRY(auto steps, steps_of(config, *manifest));
  return History{manifest->config.digest, std::move(steps)};
}

// A member that is of another type than the specification says is taken for absent: it is for people, not for us. An
// image without a history has one step for each layer.
Result<std::vector<Step>> steps_of(const Json& config, const oci::Manifest& manifest) {
  std::vector<Step> steps;
  TRY(const Json* entries, base::get_array(config, "history"));
  std::size_t layer = 0;
  const auto take_layer = [&](Step& step) {
    if (layer >= manifest.layers.size()) return;
    step.has_layer = true;
    step.bytes = manifest.layers[layer++].size;
  };
  for (const Json& entry : entries == nullptr ? Json::array() : *entries) {
    if (!entry.is_object()) continue;
    const auto text = [&entry](const char* key) {
      const auto found = base::get_string(entry, key);
      return found && *found ? **found : std::string();
    };
    Step step{text("created"), text("created_by"), text("comment")};
    const auto empty = base::get_bool(entry, "empty_layer");
    if (!(empty && empty->value_or(false))) take_layer(step);
    steps.push_back(std::move(step));
  }
  while (layer < manifest.layers.size()) {
    Step step;
    take_layer(step);
    steps.push_back(std::move(step));
  }
  return steps;
}

Json step_row(const History& history, const Step& step, bool is_newest, bool whole) {
  std::string by = step.created_by;
  if (!whole && by.size() > kShortStepBytes) by = str(base::cut_utf8(step.created_by, kShortStepBytes - 3), "...");
  const std::string id = whole ? history.id.text() : std::string(history.id.hex().substr(0, kShortIdHex));
  return {{"ID", is_newest ? id : "<missing>"}, {"CreatedSince", age_of(step.created)},
          {"CreatedAt", step.created},          {"CreatedBy", by},
          {"Size", show_size(step.bytes)},      {"Comment", step.comment}};
}

std::string age_of(const std::string& created) {
  tm time = {};
  const char* const rest = ::strptime(created.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (rest == nullptr) return "-";
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return show_duration(std::chrono::seconds(now - ::timegm(&time))) + " ago";
}

}  // namespace
}  // namespace cli
