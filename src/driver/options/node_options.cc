// The rows of the option table about the node itself: programs and folders.
#include "driver/options/rows.h"

namespace driver {

using base::Status;
using std::chrono::milliseconds;

namespace {

Status check_directory(const std::string& where, const std::string& value) {
  TRY_VOID(check_absolute(where, value));
  if (value.empty()) return refuse(where, value, "must be an absolute path, like /srv");
  return {};
}

Status check_runtime_type(const std::string& where, const std::string& value) {
  if (value == "io.containerd.runc.v2" || value == "io.containerd.runc.v1") return {};
  return refuse(
      where, value,
      "is not supported: use \"io.containerd.runc.v2\", and name other runtimes in runtimes or runtime_binary");
}

const OptionTable<DanglingOptions>& dangling_table() {
  static const OptionTable<DanglingOptions> table = {
      boolean("enabled", &DanglingOptions::enabled,
              {.example = "false", .text = "`false`: such tasks run until somebody removes them."}),
      boolean("dry_run", &DanglingOptions::dry_run,
              {.example = "true", .text = "Only say in the log which tasks would be ended."}),
      duration("period", &DanglingOptions::period, milliseconds(1000),
               {.example = "\"3m\"", .text = "How often they are looked for."}),
      duration(
          "creation_grace", &DanglingOptions::creation_grace, milliseconds(60'000),
          {.example = "\"10m\"",
           .text = "How long an agent has, from the start of the plugin, to ask for its tasks: at least a minute."}),
  };
  return table;
}

const OptionTable<GcOptions>& gc_table() {
  static const OptionTable<GcOptions> table = {
      block("dangling_containers", &GcOptions::dangling_containers, dangling_table(), nullptr,
            {.example = "dry_run = true",
             .text = "Tasks that no agent has started, recovered or asked for since this plugin started: their agent "
                     "has lost its state. They hold ports, memory and names, so they are ended. Tasks of another "
                     "living plugin and those of the command line are not touched."}),
  };
  return table;
}

}  // namespace

OptionTable<PluginOptions> node_rows() {
  return {
      boolean("enabled", &PluginOptions::enabled,
              {.example = "true", .text = "`false` turns the driver off on this node: no task is placed here."}),
      text("containerd_runtime", &PluginOptions::containerd_runtime,
           {.example = "\"io.containerd.runc.v2\"",
            .text =
                "Accepted so that agent files of the Go driver stay valid: `io.containerd.runc.v2`, or `v1`. The shim "
                "is chosen by `shim`, the runtime by `runtime_binary`.",
            .check = check_runtime_type}),
      duration("stats_interval", &PluginOptions::stats_interval, milliseconds(100),
               {.example = "\"5s\"",
                .text = "How often a task's resource use is measured. Unset: as often as the agent asks."}),
      text("data_dir", &PluginOptions::data_dir,
           {.example = "\"/srv/containerd-driver\"",
            .text = "Images, unpacked layers and the writable layers of tasks. Survives a reboot.",
            .check = check_directory}),
      text("state_dir", &PluginOptions::state_dir,
           {.example = "\"/run/containerd-driver\"",
            .text = "Bundles and sockets of running tasks. Must be empty after a reboot, so keep it on a tmpfs.",
            .check = check_directory}),
      number("starts_at_once", &PluginOptions::starts_at_once, 0, 10'000,
             {.example = "8",
              .text = "How many tasks are started at a time; others wait for their turn, in the order in which they "
                      "came. The image is fetched before. 0: two for each core of the node."}),
      block("gc", &PluginOptions::gc, gc_table(), nullptr,
            {.example = "dangling_containers {\n  creation_grace = \"10m\"\n}",
             .text = "What is removed that nobody asks for any more. For images see `image_gc`."}),
      text("shim", &PluginOptions::shim,
           {.example = "\"/usr/local/bin/containerd-shim-runc-v2\"",
            .text = "The shim program: an absolute path, or a name that is looked up in the usual folders.",
            .check = check_name}),
      text("runtime_binary", &PluginOptions::runtime_binary,
           {.example = "\"crun\"",
            .text = "The OCI runtime that the shim calls: an absolute path, or a name that is looked up in the usual "
                    "folders.",
            .check = check_name}),
      text("image_helper", &PluginOptions::image_helper,
           {.example = "\"/usr/libexec/containerd-driver-image\"",
            .text = "The program that fetches and unpacks images. Unset: the one beside the driver's own binary, else "
                    "the one in the libexec folder of the installation.",
            .check = check_absolute}),
  };
}

}  // namespace driver
