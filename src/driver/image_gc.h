// Garbage collection of images on this node: what the options ask for, and what tasks need.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "driver/config.h"
#include "oci/gc.h"

namespace driver {

/// room_bytes: make at least this much free space.
oci::GcRequest gc_request(const ImageGcOptions& options, std::uint64_t room_bytes = 0);

/// What the tasks of this data_dir run on, by their records: those of this process, of another plugin, of the command
/// line. Records that cannot be read keep nothing; the reaper removes them.
std::vector<oci::GcUse> images_in_use(const std::string& data_dir);

}  // namespace driver
