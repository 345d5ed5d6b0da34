#include "shim/program.h"

#include <algorithm>
#include <filesystem>
#include <thread>

namespace shim {

namespace {

/// containerd's own argument; a shim that is started directly uses it for nothing, but wants it.
constexpr char kAddress[] = "containerd-driver";
/// Threads that run Go code at once, in the shim and in the runc that inherits it: as containerd has it, but no more
/// than there are processors (measured on two: Create is 15 % faster with 2 than with 4).
constexpr unsigned kGoMaxProcsMax = 4;

std::vector<std::string> environment(const ShimOptions& options, const ShimNames& names);
std::string runtime_dir(const ShimNames& names);

}  // namespace

base::SpawnOptions shim_program(const ShimOptions& options, const ShimNames& names) {
  base::SpawnOptions program;
  program.argv = {options.shim_binary, "-namespace", kNamespace, "-id", names.container_id, "-address", kAddress};
  program.env = environment(options, names);
  program.cwd = names.bundle_dir;
  return program;
}

base::SpawnOptions shim_delete_program(const ShimOptions& options, const ShimNames& names) {
  base::SpawnOptions program = shim_program(options, names);
  program.argv.insert(program.argv.end(), {"-bundle", names.bundle_dir, "delete"});
  return program;
}

base::SpawnOptions runtime_delete_program(const ShimOptions& options, const ShimNames& names) {
  base::SpawnOptions program;
  program.argv = {
      options.runtime_binary, "--root", base::str(options.runtime_root, "/", kNamespace), "delete", "--force",
      names.container_id};
  program.env = environment(options, names);
  return program;
}

std::string runtime_state_dir(const ShimOptions& options, const ShimNames& names) {
  return base::str(options.runtime_root, "/", kNamespace, "/", names.container_id);
}

namespace {

std::vector<std::string> environment(const ShimOptions& options, const ShimNames& names) {
  const unsigned go_max_procs = std::clamp(std::thread::hardware_concurrency(), 1u, kGoMaxProcsMax);
  return {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", base::str("GOMAXPROCS=", go_max_procs),
          base::str("TTRPC_ADDRESS=", options.events_socket), base::str("XDG_RUNTIME_DIR=", runtime_dir(names))};
}

// The shim makes console sockets ("<dir>/pty0123456789/pty.sock", 107 bytes at most) and the process files of execs
// there, which hold the task's environment: in the bundle, so that they go with it, unless its path is too long.
std::string runtime_dir(const ShimNames& names) {
  constexpr std::size_t kDirBytesMax = 107 - sizeof("/pty0123456789/pty.sock") + 1;
  if (names.bundle_dir.size() <= kDirBytesMax) return names.bundle_dir;
  return std::filesystem::path(names.socket_path).parent_path();
}

}  // namespace

}  // namespace shim
