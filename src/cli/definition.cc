#include "cli/definition.h"

#include <unistd.h>

#include <algorithm>

#include "base/dir.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/flags.h"
#include "cli/verb.h"
#include "oci/digest.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kBytesMax = 1u << 20;
constexpr std::size_t kNameBytesMax = 128;
constexpr const char* kFileName = "/definition.json";

std::string all_definitions(const std::string& data_dir) {
  return data_dir + "/tasks/.containers";
}

Result<std::map<std::string, std::string>> read_map(const Json& object, const char* name);
void start_from(const std::string& cwd, RunFlags& flags);

}  // namespace

std::string long_id(const std::string& container_id) {
  return std::string(oci::Digest::of_bytes(container_id).hex());
}

Status check_name(const std::string& name) {
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto is_allowed = [&](char c) { return is_word(c) || c == '_' || c == '.' || c == '-'; };
  if (!name.empty() && name.size() <= kNameBytesMax && is_word(name.front()) &&
      std::all_of(name.begin(), name.end(), is_allowed)) {
    return {};
  }
  return Error::invalid_argument(str("--name ", name, " is not a valid name: write up to ", kNameBytesMax,
                                     " letters, digits, '_', '.' and '-', a letter or digit first"));
}

std::string definition_dir(const std::string& data_dir, const std::string& container_id) {
  return all_definitions(data_dir) + "/" + container_id;
}

Status write_definition(const std::string& data_dir, const Definition& definition) {
  const auto created = std::chrono::duration_cast<std::chrono::nanoseconds>(definition.created_at.time_since_epoch());
  const std::string text = base::dump_json(Json{{"version", 1},
                                                {"task_id", definition.task_id},
                                                {"name", definition.name},
                                                {"args", definition.args},
                                                {"cwd", definition.cwd},
                                                {"env", definition.env},
                                                {"image", definition.image},
                                                {"image_digest", definition.image_digest},
                                                {"updates", definition.updates},
                                                {"transient", definition.transient},
                                                {"created_at_ns", created.count()}});
  if (text.size() > kBytesMax) {
    return Error::resource_exhausted(str("the arguments of container ", definition.name, " have ", text.size(),
                                         " bytes; at most ", kBytesMax, " can be kept"));
  }
  const std::string dir = definition_dir(data_dir, definition.container_id);
  TRY_VOID(base::make_dirs(dir, 0700));
  return base::write_file_atomic(dir + kFileName, text, 0600, base::Durable::kNo);
}

Result<Definition> read_definition(const std::string& data_dir, const std::string& container_id) {
  const std::string path = definition_dir(data_dir, container_id) + kFileName;
  TRY(const std::string text, base::read_file(path, kBytesMax));
  const auto parse = [&]() -> Result<Definition> {
    TRY(const Json object, base::parse_json(text, path));
    Definition definition;
    definition.container_id = container_id;
    TRY(definition.task_id, base::require_string(object, "task_id"));
    TRY(definition.name, base::require_string(object, "name"));
    TRY(definition.cwd, base::require_string(object, "cwd"));
    TRY(auto args, base::get_string_list(object, "args"));
    if (args) definition.args = *std::move(args);
    TRY(definition.env, read_map(object, "env"));
    TRY(auto image, base::get_string(object, "image"));
    definition.image = std::move(image).value_or("");
    TRY(auto image_digest, base::get_string(object, "image_digest"));
    definition.image_digest = std::move(image_digest).value_or("");
    TRY(definition.updates, read_map(object, "updates"));
    TRY(const auto transient, base::get_bool(object, "transient"));
    definition.transient = transient.value_or(false);
    TRY(const std::uint64_t created, base::require_uint(object, "created_at_ns"));
    definition.created_at =
        driver::WallTime(std::chrono::duration_cast<driver::WallTime::duration>(std::chrono::nanoseconds(created)));
    return definition;
  };
  auto definition = parse();
  if (!definition) return Error::data_loss(str(path, ": ", definition.error().message));
  return definition;
}

Result<std::vector<Definition>> list_definitions(const std::string& data_dir) {
  std::vector<Definition> found;
  const auto ids = base::list_dir(all_definitions(data_dir));
  if (!ids && ids.error().code == base::Code::kNotFound) return found;
  if (!ids) return ids.error();
  for (const std::string& id : *ids) {
    auto definition = read_definition(data_dir, id);
    if (definition) found.push_back(*std::move(definition));  // else it goes just now, or is being made
  }
  return found;
}

Status remove_definition(const std::string& data_dir, const std::string& container_id) {
  TRY_VOID(base::remove_tree(definition_dir(data_dir, container_id)));
  ::rmdir(all_definitions(data_dir).c_str());  // the last one's
  return {};
}

Result<RunRequest> run_of(const Definition& definition) {
  RunRequest run{.flags = {}, .args = definition.args, .spec = {}};
  Flags flags;
  declare_run_flags(flags, run.flags);
  Globals of_the_command;  // may stand among them, and are nothing of the container's
  of_the_command.declare(flags);
  TRY(const auto args, flags.parse(definition.args, Flags::Stop::kAtFirstArgument));
  for (const LimitFlag& limit : limit_flags()) {
    const auto changed = definition.updates.find(limit.name);
    if (changed != definition.updates.end()) run.flags.*limit.member = changed->second;
  }
  // Its variables are those of its making, whatever became of the files that they came from.
  run.flags.env.clear();
  run.flags.env_files.clear();
  start_from(definition.cwd, run.flags);
  TRY(run.spec, make_task_spec(run.flags, args));
  run.spec.id.text = definition.task_id;
  run.spec.name = definition.name;
  run.spec.env = definition.env;
  return run;
}

namespace {

Result<std::map<std::string, std::string>> read_map(const Json& object, const char* name) {
  std::map<std::string, std::string> map;
  TRY(const Json* entries, base::get_object(object, name));
  if (entries == nullptr) return map;
  for (const auto& [key, value] : entries->items()) {
    TRY(map[key], base::require_string(*entries, key));
  }
  return map;
}

// "./data" is what it was where the container was made.
void start_from(const std::string& cwd, RunFlags& flags) {
  const auto is_relative = [](std::string_view path) {
    return path == "." || path == ".." || path.starts_with("./") || path.starts_with("../");
  };
  for (std::string& volume : flags.volumes) {
    if (is_relative(std::string_view(volume).substr(0, volume.find(':')))) volume = str(cwd, "/", volume);
  }
  for (std::string& mount : flags.mounts) {
    for (const std::string_view key : {"source=", "src="}) {
      const auto at = mount.find(key);
      if (at == std::string::npos || (at > 0 && mount[at - 1] != ',')) continue;
      const std::string_view path = std::string_view(mount).substr(at + key.size());
      if (is_relative(path.substr(0, path.find(',')))) mount.insert(at + key.size(), cwd + "/");
    }
  }
}

}  // namespace
}  // namespace cli
