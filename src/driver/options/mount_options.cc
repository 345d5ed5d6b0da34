// The rows of the option table that mount things: `mounts` as the Go driver has them, `mount` as Docker's has them, and
// the short forms `volumes` and `tmpfs`. All of them end up in TaskOptions::mounts.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/json.h"
#include "driver/files/sources.h"
#include "driver/options/rows.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

/// What a mount without options is: the Go driver refuses it, Docker's mounts it for reading and writing.
enum class Style { kGo, kDocker };

struct BindOptions {
  std::string propagation;
};
struct TmpfsOptions {
  std::uint64_t size = 0;
  std::string mode;
};
struct DriverConfig {
  std::string name;
  std::map<std::string, std::string> options;
};
struct VolumeOptions {
  bool no_copy = false;
  std::map<std::string, std::string> labels;
  DriverConfig driver_config;
};

/// A block as it is written.
struct MountBlock {
  std::string type = "volume";
  std::string target;
  std::string source;
  std::vector<std::string> options;
  std::optional<bool> readonly;
  std::optional<BindOptions> bind_options;
  std::optional<TmpfsOptions> tmpfs_options;
  std::optional<VolumeOptions> volume_options;
};

Option<TaskOptions> mount_row(const char* name, Style style, RowText row);
OptionTable<MountBlock> mount_fields();
OptionTable<MountBlock> docker_mount_fields();
OptionTable<VolumeOptions> volume_options_fields();
template <typename Block>
Option<MountBlock> optional_block(const char* name, std::optional<Block> MountBlock::*member,
                                  const OptionTable<Block>& table, RowText row);
Status add_block(const OptionTable<MountBlock>& table, const Json& object, const std::string& where, Style style,
                 TaskOptions& out);
Result<MountOption> mount_of(const MountBlock& block, const std::string& where, Style style);
Status add_tmpfs_options(const MountBlock& block, const std::string& where, MountOption& mount);
Status add_bind_options(const MountBlock& block, const std::string& where, Style style, MountOption& mount);
Status add_access(const MountBlock& block, const std::string& where, MountOption& mount);
Option<TaskOptions> short_row(const char* name, Result<MountOption> (*parse)(const std::string&, const std::string&),
                              RowText row);
Result<MountOption> parse_volume(const std::string& where, const std::string& text);
Result<MountOption> parse_tmpfs(const std::string& where, const std::string& text);
std::vector<std::string> split(const std::string& text, char separator);
bool contains(const std::vector<std::string>& options, std::string_view wanted);
Status check_mount_type(const std::string& where, const std::string& value);
Status check_mount_option(const std::string& where, const std::string& value);
Status check_propagation(const std::string& where, const std::string& value);
Status check_mode(const std::string& where, const std::string& value);
bool is_propagation(std::string_view option);

}  // namespace

OptionTable<TaskOptions> mount_rows() {
  return {
      mount_row("mounts", Style::kGo,
                {.example = "type    = \"bind\"\nsource  = \"local/app.conf\"\ntarget  = \"/etc/app.conf\"\n"
                            "options = [\"rbind\", \"ro\"]",
                 .text = "A file, folder or tmpfs to mount into the container. It replaces what the container would "
                         "have there (`/dev/shm`, `/etc/hosts`); two mounts of a job at the same place are refused."}),
      mount_row("mount", Style::kDocker,
                {.example = "type     = \"bind\"\nsource   = \"local/app.conf\"\ntarget   = \"/etc/app.conf\"\n"
                            "readonly = true",
                 .text = "The same in the form of Docker's driver: writable unless it says otherwise."}),
      short_row("volumes", parse_volume,
                {.example = "[\"local/data:/data\", \"/srv/www:/www:ro\"]",
                 .text = "Bind mounts in short form: `source:target[:options]`, options separated by commas. A missing "
                         "source in the task's own folders is created as an empty folder; on the host it must exist.",
                 .check = check_name}),
      short_row("tmpfs", parse_tmpfs,
                {.example = "[\"/run\", \"/scratch:size=64m,mode=1777\"]",
                 .text = "tmpfs mounts in short form: `target[:options]`.",
                 .check = check_name}),
      size("shm_size", &TaskOptions::shm_size,
           {.example = "\"128m\"", .text = "Size limit of `/dev/shm`. Unset: 64 MiB."}),
      boolean("readonly_rootfs", &TaskOptions::readonly_rootfs,
              {.example = "true", .text = "Mount the image's file system read-only."}),
  };
}

Status check_mount_options(const TaskOptions& options) {
  constexpr std::uint64_t kShmBytesMin = 4096;  // less is rounded down to 0, which is no limit to a tmpfs
  if (options.shm_size == 0 || options.shm_size >= kShmBytesMin) return {};
  return Error::invalid_argument(str("shm_size = ", hcl_quote(show_size(options.shm_size)),
                                     " is too small: it must be ", show_size(kShmBytesMin), " or more, like \"64m\""));
}

namespace {

// ---- blocks ---------------------------------------------------------------------------------------------------------

Option<TaskOptions> mount_row(const char* name, Style style, RowText row) {
  const OptionTable<MountBlock> table = joined<MountBlock>({mount_fields(), docker_mount_fields()});
  Option<TaskOptions> option{make_doc(name, "", "block, repeatable", "", row),
                             [=](TaskOptions& out, const Json& value, const std::string& where) -> Status {
                               if (asks_for_nothing(value)) return {};
                               TRY(const auto objects, decode_blocks(value, where));
                               Mistakes wrong;
                               for (std::size_t i = 0; i < objects.size(); ++i) {
                                 wrong.add(add_block(table, objects[i], str(where, "[", i, "]"), style, out));
                               }
                               return std::move(wrong).status();
                             }};
  option.doc.fields = docs_of(table);
  option.doc.repeated = true;
  return option;
}

OptionTable<MountBlock> mount_fields() {
  return {
      text("type", &MountBlock::type,
           {.example = "\"bind\"",
            .text = "`bind` or `volume`: a file or folder of the host; `tmpfs`: memory.",
            .check = check_mount_type}),
      text("target", &MountBlock::target,
           {.example = "\"/etc/app.conf\"",
            .text = "Absolute path inside the container; created if missing.",
            .required = true,
            .check = check_absolute}),
      text("source", &MountBlock::source,
           {.example = "\"local/app.conf\"",
            .text = "What to mount. `local/…`, `secrets/…` and `alloc/…` are Nomad's folders of the task, other "
                    "relative paths are below the folder that these lie in; absolute paths are the host's. It must "
                    "exist. Links do not lead out of the task's folders.",
            .check = check_name}),
      list("options", &MountBlock::options,
           {.example = "[\"rbind\", \"ro\"]",
            .text = "Flags as for mount(8); for `tmpfs` also `size=64m`, `mode=1777` and the like.",
            .check = check_mount_option}),
  };
}

OptionTable<MountBlock> docker_mount_fields() {
  static const OptionTable<BindOptions> bind_fields = {
      text(
          "propagation", &BindOptions::propagation,
          {.example = "\"rslave\"",
           .text = "Whether later mounts propagate: `rprivate` (not at all), `rslave` (from the host), `rshared` (both "
                   "ways).",
           .check = check_propagation}),
  };
  static const OptionTable<TmpfsOptions> tmpfs_fields = {
      size("size", &TmpfsOptions::size,
           {.example = "\"64m\"", .text = "Size limit. Unset: half of the memory, the kernel's default."}),
      text("mode", &TmpfsOptions::mode,
           {.example = "\"1777\"", .text = "Permissions of its root directory, in octal digits.", .check = check_mode}),
  };
  return {
      boolean("readonly", &MountBlock::readonly,
              {.example = "true", .text = "`true` is the same as the option `ro`, `false` as `rw`."}),
      optional_block("bind_options", &MountBlock::bind_options, bind_fields,
                     {.example = "propagation = \"rslave\"", .text = "For bind mounts."}),
      optional_block("tmpfs_options", &MountBlock::tmpfs_options, tmpfs_fields,
                     {.example = "size = \"64m\"\nmode = \"1777\"", .text = "For type `tmpfs`."}),
      optional_block("volume_options", &MountBlock::volume_options, volume_options_fields(),
                     {.example = "no_copy = true",
                      .text = "Known from Docker's driver. Named volumes are Nomad's (a `volume` block in the group, "
                              "`volume_mount` in the task)."}),
  };
}

OptionTable<VolumeOptions> volume_options_fields() {
  static const OptionTable<DriverConfig> driver_fields = {
      text("name", &DriverConfig::name,
           {.example = "\"local\"", .text = "`local` has no effect, others are refused.", .check = check_name}),
      map("options", &DriverConfig::options,
          {.example = "{\n  size = \"1g\"\n}", .text = "Refused.", .check = check_name}),
  };
  return {
      boolean("no_copy", &VolumeOptions::no_copy, {.example = "true", .text = "No effect."}),
      map("labels", &VolumeOptions::labels,
          {.example = "{\n  team = \"a\"\n}", .text = "No effect.", .check = check_name}),
      block("driver_config", &VolumeOptions::driver_config, driver_fields, nullptr,
            {.example = "name = \"local\"", .text = "Refused but for the name `local`."}),
  };
}

template <typename Block>
Option<MountBlock> optional_block(const char* name, std::optional<Block> MountBlock::*member,
                                  const OptionTable<Block>& table, RowText row) {
  Option<MountBlock> option{make_doc(name, "", "block", "", row),
                            [=](MountBlock& out, const Json& value, const std::string& where) -> Status {
                              TRY(const Json object, decode_block(value, where));
                              if (is_blank(object)) return {};
                              Block decoded;
                              TRY_VOID(decode_table(table, object, where + ".", decoded));
                              out.*member = std::move(decoded);
                              return {};
                            }};
  option.doc.fields = docs_of(table);
  return option;
}

Status add_block(const OptionTable<MountBlock>& table, const Json& object, const std::string& where, Style style,
                 TaskOptions& out) {
  MountBlock block;
  TRY_VOID(decode_table(table, object, where + ".", block));
  TRY(MountOption mount, mount_of(block, where, style));
  out.mounts.push_back(std::move(mount));
  const auto& volume = block.volume_options;
  if (volume && (volume->no_copy || !volume->labels.empty() || !volume->driver_config.name.empty())) {
    out.without_effect.push_back(where + ".volume_options");
  }
  return {};
}

Result<MountOption> mount_of(const MountBlock& block, const std::string& where, Style style) {
  const auto& volume = block.volume_options;
  const bool own_driver = volume && volume->driver_config.name != "" && volume->driver_config.name != "local";
  if (own_driver || (volume && !volume->driver_config.options.empty())) {
    return Error::invalid_argument(
        str(where,
            ".volume_options.driver_config is not supported: named volumes are Nomad's, use a "
            "volume block in the group and volume_mount in the task"));
  }
  MountOption mount{block.type, block.target, block.source, block.options};
  if (block.type == "tmpfs") {
    TRY_VOID(add_tmpfs_options(block, where, mount));
  } else {
    TRY_VOID(add_bind_options(block, where, style, mount));
  }
  TRY_VOID(add_access(block, where, mount));
  return mount;
}

Status add_tmpfs_options(const MountBlock& block, const std::string& where, MountOption& mount) {
  for (const std::string& option : block.options) {
    if (option == "bind" || option == "rbind") {
      return refuse(str(where, ".options"), option, "does not apply to type \"tmpfs\": leave it out");
    }
  }
  if (block.bind_options) {
    return Error::invalid_argument(str(where, ".bind_options does not apply to type \"tmpfs\": leave it out"));
  }
  if (!block.tmpfs_options) return {};
  const auto add = [&](std::string_view key, const std::string& value) -> Status {
    for (const std::string& option : mount.options) {
      if (option.starts_with(key)) {
        return refuse(str(where, ".options"), option, "is also given in tmpfs_options: keep one");
      }
    }
    mount.options.push_back(str(key, value));
    return {};
  };
  if (block.tmpfs_options->size > 0) TRY_VOID(add("size=", std::to_string(block.tmpfs_options->size)));
  if (!block.tmpfs_options->mode.empty()) TRY_VOID(add("mode=", block.tmpfs_options->mode));
  return {};
}

Status add_bind_options(const MountBlock& block, const std::string& where, Style style, MountOption& mount) {
  if (block.source.empty()) {
    return Error::invalid_argument(
        str(where, ".source is missing: a mount of type \"", block.type, "\" needs the path of what to mount"));
  }
  if (block.tmpfs_options) {
    return Error::invalid_argument(str(where, ".tmpfs_options is only for type \"tmpfs\", not \"", block.type, "\""));
  }
  if (style == Style::kGo && block.options.empty() && !block.readonly && !block.bind_options) {
    return Error::invalid_argument(str(where, ".options is empty. Options cannot be empty for mount type: ", block.type,
                                       ". Give at least [\"rbind\", \"ro\"], or readonly = true or false"));
  }
  for (const std::string& option : block.options) {
    if (option.find('=') != std::string::npos) {
      return refuse(str(where, ".options"), option, str("is only for type \"tmpfs\", not \"", block.type, "\""));
    }
  }
  const bool name = block.source.find('/') == std::string::npos && block.source != "local" &&
                    block.source != "secrets" && block.source != "alloc";
  if (block.type == "volume" && name) {
    return refuse(str(where, ".source"), block.source,
                  "names a volume, and named volumes are Nomad's: use a volume block in the group and volume_mount in "
                  "the task, or type = \"bind\" for a path");
  }
  if (!block.bind_options || block.bind_options->propagation.empty()) return {};
  const std::string& propagation = block.bind_options->propagation;
  for (const std::string& option : block.options) {
    if (is_propagation(option) && option != propagation) {
      return refuse(str(where, ".options"), option, "and bind_options.propagation contradict each other: keep one");
    }
  }
  if (!contains(mount.options, propagation)) mount.options.push_back(propagation);
  return {};
}

Status add_access(const MountBlock& block, const std::string& where, MountOption& mount) {
  if (contains(mount.options, "ro") && contains(mount.options, "rw")) {
    return Error::invalid_argument(str(where, ".options has both ro and rw: keep one"));
  }
  if (!block.readonly) return {};
  const char* const wanted = *block.readonly ? "ro" : "rw";
  const char* const other = *block.readonly ? "rw" : "ro";
  if (contains(mount.options, other)) {
    return refuse(str(where, ".options"), other,
                  str("contradicts readonly = ", *block.readonly ? "true" : "false", ": keep one"));
  }
  if (!contains(mount.options, wanted)) mount.options.emplace_back(wanted);
  return {};
}

// ---- short forms ----------------------------------------------------------------------------------------------------

Option<TaskOptions> short_row(const char* name, Result<MountOption> (*parse)(const std::string&, const std::string&),
                              RowText row) {
  return {make_doc(name, "list(string)", "list(string)", "", row),
          [=](TaskOptions& out, const Json& value, const std::string& where) -> Status {
            TRY(const auto items, decode_list(value, where, row));
            Mistakes wrong;
            for (std::size_t i = 0; i < items.size(); ++i) {
              auto mount = parse(str(where, "[", i, "]"), items[i]);
              if (mount) {
                out.mounts.push_back(*std::move(mount));
              } else {
                wrong.add(std::move(mount).error());
              }
            }
            return std::move(wrong).status();
          }};
}

Result<MountOption> parse_volume(const std::string& where, const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty()) {
    return refuse(where, text, "is not a valid volume: write source:target or source:target:options");
  }
  MountOption mount{"bind", parts[1], parts[0], {}, true};
  if (parts.size() == 3) mount.options = split(parts[2], ',');
  if (mount.target.empty() || mount.target.front() != '/') {
    return refuse(where, text, "needs an absolute target: write source:/target");
  }
  // Relabelling has no meaning where there are no labels.
  if (::access("/sys/fs/selinux/enforce", F_OK) != 0) {
    std::erase_if(mount.options, [](const std::string& option) { return option == "z" || option == "Z"; });
  }
  for (const std::string& option : mount.options) {
    if (option == "z" || option == "Z") {
      return refuse(where, text, str("has the option ", option, ", but files are not relabelled: leave it out"));
    }
    TRY_VOID(check_mount_option(where, option));
    if (option.find('=') != std::string::npos) return refuse(where, option, "is only for tmpfs");
  }
  TRY_VOID(add_access({}, where, mount));
  return mount;
}

Result<MountOption> parse_tmpfs(const std::string& where, const std::string& text) {
  const std::size_t colon = text.find(':');
  MountOption mount{"tmpfs", text.substr(0, colon), "", {}};
  if (mount.target.empty() || mount.target.front() != '/') {
    return refuse(where, text, "is not a valid tmpfs mount: write /target or /target:options");
  }
  if (colon != std::string::npos) mount.options = split(text.substr(colon + 1), ',');
  for (const std::string& option : mount.options) {
    TRY_VOID(check_mount_option(where, option));
    if (option == "bind" || option == "rbind") return refuse(where, option, "does not apply to a tmpfs: leave it out");
  }
  TRY_VOID(add_access({}, where, mount));
  return mount;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end = text.find(separator); end != std::string::npos; end = text.find(separator, begin)) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

bool contains(const std::vector<std::string>& options, std::string_view wanted) {
  return std::find(options.begin(), options.end(), wanted) != options.end();
}

// ---- checks ---------------------------------------------------------------------------------------------------------

Status check_mount_type(const std::string& where, const std::string& value) {
  if (value == "volume" || value == "bind" || value == "tmpfs") return {};
  return refuse(where, value, "is not a valid mount type: use bind, volume or tmpfs");
}

Status check_mount_option(const std::string& where, const std::string& value) {
  static constexpr std::array<std::string_view, 30> kFlags = {
      "async",      "atime",       "bind",       "defaults",      "dev",        "diratime", "dirsync", "exec",
      "iversion",   "lazytime",    "noatime",    "nodev",         "nodiratime", "noexec",   "silent",  "loud",
      "noiversion", "nolazytime",  "norelatime", "nostrictatime", "nosuid",     "rbind",    "mand",    "nomand",
      "relatime",   "strictatime", "suid",       "sync",          "ro",         "rw"};
  static constexpr std::array<std::string_view, 7> kTmpfsData = {
      "size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks=", "huge="};
  TRY_VOID(check_name(where, value));
  if (is_propagation(value) || std::find(kFlags.begin(), kFlags.end(), value) != kFlags.end()) return {};
  const auto is_data = [&](std::string_view key) { return value.starts_with(key) && !value.ends_with('='); };
  if (std::any_of(kTmpfsData.begin(), kTmpfsData.end(), is_data) && value.find(',') == std::string::npos) return {};
  return refuse(
      where, value,
      "is not a valid mount option: use flags like rbind, ro, rw, nosuid, nodev, noexec, rprivate, rslave, rshared, or "
      "for tmpfs size=, mode=, uid=, gid=, nr_inodes=");
}

Status check_propagation(const std::string& where, const std::string& value) {
  if (value.empty() || is_propagation(value)) return {};
  return refuse(where, value, "is not a valid propagation mode: use rprivate, rslave or rshared");
}

Status check_mode(const std::string& where, const std::string& value) {
  constexpr std::size_t kModeDigitsMax = 5;  // with a leading 0
  if (value.size() <= kModeDigitsMax && value.find_first_not_of("01234567") == std::string::npos) return {};
  return refuse(where, value, "is not a valid file mode: write octal digits like \"1777\"");
}

bool is_propagation(std::string_view option) {
  static constexpr std::array<std::string_view, 8> kModes = {"private", "rprivate", "shared",     "rshared",
                                                             "slave",   "rslave",   "unbindable", "runbindable"};
  return std::find(kModes.begin(), kModes.end(), option) != kModes.end();
}

}  // namespace
}  // namespace driver
