// The directory that a shim works in. What is in it, and who wrote it:
//
//   config.json                  us, before create      the OCI spec
//   rootfs/                      us                     mount point of the root file system
//   log                          us, before launch      the shim's own log: a regular file. Missing, the shim dies at
//                                                       once; a FIFO without a reader would block it
//   address                      us, before launch      "unix://<socket>": makes the shim unlink its socket at its end
//   init.pid, <exec id>.pid      runc
//   options.json, runtime        the shim, at create    read again by `<shim> delete`
//   log.json                     runc                   its errors
#pragma once

#include <string>

#include "base/result.h"
#include "shim/types.h"

namespace shim {

/// Makes the bundle without config.json: all that a shim needs to come up, so that it can do so while the rest of the
/// start is prepared. The directory is 0711 (a container's user namespace must traverse it), files are 0600.
/// Idempotent.
///   errors  kInvalidArgument names that break the rules · errno codes
base::Status prepare_bundle(const ShimNames& names);

inline constexpr std::size_t kConfigBytesMax = 4u << 20;  ///< of config.json; whoever reads it has room for that

/// prepare_bundle and config.json, replaced as a whole. Idempotent.
///   errors  as prepare_bundle · kInvalidArgument larger than kConfigBytesMax
base::Status write_bundle(const ShimNames& names, const std::string& config_json);

/// What the shim and the runtime last said, for an error message: the last error of log.json, the last lines of log.
/// "" if there is nothing. At most kBundleLogTailBytesMax.
inline constexpr std::size_t kBundleLogTailBytesMax = 2048;
std::string bundle_log_tail(const ShimNames& names);

/// Removes the bundle. kFailedPrecondition, with everything left in place, while something is mounted on its rootfs.
base::Status remove_bundle(const ShimNames& names);

}  // namespace shim
