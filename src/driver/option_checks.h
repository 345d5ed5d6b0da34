// Checks of option values that rows of several files share, and how an error shows a value.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "driver/option_table.h"

namespace driver {

/// kInvalidArgument: `where` = "value" `why`.
base::Error refuse(const std::string& where, const std::string& value, std::string_view why);

/// Names and paths: what ends up in messages, mount tables and file systems. No control characters, at most 4095 bytes.
base::Status check_name(const std::string& where, const std::string& value);
/// A name that begins with "/", or "".
base::Status check_absolute(const std::string& where, const std::string& value);

/// A platform that images are made for (oci/platform.h), or "".
base::Status check_platform(const std::string& where, const std::string& value);

/// A to Z as a to z; other bytes as they are.
std::string lower(std::string_view text);

/// Rows of the one table (config.cc), by subject.
OptionTable<PluginOptions> gate_rows();         ///< what jobs of this node may ask for
OptionTable<PluginOptions> image_gate_rows();   ///< which images, and who is asked about them
OptionTable<PluginOptions> process_defaults();  ///< what tasks get that say nothing themselves
OptionTable<TaskOptions> process_rows();        ///< the process and its names
OptionTable<TaskOptions> network_rows();        ///< network, hosts and DNS
OptionTable<TaskOptions> mount_rows();          ///< mounts and file systems
OptionTable<TaskOptions> refused_rows();        ///< options of other drivers that Nomad's own blocks replace
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
