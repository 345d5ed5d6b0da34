// Garbage collection of images on this node: what the options ask for.
#pragma once

#include <cstdint>

#include "driver/values/options.h"
#include "oci/gc.h"

namespace driver {

/// room_bytes: make at least this much free space.
oci::GcRequest gc_request(const ImageGcOptions& options, std::uint64_t room_bytes = 0);

}  // namespace driver
