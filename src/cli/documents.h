// What `inspect` prints: containers and images in the form that Docker and podman give them, and templates expect.
#pragma once

#include <string>

#include "base/json_fwd.h"
#include "base/result.h"
#include "cli/containers.h"
#include "driver/values/options.h"

namespace oci {
class Store;
}

namespace cli {

/// All that is known of a container: of the command line's own from its definition and its image, of Nomad's from its
/// record and its bundle. What is not known is empty, and "Task" is what ps -o json has of it.
base::Json container_document(const driver::PluginOptions& options, oci::Store& store, const Container& container);

/// In Docker's form, and beside it under small letters what this store knows of it.
///   errors  as Store::record and Store::load
base::Result<base::Json> image_document(const std::string& data_dir, const std::string& reference);

/// RFC 3339; Go's zero time if there is none.
std::string time_text(const std::optional<driver::WallTime>& time);
/// "80/tcp" → [{"HostIp": …, "HostPort": …}], as Docker writes ports.
base::Json ports_document(const std::vector<driver::PublishedPort>& ports);
/// The network's name for --net without "cni/": "bridge" of our own.
std::string network_name(const driver::PluginOptions& options, const std::string& network);

}  // namespace cli
