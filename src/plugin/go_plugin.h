// HashiCorp's go-plugin protocol, the child's side: the magic cookie, the socket, the handshake line, and how the
// process lives and ends.
//
//   host                                     plugin
//   exec with the cookie in the environment ─► bind + listen on a unix socket of our own
//   read one line from our stdout           ◄─ "1|2|unix|<path>|grpc|"
//   connect, HTTP/2 ────────────────────────►  serve until told to go
//
// The host notices our death by EOF on both stdout and stderr, so the pipe behind stdout stays open, unused, until the
// end, and no child may inherit either (base::Process gives children stdio of their own).
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/crew.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/result.h"
#include "driver/driver.h"

namespace plugin {

/// getenv, or a test's table.
using GetEnv = std::function<const char*(const char* name)>;
const char* process_env(const char* name);

/// True when a Nomad agent started us: NOMAD_PLUGIN_MAGIC_COOKIE has its value.
bool started_by_agent(const GetEnv& env = process_env);

/// What the host asks for.
struct HostOptions {
  std::vector<std::string> socket_dirs;  ///< where the socket may live, in order of preference
  std::optional<gid_t> socket_group;     ///< may connect besides root and ourselves
  bool multiplex_field = false;          ///< the host knows a seventh field
};
/// PLUGIN_UNIX_SOCKET_DIR, else TMPDIR, else /tmp; PLUGIN_UNIX_SOCKET_GROUP (name or number); PLUGIN_MULTIPLEX_GRPC.
/// PLUGIN_PROTOCOL_VERSIONS is not looked at: we speak version 2 alone, and with a host that does not, announcing it is
/// how go-plugin tells.
///   errors  kInvalidArgument unknown group · kUnimplemented PLUGIN_CLIENT_CERT (mutual TLS; Nomad never asks for it)
base::Result<HostOptions> read_host_options(const GetEnv& env);

/// Our socket, in a directory of its own (0700) below the first of `socket_dirs` that can be used; socket mode 0600.
/// With a group: 0710 and 0660. Both are removed by the destructor.
class PluginSocket {
 public:
  static base::Result<PluginSocket> create(const HostOptions& options);
  /// Takes over a directory and the socket in it.
  static PluginSocket adopt(std::string dir, std::string path, base::Fd listener, base::Fd lock = {}) {
    return {std::move(dir), std::move(path), std::move(listener), std::move(lock)};
  }
  ~PluginSocket();
  PluginSocket(PluginSocket&& other) noexcept;
  PluginSocket& operator=(PluginSocket&&) = delete;

  const std::string& path() const { return path_; }
  base::Fd take_listener() { return std::move(listener_); }

 private:
  PluginSocket(std::string dir, std::string path, base::Fd listener, base::Fd lock)
      : dir_(std::move(dir)), path_(std::move(path)), listener_(std::move(listener)), lock_(std::move(lock)) {}
  std::string dir_;
  std::string path_;
  base::Fd listener_;
  base::Fd lock_;  ///< of the directory
};

/// Removes what killed plugins of ours left in `dir`: their directories, which nobody locks and where nobody answers.
void sweep_dead_sockets(const std::string& dir);

/// "1|2|unix|<path>|grpc|\n". Field 5, a certificate, stays empty: agents crash on one that they did not ask for.
std::string handshake_line(const HostOptions& options, const std::string& socket_path);

/// True if the process behind the connected `socket` may talk to us: root, our own user, or the group.
bool admits_peer(int socket, const std::optional<gid_t>& group);

/// Serves one agent until it asks us to go (GRPCController/Shutdown), SIGTERM or SIGHUP comes, or it is gone before it
/// has connected (a mistake in its own configuration): then for 5 s more. Then answers what is queued, gives blocking
/// calls 200 ms and returns. Tasks are never touched. SIGINT and SIGPIPE are ignored.
///   returns   the exit status: 0, or 1 when it could not begin (the reason is on stderr)
///   afterwards  leave by _exit: a call that did not end in time still holds the crew, and nothing is left to be saved
///   threads   the main thread, before it has started others than the loop's and the crew's
int run_plugin(driver::Driver& driver, base::Loop& loop, base::Crew& crew, const std::string& version);

}  // namespace plugin
