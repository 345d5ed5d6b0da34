#include <fcntl.h>

#include <algorithm>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "cli/layer_diff.h"
#include "cli/verb.h"
#include "driver/life/task_store.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Json;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kConfigBytesMax = 4u << 20;

Result<std::vector<LayerChange>> changes_since_image(const driver::PluginOptions& options, const FoundTask& found);
Result<std::set<std::string>> mount_targets(const std::string& bundle_dir);
void print_changes(Io& io, const std::vector<LayerChange>& changes, bool json);

}  // namespace

int diff_command(const Verb& self, Call& call) {
  Flags flags;
  std::string format;
  std::string output;
  flags.value("format", 0, "json", "print three lists, as JSON", format);
  flags.value("output", 'o', "json", "the same", output);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 1) return misuse(self, call.io, Error::invalid_argument("name one container"));
  if (!format.empty() && format != "json") {
    return misuse(self, call.io,
                  Error::invalid_argument(str("--format ", format, " is not a format: use json, or omit the flag")));
  }
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  const auto found = find_container(call.globals, args->front());
  if (!found) return fail(call.io, found.error(), kExitRunFailure);
  auto changes = changes_since_image(*found->session->driver.options(), *found);
  if (!changes) return fail(call.io, std::move(changes).error().wrap(args->front()), kExitRunFailure);
  print_changes(call.io, *changes, !format.empty() || !output.empty());
  return kExitOk;
}

namespace {

Result<std::vector<LayerChange>> changes_since_image(const driver::PluginOptions& options, const FoundTask& found) {
  if (found.is_created) return std::vector<LayerChange>();
  const auto task = driver::task_store_of(options).find(container_id_of(found.task));
  if (const auto* unreadable = std::get_if<driver::Unreadable>(&task)) return unreadable->why;
  const auto* record = std::get_if<driver::Record>(&task);
  if (record == nullptr) return Error::not_found("it was removed just now");
  TRY(const Fd upper, base::open_file(record->names.upper_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  std::vector<Fd> layers;
  for (const std::string& dir : record->layer_dirs) {
    TRY(Fd layer, base::open_dir(dir));
    layers.push_back(std::move(layer));
  }
  TRY(auto changes, layer_changes(Context::background(), upper, layers));
  // What something was mounted on is the runtime's doing.
  TRY(const auto targets, mount_targets(record->names.bundle_dir));
  std::erase_if(changes, [&](const LayerChange& change) { return targets.contains(change.path); });
  return changes;
}

// None is known of a container that ended before a reboot.
Result<std::set<std::string>> mount_targets(const std::string& bundle_dir) {
  std::set<std::string> targets;
  const std::string path = bundle_dir + "/config.json";
  const auto text = base::read_file(path, kConfigBytesMax);
  if (!text && text.error().code == base::Code::kNotFound) return targets;
  if (!text) return text.error();
  TRY(const Json config, base::parse_json(*text, path));
  TRY(const Json* mounts, base::get_array(config, "mounts"));
  if (mounts == nullptr) return targets;
  for (const Json& mount : *mounts) {
    TRY(std::string target, base::require_string(mount, "destination"));
    targets.insert(std::move(target));
  }
  return targets;
}

void print_changes(Io& io, const std::vector<LayerChange>& changes, bool json) {
  if (!json) {
    for (const LayerChange& change : changes) print_line(io, str(static_cast<char>(change.kind), " ", change.path));
    return;
  }
  // As podman writes it.
  Json lists = Json::object();
  for (const LayerChange& change : changes) {
    const char* list = change.kind == ChangeKind::kAdded     ? "added"
                       : change.kind == ChangeKind::kChanged ? "changed"
                                                             : "deleted";
    lists[list].push_back(change.path);
  }
  print_json(io, lists);
}

}  // namespace
}  // namespace cli
