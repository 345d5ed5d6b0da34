#include "driver/options/config.h"

#include <algorithm>

#include "base/json.h"
#include "driver/options/option_table.h"
#include "driver/options/rows.h"

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
Status merge_force_pull(TaskOptions& options);

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
  Mistakes wrong;
  wrong.add(decode_table(task_table(), object, "", options));
  for (const std::string& option : options.auth.without_effect) options.without_effect.push_back(option);
  // Docker's driver takes it off, too.
  if (constexpr std::string_view kScheme = "https://"; options.image.starts_with(kScheme)) {
    options.image.erase(0, kScheme.size());
  }
  wrong.add(merge_force_pull(options));
  wrong.add(check_process_options(options));
  wrong.add(check_mount_options(options));
  wrong.add(merge_network_options(options));
  wrong.add(merge_security_options(options));
  wrong.add(merge_limits(options));
  TRY_VOID(std::move(wrong).status());
  return options;
}

std::string options_markdown() {
  return str(
      "# Options\n\n"
      "Made from the option table in `src/driver/options` by `containerd-driver schema --markdown`; do not edit.\n\n"
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

namespace {

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

const OptionTable<PluginOptions>& plugin_table() {
  static const auto table = joined<PluginOptions>(
      {node_rows(), node_image_rows(), process_defaults(), network_defaults(), gate_rows(), image_gate_rows()});
  return table;
}

// In groups, as one function with all of them would be too long to read.
const OptionTable<TaskOptions>& task_table() {
  static const OptionTable<TaskOptions> table =
      joined<TaskOptions>({image_rows(), process_rows(), network_rows(), mount_rows(), security_rows(), limit_rows(),
                           refused_rows(), idle_rows()});
  return table;
}

}  // namespace
}  // namespace driver
