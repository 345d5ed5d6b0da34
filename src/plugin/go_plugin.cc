#include "plugin/go_plugin.h"

#include <fcntl.h>
#include <google/protobuf/stubs/logging.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <ctime>
#include <utility>

#include "base/dir.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/sync.h"
#include "grpc/server.h"
#include "plugin/orphan_watch.h"
#include "plugin/services.h"

namespace plugin {

namespace {

constexpr char kCookieName[] = "NOMAD_PLUGIN_MAGIC_COOKIE";
constexpr std::string_view kCookie = "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255";
constexpr char kDirPrefix[] = "containerd-driver-plugin-";
constexpr char kSocketName[] = "/plugin.sock";
constexpr int kBacklog = 16;
constexpr std::chrono::seconds kAnnounceTimeout{10};  // a pipe takes the line at once
constexpr std::chrono::milliseconds kExitGrace{200};  // of 500 ms for all; the host kills us 2 s after it has asked
constexpr std::time_t kUnlockedAgeSeconds = 60;       // one without a socket may just be on its way to lock it
constexpr int kSweepEntriesMax = 10'000;

base::Result<base::Fd> host_descriptor(int pipe);

bool equal_in_constant_time(std::string_view a, std::string_view b);
base::Result<gid_t> find_group(const std::string& text);
base::Result<PluginSocket> create_in(const std::string& parent, const HostOptions& options);
base::Result<std::string> make_private_dir(const std::string& parent, const std::optional<gid_t>& group);
bool is_dead(const std::string& dir);
base::Result<base::Fd> prepare_signals();
base::Result<base::Fd> announce(const std::string& line);
int fail(const base::Error& error);

}  // namespace

const char* process_env(const char* name) {
  return ::getenv(name);
}

bool started_by_agent(const GetEnv& env) {
  const char* cookie = env(kCookieName);
  return cookie != nullptr && equal_in_constant_time(cookie, kCookie);
}

base::Result<HostOptions> read_host_options(const GetEnv& env) {
  const auto get = [&env](const char* name) {
    const char* value = env(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (!get("PLUGIN_CLIENT_CERT").empty()) {
    return base::Error::unimplemented("PLUGIN_CLIENT_CERT is set: mutual TLS is not supported, start without AutoMTLS");
  }
  HostOptions options;
  if (const std::string dir = get("PLUGIN_UNIX_SOCKET_DIR"); !dir.empty()) {
    options.socket_dirs = {dir};
  } else {
    if (const std::string tmp = get("TMPDIR"); tmp.starts_with("/")) options.socket_dirs.push_back(tmp);
    options.socket_dirs.push_back("/tmp");
  }
  if (const std::string group = get("PLUGIN_UNIX_SOCKET_GROUP"); !group.empty()) {
    TRY(options.socket_group, find_group(group));
  }
  options.multiplex_field = !get("PLUGIN_MULTIPLEX_GRPC").empty();
  return options;
}

base::Result<PluginSocket> PluginSocket::create(const HostOptions& options) {
  CHECK(!options.socket_dirs.empty());
  base::Error first_error;
  for (const auto& dir : options.socket_dirs) {
    auto created = create_in(dir, options);
    if (created) return created;
    if (first_error.message.empty()) first_error = std::move(created).error();
  }
  return std::move(first_error).wrap("creating the plugin's socket");
}

PluginSocket::PluginSocket(PluginSocket&& other) noexcept
    : dir_(std::exchange(other.dir_, {})),
      path_(std::move(other.path_)),
      listener_(std::move(other.listener_)),
      lock_(std::move(other.lock_)) {}

PluginSocket::~PluginSocket() {
  if (dir_.empty()) return;
  ::unlink(path_.c_str());
  ::rmdir(dir_.c_str());
}

void sweep_dead_sockets(const std::string& dir) {
  auto opened = base::open_file(dir, O_RDONLY | O_DIRECTORY);
  if (!opened) return;
  auto entries = base::Dir::read(*std::move(opened), dir);
  if (!entries) return;
  for (int n = 0; n < kSweepEntriesMax; ++n) {
    const auto entry = entries->next();
    if (!entry || *entry == nullptr) break;
    if (!std::string_view((*entry)->d_name).starts_with(kDirPrefix)) continue;
    const std::string path = dir + "/" + (*entry)->d_name;
    if (!is_dead(path)) continue;
    ::unlink((path + kSocketName).c_str());
    ::rmdir(path.c_str());
  }
}

std::string handshake_line(const HostOptions& options, const std::string& socket_path) {
  // core protocol | app protocol | network | address | wire protocol | certificate [| multiplexing]
  std::string line = base::str("1|2|unix|", socket_path, "|grpc|");
  if (options.multiplex_field) line += "|false";
  return line + "\n";
}

bool admits_peer(int socket, const std::optional<gid_t>& group) {
  const auto peer = base::peer_credentials(socket);
  if (!peer) return false;
  if (peer->uid == 0 || peer->uid == ::geteuid() || (group && peer->gid == *group)) return true;
  LOG_WARN("refused a connection to the plugin's socket", {{"uid", peer->uid}, {"pid", peer->pid}});
  return false;
}

int run_plugin(driver::Driver& driver, base::Loop& loop, base::Crew& crew, const std::string& version) {
  if (!started_by_agent()) {
    return fail(base::Error::failed_precondition(
        "this program is a plugin of Nomad and is not meant to be run by itself: put it into the agent's plugin_dir"));
  }
  // Its complaints about malformed requests are no log lines of ours, and a peer decides how many there are.
  google::protobuf::SetLogHandler(nullptr);
  auto options = read_host_options(process_env);
  if (!options) return fail(options.error());
  auto signals = prepare_signals();
  if (!signals) return fail(signals.error());
  auto socket = PluginSocket::create(*options);
  if (!socket) return fail(socket.error());

  base::OneShot<std::string> leave;
  grpc::Server server(loop, crew);
  register_base_service(server, driver, version);
  register_driver_service(server, driver);
  register_go_plugin_services(server, [leave] { leave.set("the agent asked for it"); });
  const auto connected = std::make_shared<std::atomic<bool>>(false);
  server.listen(socket->take_listener(), [group = options->socket_group, connected](int fd) {
    const bool admitted = admits_peer(fd, group);
    if (admitted) *connected = true;
    return admitted;
  });
  std::unique_ptr<base::Watch> signal_watch;
  loop.run([&] {
    signal_watch =
        std::make_unique<base::Watch>(loop, std::move(*signals), [leave] { leave.set("received a signal"); });
  });

  auto pipe_kept_open = announce(handshake_line(*options, socket->path()));
  if (!pipe_kept_open) return fail(pipe_kept_open.error());
  auto host = host_descriptor(pipe_kept_open->get());
  std::unique_ptr<OrphanWatch> orphan_watch;
  loop.run([&] {
    if (!host) return;  // a parent in another namespace, and no pipe: then nobody watches
    orphan_watch =
        std::make_unique<OrphanWatch>(loop, std::move(*host), OrphanTimes(),
                                      OrphanWatch::Deps{[connected] { return connected->load(); },
                                                        [&server] { return server.load().connections > 0; },
                                                        [leave](std::string why) { leave.set(std::move(why)); }});
  });
  for (const auto& dir : options->socket_dirs) sweep_dead_sockets(dir);
  const auto reason = leave.wait(base::Context::background());
  LOG_DEBUG("the plugin exits", {{"reason", reason ? *reason : reason.error().message}});
  loop.run([&] {
    signal_watch.reset();
    orphan_watch.reset();
  });
  server.close(kExitGrace);
  return 0;
}

namespace {

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

base::Result<gid_t> find_group(const std::string& text) {
  gid_t gid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), gid);
  if (error == std::errc() && end == text.data() + text.size()) return gid;
  std::string buffer(16u << 10, '\0');
  group entry{};
  group* found = nullptr;
  ::getgrnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found != nullptr) return found->gr_gid;
  return base::Error::invalid_argument(
      base::str("PLUGIN_UNIX_SOCKET_GROUP names the group ", text, ", which does not exist"));
}

base::Result<PluginSocket> create_in(const std::string& parent, const HostOptions& options) {
  if (parent.find('|') != std::string::npos) {
    return base::Error::invalid_argument(base::str("directory ", parent, ": the handshake line cannot carry a '|'"));
  }
  TRY(const std::string dir, make_private_dir(parent, options.socket_group));
  // Held for as long as this process lives, however it ends: the next one sees by it who is dead.
  TRY(base::Fd lock, base::open_file(dir, O_RDONLY | O_DIRECTORY));
  ::flock(lock.get(), LOCK_EX | LOCK_NB);
  const std::string path = dir + kSocketName;
  auto listener = base::listen_unix(path, kBacklog);
  base::Status opened;
  if (!listener) {
    opened = listener.error();
  } else if (options.socket_group) {
    const bool done =
        ::chown(path.c_str(), static_cast<uid_t>(-1), *options.socket_group) == 0 && ::chmod(path.c_str(), 0660) == 0;
    if (!done) opened = base::Error::from_errno(errno, base::str("giving ", path, " to the group"));
  }
  if (opened) return PluginSocket::adopt(dir, path, std::move(*listener), std::move(lock));
  ::unlink(path.c_str());
  ::rmdir(dir.c_str());
  return std::move(opened).error();
}

/// Nobody but us can look into it, whatever the parent is; 0700 is also what mkdtemp makes.
base::Result<std::string> make_private_dir(const std::string& parent, const std::optional<gid_t>& group) {
  std::string dir = base::str(parent, "/", kDirPrefix, "XXXXXX");
  if (::mkdtemp(dir.data()) == nullptr) {
    return base::Error::from_errno(errno, base::str("making a directory in ", parent));
  }
  if (!group) return dir;
  if (::chown(dir.c_str(), static_cast<uid_t>(-1), *group) == 0 && ::chmod(dir.c_str(), 0710) == 0) return dir;
  auto error = base::Error::from_errno(errno, base::str("giving ", dir, " to the group"));
  ::rmdir(dir.c_str());
  return error;
}

bool is_dead(const std::string& dir) {
  struct stat info {};
  if (::lstat(dir.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != ::geteuid()) return false;
  const auto lock = base::open_file(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!lock || ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) return false;
  const auto connected = base::connect_unix(dir + kSocketName);
  if (connected) return false;  // of a version that holds no lock
  if (connected.error().sys_errno == ECONNREFUSED) return true;
  return connected.error().sys_errno == ENOENT && ::time(nullptr) - info.st_mtime >= kUnlockedAgeSeconds;
}

/// SIGINT reaches us from the terminal of a foreground agent, which still needs us to stop its tasks; SIGPIPE comes
/// when the agent that read our stderr has died. The returned descriptor tells of SIGTERM and SIGHUP.
base::Result<base::Fd> prepare_signals() {
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t end;
  ::sigemptyset(&end);
  ::sigaddset(&end, SIGTERM);
  ::sigaddset(&end, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &end, nullptr);
  base::Fd fd(::signalfd(-1, &end, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return base::Error::from_errno(errno, "watching for signals");
  return fd;
}

/// Writes the line and puts /dev/null in stdout's place, so that nothing ever follows it: the host stops reading at a
/// line of 64 KiB. Returns the pipe, to be held as long as we live.
base::Result<base::Fd> announce(const std::string& line) {
  TRY_VOID(base::write_all(base::Context::background().with_timeout(kAnnounceTimeout), STDOUT_FILENO, line));
  TRY(base::Fd pipe, base::dup_fd(STDOUT_FILENO));
  TRY(const base::Fd null, base::open_file("/dev/null", O_WRONLY));
  if (::dup3(null.get(), STDOUT_FILENO, O_CLOEXEC) < 0) return base::Error::from_errno(errno, "silencing stdout");
  ::fcntl(STDERR_FILENO, F_SETFD, FD_CLOEXEC);
  return pipe;
}

/// Becomes readable, or broken, when the host is gone: the pipe whose other end it reads, or else the process.
base::Result<base::Fd> host_descriptor(int pipe) {
  struct stat info {};
  if (::fstat(pipe, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode))) return base::dup_fd(pipe);
  TRY(const auto parent, base::identify(::getppid()));
  return base::open_pidfd(parent);
}

int fail(const base::Error& error) {
  const std::string text = error.message + "\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
  return 1;
}

}  // namespace

}  // namespace plugin
