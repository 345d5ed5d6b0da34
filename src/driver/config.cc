#include "driver/config.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/json.h"
#include "driver/option_checks.h"
#include "driver/option_table.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;
using std::chrono::milliseconds;

namespace {

const OptionTable<PluginOptions>& plugin_table();
const OptionTable<TaskOptions>& task_table();
OptionTable<TaskOptions> image_rows();

struct Unit {
  std::string_view name;
  long double nanoseconds;
};
Status merge_force_pull(TaskOptions& options);
const Unit* find_unit(std::string_view name);
bool take_number(std::string_view& rest, long double& value);

}  // namespace

Schema plugin_schema() {
  return schema_of(docs_of(plugin_table()));
}
Schema task_schema() {
  return schema_of(docs_of(task_table()));
}

Result<PluginOptions> decode_plugin_options(const Json& object) {
  PluginOptions options;
  if (auto decoded = decode_table(plugin_table(), object, "", options); !decoded) {
    return std::move(decoded).error().wrap("plugin configuration");
  }
  return options;
}

Result<TaskOptions> decode_task_options(const Json& object) {
  TaskOptions options;
  TRY_VOID(decode_table(task_table(), object, "", options));
  // Docker's driver takes it off, too.
  if (constexpr std::string_view kScheme = "https://"; options.image.starts_with(kScheme)) {
    options.image.erase(0, kScheme.size());
  }
  TRY_VOID(merge_force_pull(options));
  TRY_VOID(check_process_options(options));
  TRY_VOID(check_mount_options(options));
  TRY_VOID(merge_network_options(options));
  TRY_VOID(merge_security_options(options));
  TRY_VOID(merge_limits(options));
  return options;
}

std::string options_markdown() {
  return str(
      "# Options\n\n"
      "Made from the option table in `src/driver/config.cc` by `containerd-driver schema --markdown`; do not edit.\n\n"
      "## Plugin\n\n"
      "`plugin \"containerd-driver\" { config { … } }` in the agent's configuration.\n\n",
      markdown_of(docs_of(plugin_table())),
      "\n## Task\n\n"
      "`task \"…\" { driver = \"containerd-driver\" config { … } }` in a job.\n\n",
      markdown_of(docs_of(task_table())));
}

Json options_json() {
  return {{"plugin", json_of(docs_of(plugin_table()))}, {"task", json_of(docs_of(task_table()))}};
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto malformed = [&](std::string_view why) {
    return Error::invalid_argument(
        str(show_value(std::string(text)), " ", why, ": write a size like \"64m\", \"1.5GiB\" or \"4096\""));
  };
  if (text.starts_with('-')) return malformed("is negative");
  std::string_view rest = text;
  long double value = 0;
  if (!take_number(rest, value)) return malformed("is no size");
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  const std::string unit = lower(rest);
  static constexpr std::string_view kUnits = "bkmgt";
  const std::size_t power = unit.empty() ? 0 : kUnits.find(unit.front());
  const std::string_view tail = unit.empty() ? std::string_view() : std::string_view(unit).substr(1);
  const bool known = power != std::string_view::npos && (tail.empty() || (power > 0 && (tail == "b" || tail == "ib")));
  if (!known) return malformed("has an unknown unit");
  for (std::size_t i = 0; i < power; ++i) value *= 1024;
  if (value > static_cast<long double>(std::numeric_limits<std::int64_t>::max())) return malformed("is too large");
  return static_cast<std::uint64_t>(value);
}

Result<milliseconds> parse_duration(std::string_view text) {
  const auto malformed = [&](std::string_view why) {
    return Error::invalid_argument(
        str(show_value(std::string(text)), " ", why, ": write a duration like \"30s\", \"5m\" or \"1h30m\""));
  };
  if (text == "0") return milliseconds(0);
  if (text.starts_with('-')) return malformed("is negative");
  std::string_view rest = text;
  if (rest.starts_with('+')) rest.remove_prefix(1);
  if (rest.empty()) return malformed("is no duration");
  long double nanoseconds = 0;
  while (!rest.empty()) {
    long double value = 0;
    if (!take_number(rest, value)) return malformed("is no duration");
    const std::size_t end = std::min(rest.find_first_of("0123456789."), rest.size());
    const Unit* unit = find_unit(rest.substr(0, end));
    if (unit == nullptr) return malformed(end == 0 ? "has no unit" : "has an unknown unit");
    nanoseconds += value * unit->nanoseconds;
    rest.remove_prefix(end);
  }
  if (nanoseconds > static_cast<long double>(std::numeric_limits<std::int64_t>::max())) return malformed("is too long");
  return std::chrono::duration_cast<milliseconds>(std::chrono::nanoseconds(static_cast<std::int64_t>(nanoseconds)));
}

namespace {

// ---- checks of single values ----------------------------------------------------------------------------------------

Status check_directory(const std::string& where, const std::string& value) {
  TRY_VOID(check_absolute(where, value));
  if (value.empty()) return refuse(where, value, "must be an absolute path, like /srv");
  return {};
}

Status check_directories(const std::string& where, const std::string& value) {
  for (std::string_view rest = value; !rest.empty();) {
    const std::string folder(rest.substr(0, rest.find(':')));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    TRY_VOID(check_absolute(where, folder));
  }
  return {};
}

Status check_runtime_type(const std::string& where, const std::string& value) {
  if (value == "io.containerd.runc.v2" || value == "io.containerd.runc.v1") return {};
  return refuse(
      where, value,
      "is not supported: use \"io.containerd.runc.v2\", and name other runtimes in runtimes or runtime_binary");
}

Status merge_force_pull(TaskOptions& options) {
  if (!options.force_pull) return {};
  if (options.image_pull_policy == PullPolicy::kMissing || options.image_pull_policy == PullPolicy::kNever) {
    return Error::invalid_argument(
        "force_pull = true and image_pull_policy contradict each other: set image_pull_policy = \"always\", or leave "
        "force_pull out");
  }
  options.image_pull_policy = PullPolicy::kAlways;
  return {};
}

Status check_auth(const std::string& where, const RegistryAuth& auth) {
  if (auth.username.empty() == auth.password.empty()) return {};
  return Error::invalid_argument(
      str(where, auth.username.empty() ? ".username" : ".password", " is missing: give both, or neither"));
}

Status check_image_gc(const std::string& where, const ImageGcOptions& gc) {
  if (gc.low_percent > gc.high_percent) {
    return Error::invalid_argument(str(where, ".low_percent = ", gc.low_percent, " is above ", where,
                                       ".high_percent = ", gc.high_percent, ": room is made from high down to low"));
  }
  return {};
}

// ---- the table ------------------------------------------------------------------------------------------------------

OptionTable<RegistryAuth> login_rows() {
  return {
      text("username", &RegistryAuth::username,
           {.example = "\"ci\"", .text = "User name at the registry.", .check = check_name}),
      text("password", &RegistryAuth::password,
           {.example = "\"${REGISTRY_PASSWORD}\"",
            .text = "Password or access token. It is never logged and never written to disk.",
            .secret = true}),
      text("server_address", &RegistryAuth::server_address,
           {.example = "\"registry.example.com:5000\"",
            .text = "The registry that they are for; images of other registries are fetched without. Unset: they go to "
                    "whichever registry the image comes from.",
            .check = check_name}),
      text("email", &RegistryAuth::email,
           {.example = "\"ci@example.com\"",
            .text = "Taken from jobs of Docker's driver; means nothing.",
            .check = check_name}),
  };
}

const OptionTable<RegistryAuth>& auth_table() {
  static const OptionTable<RegistryAuth> table = login_rows();
  return table;
}

const OptionTable<RegistryAuth>& plugin_auth_table() {
  static const OptionTable<RegistryAuth> table = joined<RegistryAuth>(
      {login_rows(),
       {text("config", &RegistryAuth::config,
             {.example = "\"/root/.docker/config.json\"",
              .text = "A Docker config.json with credentials (`auths`) and helpers (`credHelpers`, `credsStore`).",
              .check = check_absolute}),
        text("helper", &RegistryAuth::helper,
             {.example = "\"ecr-login\"",
              .text = "A credential helper for all registries: `docker-credential-NAME` in the usual folders, or an "
                      "absolute path.",
              .check = check_name})}});
  return table;
}

const OptionTable<ImageGcOptions>& image_gc_table() {
  static const OptionTable<ImageGcOptions> table = {
      boolean("enabled", &ImageGcOptions::enabled,
              {.example = "false", .text = "`false`: images are removed by `containerd-driver gc` and `rmi` only."}),
      duration("interval", &ImageGcOptions::interval, milliseconds(1000),
               {.example = "\"1h\"", .text = "How often is looked whether something has to go."}),
      number("high_percent", &ImageGcOptions::high_percent, 1, 100,
             {.example = "90",
              .text = "When more of the file system's bytes or inodes than this are used, the images that were not "
                      "used for longest go …"}),
      number("low_percent", &ImageGcOptions::low_percent, 1, 100,
             {.example = "75", .text = "… until no more than this are used."}),
      size("max_size", &ImageGcOptions::max_size,
           {.example = "\"20GiB\"",
            .text = "What images may take on disk, compressed and unpacked layers together. Unset: as much as "
                    "`high_percent` allows."}),
      duration(
          "unused_for", &ImageGcOptions::unused_for, milliseconds(1000),
          {.example = "\"168h\"", .text = "An image that no task used for this long goes, even if there is room."}),
      duration("keep_for", &ImageGcOptions::keep_for, milliseconds(0),
               {.example = "\"1h\"", .text = "An image that was pulled or used within this time stays in any case."}),
      list("keep", &ImageGcOptions::keep,
           {.example = "[\"docker.io/library/redis:7\", \"registry.example.com/base/*\"]",
            .text = "Images that always stay: references in full, `*` for anything.",
            .check = check_name}),
  };
  return table;
}

OptionTable<PluginOptions> node_rows() {
  return {
      boolean("enabled", &PluginOptions::enabled,
              {.example = "true", .text = "`false` makes the driver undetected on this node: no task is placed here."}),
      text("containerd_runtime", &PluginOptions::containerd_runtime,
           {.example = "\"io.containerd.runc.v2\"",
            .text =
                "Accepted so that agent files of the Go driver stay valid: `io.containerd.runc.v2`, or `v1`. The shim "
                "is chosen by `shim`, the runtime by `runtime_binary`.",
            .check = check_runtime_type}),
      duration("stats_interval", &PluginOptions::stats_interval, milliseconds(100),
               {.example = "\"5s\"",
                .text = "How often a task's resource use is measured. Unset: as often as the agent asks."}),
      block("auth", &PluginOptions::auth, plugin_auth_table(), check_auth,
            {.example = "username = \"ci\"\npassword = \"secret\"",
             .text = "Credentials for tasks that have none of their own."}),
      text("data_dir", &PluginOptions::data_dir,
           {.example = "\"/srv/containerd-driver\"",
            .text = "Images, unpacked layers and the writable layers of tasks. Survives a reboot.",
            .check = check_directory}),
      text("state_dir", &PluginOptions::state_dir,
           {.example = "\"/run/containerd-driver\"",
            .text = "Bundles and sockets of running tasks. Must be empty after a reboot, so keep it on a tmpfs.",
            .check = check_directory}),
      text("shim", &PluginOptions::shim,
           {.example = "\"/usr/local/bin/containerd-shim-runc-v2\"",
            .text = "The shim program: an absolute path, or a name that is looked up in the usual folders.",
            .check = check_name}),
      text("runtime_binary", &PluginOptions::runtime_binary,
           {.example = "\"crun\"",
            .text = "The OCI runtime that the shim calls: an absolute path, or a name that is looked up in the usual "
                    "folders.",
            .check = check_name}),
      block("image_gc", &PluginOptions::image_gc, image_gc_table(), check_image_gc,
            {.example = "high_percent = 90\nmax_size = \"20GiB\"",
             .text = "When images that no task uses are removed from this node."}),
      text("hosts_dir", &PluginOptions::hosts_dir,
           {.example = "\"/etc/containerd/certs.d\"",
            .text = "Where `<registry>/hosts.toml` files are looked for, several folders separated by `:`. They name "
                    "mirrors, certificates and plain-HTTP registries in containerd's format, and are read at each "
                    "pull; see registries.md.",
            .check = check_directories}),
      text("image_helper", &PluginOptions::image_helper,
           {.example = "\"/usr/libexec/containerd-driver-image\"",
            .text = "The program that fetches and unpacks images. Unset: the one beside the driver's own binary, else "
                    "the one in the libexec folder of the installation.",
            .check = check_absolute}),
  };
}

const OptionTable<PluginOptions>& plugin_table() {
  static const auto table = joined<PluginOptions>({node_rows(), process_defaults(), gate_rows(), image_gate_rows()});
  return table;
}

OptionTable<TaskOptions> image_rows() {
  return {
      text("image", &TaskOptions::image,
           {.example = "\"redis:7\"",
            .text =
                "The image to run: `[registry/]name[:tag][@digest]`. Without a registry it is Docker Hub's. Or a file "
                "that the job brings along: `docker-archive:PATH[:NAME]`, `oci-archive:PATH[:NAME]`, or "
                "`oci:PATH[:NAME]` for the folder of an OCI layout; PATH is relative to the task's folder.",
            .required = true,
            .check = check_name}),
      text("platform", &TaskOptions::platform,
           {.example = "\"linux/arm64\"",
            .text = "Which platform's image is used, if not the node's: `linux/arm64`, `linux/arm/v7`. To run it, the "
                    "kernel needs an interpreter for its programs (binfmt_misc, with qemu). A name holds one platform "
                    "at a time: another one is pulled anew.",
            .check = check_platform}),
      duration("image_pull_timeout", &TaskOptions::image_pull_timeout, milliseconds(1),
               {.example = "\"10m\"", .text = "How long fetching and unpacking the image may take."}),
      choice("image_pull_policy", &TaskOptions::image_pull_policy,
             {{"missing", PullPolicy::kMissing}, {"always", PullPolicy::kAlways}, {"never", PullPolicy::kNever}},
             {.example = "\"missing\"",
              .text = "When the registry is asked: `missing` if the image is not on this node, `always` (what has not "
                      "changed is not fetched again), or `never`. Unset: `missing`, but for the tag `latest` the "
                      "registry is asked, and the local image is used if it cannot be reached."}),
      boolean("force_pull", &TaskOptions::force_pull,
              {.example = "true", .text = "Another word for `image_pull_policy = \"always\"`."}),
      block("auth", &TaskOptions::auth, auth_table(), check_auth,
            {.example = "username = \"ci\"\npassword = \"secret\"",
             .text = "Credentials for the image's registry. They win over the plugin's."}),
      boolean("auth_soft_fail", &TaskOptions::auth_soft_fail,
              {.example = "true",
               .text = "When the node's credential helper or config file does not work: fetch without credentials."}),
  };
}

// In groups, as one function with all of them would be too long to read.
const OptionTable<TaskOptions>& task_table() {
  static const OptionTable<TaskOptions> table = joined<TaskOptions>(
      {image_rows(), process_rows(), network_rows(), mount_rows(), security_rows(), limit_rows(), refused_rows()});
  return table;
}

// ---- durations ------------------------------------------------------------------------------------------------------

const Unit* find_unit(std::string_view name) {
  static constexpr std::array<Unit, 8> kUnits = {{{"ns", 1},
                                                  {"us", 1e3L},
                                                  {"\u00b5s", 1e3L},  // micro sign
                                                  {"\u03bcs", 1e3L},  // Greek mu
                                                  {"ms", 1e6L},
                                                  {"s", 1e9L},
                                                  {"m", 60e9L},
                                                  {"h", 3600e9L}}};
  const auto it = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& unit) { return unit.name == name; });
  return it == kUnits.end() ? nullptr : &*it;
}

/// Digits with at most one point among them, at least one digit.
bool take_number(std::string_view& rest, long double& value) {
  long double scale = 0;  // 0 = before the point
  bool digits = false;
  while (!rest.empty()) {
    const char c = rest.front();
    if (c == '.' && scale == 0) {
      scale = 1;
    } else if (c >= '0' && c <= '9') {
      digits = true;
      const auto digit = static_cast<long double>(c - '0');
      value = scale == 0 ? value * 10 + digit : value + digit * (scale /= 10);
    } else {
      break;
    }
    rest.remove_prefix(1);
  }
  return digits;
}

}  // namespace
}  // namespace driver
