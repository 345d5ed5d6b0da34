// Files of the host that the configuration or a job names, read without waiting for whatever may be in their place.
#pragma once

#include <string>

#include "base/result.h"

namespace driver {

/// The text of a regular file; symbolic links are followed. Errors do not name the path, and never quote the text.
///   errors  kInvalidArgument "it is a FIFO, not a file" · kNotFound "it does not exist on this node" ·
///           kResourceExhausted larger than `bytes_max` · by errno
base::Result<std::string> read_named_file(const std::string& path, std::size_t bytes_max);

}  // namespace driver
