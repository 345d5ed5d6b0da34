// After a boot: whether what was written to the image store in the last minutes before the machine went down is there.
#pragma once

#include <string>

#include "base/context.h"
#include "oci/gc.h"

namespace driver {

/// Once a boot of the machine (`marker` remembers which): verifies the blobs and layers that came
/// within minutes of the last that came before this boot, and removes what is damaged, so that it is pulled again.
/// Commits are ordered so that there should be none; this is for disks that say too early that they have written.
/// Whatever is older was on the disk for long. Tells what it finds in the log.
///   blocks  disk: reads what the last pulls before the boot brought; without a store, not at all
///   in      marker: a file's path, not in data_dir, where the image helper could write it · uses: what tasks need,
///           asked while the store is locked
void check_images_after_boot(const base::Context& ctx, const std::string& data_dir, const std::string& marker,
                             const oci::ListUses& uses);

}  // namespace driver
