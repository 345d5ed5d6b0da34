// The rows of the one option table, by subject, and what they share.
#pragma once

#include <string>

#include "base/result.h"
#include "driver/options/option_table.h"
#include "driver/values/words.h"

namespace driver {

/// A platform that images are made for (oci/platform.h), or "".
base::Status check_platform(const std::string& where, const std::string& value);

/// "/dev/fuse", "/dev/loop0:/dev/xvdc:r", "/dev/loop0:r", or a block with host_path, container_path and
/// cgroup_permissions; one, or a list of them.
///   errors  kInvalidArgument naming the entry and the form that is expected
base::Result<std::vector<DeviceOption>> decode_devices(const base::Json& value, const std::string& where);

/// Rows of the one table (config.cc), by subject.
OptionTable<PluginOptions> gate_rows();         ///< what jobs of this node may ask for
OptionTable<PluginOptions> node_rows();         ///< programs and folders
OptionTable<PluginOptions> node_image_rows();   ///< registries and their credentials, collection
OptionTable<PluginOptions> image_gate_rows();   ///< which images, and who is asked about them
OptionTable<PluginOptions> process_defaults();  ///< what tasks get that say nothing themselves
OptionTable<PluginOptions> network_defaults();  ///< the same
OptionTable<TaskOptions> image_rows();          ///< the image, and how it gets here
OptionTable<TaskOptions> process_rows();        ///< the process and its names
OptionTable<TaskOptions> network_rows();        ///< network, hosts and DNS
OptionTable<TaskOptions> mount_rows();          ///< mounts and file systems
OptionTable<TaskOptions> refused_rows();        ///< options of other drivers that Nomad's own blocks replace
OptionTable<TaskOptions> idle_rows();           ///< options of other drivers that a job can do without
OptionTable<TaskOptions> security_rows();       ///< capabilities, seccomp, namespaces, devices, runtime
OptionTable<TaskOptions> limit_rows();          ///< ulimits, CPU and memory beyond Nomad's resources

/// Takes security_opt and file_limit apart into the options that they stand for.
///   errors  kInvalidArgument for what is not known, or contradicts those options
base::Status merge_security_options(TaskOptions& options);
base::Status merge_limits(TaskOptions& options);
/// network_mode = "host" is host_network.
base::Status merge_network_options(TaskOptions& options);
/// What no row can see alone.
base::Status check_process_options(const TaskOptions& options);
base::Status check_mount_options(const TaskOptions& options);

}  // namespace driver
