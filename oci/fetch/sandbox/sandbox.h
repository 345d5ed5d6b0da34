// What each process of the helper gives up before it looks at the first byte from outside. Three stages, each its own
// process; whatever goes wrong in one of them, a bug in a parser included, stays within what that stage can do:
//
//   fetch     talks to registries, checks digests, writes blobs, gives names.   Network, but no unix sockets; sees what
//             a resolver and TLS read, writes to the store alone; two capabilities.
//   unpack    decompresses and unpacks one image's layers.   No network, no credentials; sees its staging folder and
//             the layers that it builds on, nothing else; six capabilities; memory, file size and CPU limits.
//   starter   starts an unpack stage each time the fetch stage asks (unpack_stage.h). Reads nothing but that.
//
// All have no_new_privs, no core dumps, no terminal, and die with their parent; fetch and unpack may make only the
// system calls of their list (filter.h). No user namespace is needed, and none is used: hosts that forbid those are
// fine.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace oci::fetch {

/// Called once, first thing in main, while there is one thread: no new privileges by exec, no core dumps and no ptrace
/// by others (credentials are in memory), death with the parent, a session of its own, and a umask that lets layers
/// have their modes.
base::Status enter_sandbox();

enum class Network : bool { kNo, kYes };
struct FetchView {
  std::string data_dir;             ///< absolute, without links; the store in it is all that can be written to
  std::vector<std::string> needed;  ///< files and folders that must be readable, by their absolute paths
  Network network = Network::kYes;  ///< kNo: everything comes from a descriptor
  int archive_fd = -1;              ///< a file or folder of the host, replaced by a read-only view of it; -1 = none
};
/// The fetch stage's rights. Called while there is one thread; on failure the process must end.
///   out     the store on a read-only mount of its own: what is opened there for another process, that process cannot
///           write to, not even by opening it anew through /proc/self/fd
///   errors  kPermissionDenied, kFailedPrecondition naming what the kernel or the service manager must allow ·
///           kInvalidArgument the archive is a device
base::Result<base::Fd> enter_fetch_sandbox(const FetchView& view);

/// What the unpack stage sees as its root directory.
constexpr char kStagingView[] = "/staging";  ///< read and write
constexpr char kLayersView[] = "/layers";    ///< "/layers/0" and so on, read-only
struct UnpackView {
  std::string data_dir;             ///< as FetchView's
  std::string staging;              ///< beneath it: "ingest/layers-17-0"
  std::vector<std::string> layers;  ///< beneath it: "layers/<hex>"
};
/// Limits of the unpack stage. None is reached by an image that can be run; each ends a runaway.
constexpr unsigned long kUnpackAddressBytesMax = 1ul << 30;  ///< eight threads and the largest zstd window
constexpr unsigned long kUnpackFileBytesMax = 32ul << 30;    ///< as UnpackLimits::bytes_max
constexpr unsigned long kUnpackFilesMax = 1024;              ///< open at once; settling holds three for each layer
constexpr unsigned long kUnpackCpuSecondsMax = 3600;
/// The unpack stage's rights; as above.
base::Status enter_unpack_sandbox(const UnpackView& view);

}  // namespace oci::fetch
