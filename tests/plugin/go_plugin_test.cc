#include "plugin/go_plugin.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

#include <fstream>
#include <map>

#include "base/file.h"
#include "base/process.h"
#include "plugin/proto/driver.pb.h"
#include "tests/grpc/client.h"
#include "tests/plugin/plugin_server.h"
#include "tests/temp_dir.h"

using namespace std::chrono_literals;

namespace {
constexpr auto kAgentGrace = std::chrono::seconds(2);  // then it sends SIGKILL; the budget of 500 ms is the bench's

constexpr char kCookie[] = "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255";
const base::Context background = base::Context::background();

plugin::GetEnv env(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> const char* {
    const auto it = values.find(name);
    return it == values.end() ? nullptr : it->second.c_str();
  };
}

/// The plugin as an agent has it: its process, its pipes, its handshake.
class Host {
 public:
  explicit Host(const std::vector<std::string>& more_env = {}, bool cookie = true) {
    auto out = base::make_pipe();
    auto err = base::make_pipe();
    REQUIRE(out.has_value());
    REQUIRE(err.has_value());
    base::SpawnOptions options;
    options.argv = {PLUGIN_HOST};
    options.env = {"TMPDIR=" + dir.path().string()};
    if (cookie) options.env.push_back(std::string("NOMAD_PLUGIN_MAGIC_COOKIE=") + kCookie);
    for (const auto& entry : more_env) options.env.push_back(entry);
    options.stdout_fd = out->write_end.get();
    options.stderr_fd = err->write_end.get();
    auto spawned = base::Process::spawn(options);
    REQUIRE_MESSAGE(spawned.has_value(), spawned.error().message);
    process.emplace(std::move(*spawned));
    stdout_pipe = std::move(out->read_end);
    stderr_pipe = std::move(err->read_end);
  }
  ~Host() {
    if (exited) return;
    [[maybe_unused]] const auto killed = process->kill(SIGKILL);
    [[maybe_unused]] const auto status = process->wait(soon());
  }

  static base::Context soon() { return background.with_timeout(20s); }

  /// The first line of stdout.
  std::string handshake() {
    std::string line;
    char c = 0;
    while (line.size() < 1000 && c != '\n') {
      const auto n = base::read_some(soon(), stdout_pipe.get(), std::span(&c, 1));
      if (!n || *n == 0) break;
      line.push_back(c);
    }
    return line;
  }
  std::string socket_path() {
    const std::string line = handshake();
    REQUIRE(line.starts_with("1|2|unix|"));
    REQUIRE(line.ends_with("|grpc|\n"));
    return line.substr(9, line.size() - 9 - 7);
  }
  base::ExitStatus wait() {
    const auto status = process->wait(soon());
    REQUIRE(status.has_value());
    exited = true;
    return *status;
  }
  std::string rest_of(base::Fd& pipe) {
    auto text = base::read_to_end(soon(), pipe.get(), 1u << 20, "pipe");
    return text ? *text : "<" + text.error().message + ">";
  }
  bool dir_is_empty() const { return std::filesystem::is_empty(dir.path()); }

  tests::TempDir dir;
  std::optional<base::Process> process;
  base::Fd stdout_pipe;
  base::Fd stderr_pipe;
  bool exited = false;
};

tests::GrpcClient connect(const std::string& path) {
  auto socket = base::connect_unix(path);
  REQUIRE_MESSAGE(socket.has_value(), socket.error().message);
  return tests::GrpcClient(std::move(*socket));
}

std::size_t status_number(pid_t pid, const std::string& key) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  std::size_t value = 0;
  while (file >> word) {
    if (word == key + ":") file >> value;
  }
  return value;
}

}  // namespace

TEST_CASE("the cookie tells who started us") {
  CHECK(plugin::started_by_agent(env({{"NOMAD_PLUGIN_MAGIC_COOKIE", kCookie}})));
  CHECK_FALSE(plugin::started_by_agent(env({})));
  CHECK_FALSE(plugin::started_by_agent(env({{"NOMAD_PLUGIN_MAGIC_COOKIE", ""}})));
  CHECK_FALSE(plugin::started_by_agent(env({{"NOMAD_PLUGIN_MAGIC_COOKIE", std::string(kCookie) + "0"}})));
  std::string other = kCookie;
  other.back() = '6';
  CHECK_FALSE(plugin::started_by_agent(env({{"NOMAD_PLUGIN_MAGIC_COOKIE", other}})));
}

TEST_CASE("what the host asks for") {
  using List = std::vector<std::string>;
  CHECK(plugin::read_host_options(env({}))->socket_dirs == List{"/tmp"});
  CHECK(plugin::read_host_options(env({{"TMPDIR", "/x"}}))->socket_dirs == List{"/x", "/tmp"});
  CHECK(plugin::read_host_options(env({{"TMPDIR", "relative"}}))->socket_dirs == List{"/tmp"});
  CHECK(plugin::read_host_options(env({{"TMPDIR", "/x"}, {"PLUGIN_UNIX_SOCKET_DIR", "/y"}}))->socket_dirs ==
        List{"/y"});
  CHECK(plugin::read_host_options(env({{"PLUGIN_UNIX_SOCKET_GROUP", "1234"}}))->socket_group == 1234u);
  CHECK(plugin::read_host_options(env({{"PLUGIN_UNIX_SOCKET_GROUP", "root"}}))->socket_group == 0u);
  CHECK(plugin::read_host_options(env({{"PLUGIN_UNIX_SOCKET_GROUP", "no such group"}})).error().code ==
        base::Code::kInvalidArgument);
  CHECK(plugin::read_host_options(env({{"PLUGIN_CLIENT_CERT", "x"}})).error().code == base::Code::kUnimplemented);
  CHECK_FALSE(plugin::read_host_options(env({}))->multiplex_field);
  CHECK(plugin::read_host_options(env({{"PLUGIN_MULTIPLEX_GRPC", "true"}}))->multiplex_field);
}

TEST_CASE("the handshake line: no certificate, a seventh field only on demand") {
  CHECK(plugin::handshake_line({}, "/tmp/s") == "1|2|unix|/tmp/s|grpc|\n");
  plugin::HostOptions mux;
  mux.multiplex_field = true;
  CHECK(plugin::handshake_line(mux, "/tmp/s") == "1|2|unix|/tmp/s|grpc||false\n");
}

TEST_CASE("the socket is ours alone, and goes with us") {
  const tests::TempDir dir;
  plugin::HostOptions options;
  options.socket_dirs = {dir.path().string() + "/absent", std::string(200, 'x'), dir.path().string()};
  std::string path;
  {
    auto socket = plugin::PluginSocket::create(options);
    REQUIRE_MESSAGE(socket.has_value(), socket.error().message);
    path = socket->path();
    CHECK(path.starts_with(dir.path().string() + "/containerd-driver-plugin-"));
    struct stat info {};
    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    REQUIRE(::stat(std::filesystem::path(path).parent_path().c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
    CHECK(base::connect_unix(path).has_value());
  }
  CHECK(std::filesystem::is_empty(dir.path()));

  options.socket_group = ::getegid();
  const auto shared = plugin::PluginSocket::create(options);
  REQUIRE(shared.has_value());
  struct stat info {};
  REQUIRE(::stat(shared->path().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0660);
}

TEST_CASE("a socket that cannot be made is an error that names the directory") {
  plugin::HostOptions options;
  options.socket_dirs = {"/absent/directory"};
  CHECK(plugin::PluginSocket::create(options).error().message.find("/absent/directory") != std::string::npos);
  const tests::TempDir dir;
  const std::string deep = dir / std::string(90, 'd');
  REQUIRE(::mkdir(deep.c_str(), 0700) == 0);
  options.socket_dirs = {deep};
  CHECK(plugin::PluginSocket::create(options).error().code == base::Code::kInvalidArgument);
  CHECK(std::filesystem::is_empty(deep));
  const std::string bar = dir / "a|b";
  REQUIRE(::mkdir(bar.c_str(), 0700) == 0);
  options.socket_dirs = {bar};
  CHECK(plugin::PluginSocket::create(options).error().code == base::Code::kInvalidArgument);
}

TEST_CASE("what killed plugins left is swept, what lives or is young is not") {
  const tests::TempDir dir;
  plugin::HostOptions options;
  options.socket_dirs = {dir.path().string()};
  const auto living = plugin::PluginSocket::create(options);
  REQUIRE(living.has_value());
  const auto make_dead = [&](const std::string& name, std::time_t age) {
    const std::string path = dir / name;
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    auto listener = base::listen_unix(path + "/plugin.sock", 1);
    REQUIRE(listener.has_value());
    const utimbuf old{::time(nullptr) - age, ::time(nullptr) - age};
    REQUIRE(::utime(path.c_str(), &old) == 0);
  };
  make_dead("containerd-driver-plugin-dead", 120);
  make_dead("containerd-driver-plugin-just-killed", 0);
  REQUIRE(::mkdir((dir / "containerd-driver-plugin-young").c_str(), 0700) == 0);
  make_dead("other-dead", 120);
  const utimbuf old{0, 0};
  const std::string living_dir = std::filesystem::path(living->path()).parent_path();
  REQUIRE(::utime(living_dir.c_str(), &old) == 0);
  plugin::sweep_dead_sockets(dir.path().string());
  plugin::sweep_dead_sockets("/absent");
  CHECK_FALSE(std::filesystem::exists(dir / "containerd-driver-plugin-dead"));
  CHECK_FALSE(std::filesystem::exists(dir / "containerd-driver-plugin-just-killed"));
  CHECK(std::filesystem::exists(dir / "containerd-driver-plugin-young"));
  CHECK(std::filesystem::exists(dir / "other-dead"));
  CHECK(std::filesystem::exists(living->path()));
}

TEST_CASE("peers: root and ourselves, or the group") {
  auto pair = tests::socket_pair();
  CHECK(plugin::admits_peer(pair.ours.get(), std::nullopt));
  CHECK_FALSE(plugin::admits_peer(STDIN_FILENO, std::nullopt));  // no socket, no credentials
}

TEST_CASE("a peer of another user is closed at once") {
  if (::geteuid() != 0) return;
  Host host;
  const std::string path = host.socket_path();
  // The 0700 directory keeps others out; open it to see the second lock.
  REQUIRE(::chmod(host.dir.path().c_str(), 0711) == 0);
  REQUIRE(::chmod(std::filesystem::path(path).parent_path().c_str(), 0711) == 0);
  REQUIRE(::chmod(path.c_str(), 0666) == 0);
  // The child only connects and reads: async-signal-safe, as the test has threads.
  auto report = base::make_pipe();
  REQUIRE(report.has_value());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  const pid_t child = ::fork();
  if (child == 0) {
    char result = 'c';
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    if (::setgid(65534) == 0 && ::setuid(65534) == 0 &&
        ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
      char byte = 0;
      result = ::read(fd, &byte, 1) <= 0 ? 'r' : 's';  // refused, or served
    }
    [[maybe_unused]] const auto written = ::write(report->write_end.get(), &result, 1);
    ::_exit(0);
  }
  report->write_end.reset();
  CHECK(base::read_to_end(Host::soon(), report->read_end.get(), 10, "report").value_or(std::string()) == "r");
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(connect(path).call(tests::driver_method("Capabilities"), "").status() == 0);
}

TEST_CASE("without the cookie: a sentence on stderr, exit 1, nothing on stdout") {
  Host host({}, false);
  CHECK(host.wait().exit_code == 1);
  CHECK(host.rest_of(host.stdout_pipe).empty());
  CHECK(host.rest_of(host.stderr_pipe).find("not meant to be run by itself") != std::string::npos);
  CHECK(host.dir_is_empty());
}

TEST_CASE("a host that wants TLS, or a directory that is not there: exit 1 and the reason") {
  Host tls({"PLUGIN_CLIENT_CERT=x"});
  CHECK(tls.wait().exit_code == 1);
  CHECK(tls.rest_of(tls.stdout_pipe).empty());
  CHECK(tls.rest_of(tls.stderr_pipe).find("PLUGIN_CLIENT_CERT") != std::string::npos);
  Host dir({"PLUGIN_UNIX_SOCKET_DIR=/absent"});
  CHECK(dir.wait().exit_code == 1);
  CHECK(dir.rest_of(dir.stderr_pipe).find("/absent") != std::string::npos);
}

TEST_CASE("one line, then silence on stdout; Shutdown is answered, and the end comes before the agent kills") {
  Host host({"PLUGIN_PROTOCOL_VERSIONS=2", "PLUGIN_MIN_PORT=10000", "PLUGIN_MAX_PORT=25000"});
  const std::string path = host.socket_path();
  CHECK(base::connect_unix(path).has_value());  // a bare connection
  auto client = connect(path);
  client.start("/plugin.GRPCStdio/StreamStdio", "");
  client.open("/plugin.GRPCBroker/StartStream");
  const auto fingerprint = client.start(tests::driver_method("Fingerprint"), "");
  CHECK(client.wait_message(fingerprint, 0) != "<none>");
  CHECK(client.call(base::str("/hashicorp.nomad.plugins.base.proto.BasePlugin/", "PluginInfo"), "").status() == 0);
  const pid_t pid = host.process->pid();
  MESSAGE("idle plugin: ", status_number(pid, "VmRSS"), " KiB resident, ", status_number(pid, "Threads"), " threads");
  CHECK(status_number(pid, "Threads") <= 8);

  const auto begin = base::Clock::now();
  CHECK(client.call("/plugin.GRPCController/Shutdown", "").status() == 0);
  CHECK(host.rest_of(host.stdout_pipe).empty());  // to EOF
  CHECK(host.rest_of(host.stderr_pipe).empty());
  CHECK(host.wait().exit_code == 0);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(base::Clock::now() - begin);
  MESSAGE("Shutdown to exit: ", took.count(), " ms");
  CHECK(took < kAgentGrace);
  CHECK(host.dir_is_empty());
}

TEST_CASE("SIGTERM and SIGHUP end it, SIGINT does not") {
  for (const int signal : {SIGTERM, SIGHUP}) {
    Host host;
    const std::string path = host.socket_path();
    auto client = connect(path);
    const auto fingerprint = client.start(tests::driver_method("Fingerprint"), "");
    client.wait_message(fingerprint, 0);
    REQUIRE(host.process->kill(SIGINT).has_value());
    REQUIRE(host.process->kill(SIGPIPE).has_value());
    CHECK(client.call(tests::driver_method("Capabilities"), "").status() == 0);
    const auto begin = base::Clock::now();
    REQUIRE(host.process->kill(signal).has_value());
    CHECK(host.wait().exit_code == 0);
    CHECK(base::Clock::now() - begin < kAgentGrace);
    CHECK(client.wait_end(fingerprint).ended);
    CHECK(host.dir_is_empty());
  }
}

TEST_CASE("a host that is gone before it has connected ends it within 10 s, one that was there does not") {
  Host orphan;
  Host known;
  orphan.socket_path();
  const std::string path = known.socket_path();
  CHECK(connect(path).call(tests::driver_method("Capabilities"), "").status() == 0);
  const auto begin = base::Clock::now();
  known.stdout_pipe.reset();
  known.stderr_pipe.reset();
  orphan.stdout_pipe.reset();
  CHECK(orphan.wait().exit_code == 0);
  CHECK(base::Clock::now() - begin < 10s);
  CHECK(orphan.dir_is_empty());
  // Both had the same time.
  CHECK(connect(path).call(tests::driver_method("Capabilities"), "").status() == 0);
}

TEST_CASE("a call that does not end does not hold the exit; lost connections and a dead stderr do not end it") {
  Host host;
  const std::string path = host.socket_path();
  host.stderr_pipe.reset();
  for (int i = 0; i < 5; ++i) {
    auto client = connect(path);
    CHECK(client.call(tests::driver_method("Capabilities"), "").status() == 0);
  }
  auto client = connect(path);
  nomad::driver::DestroyTaskRequest deaf;
  deaf.set_task_id("deaf");
  const auto stream = client.start(tests::driver_method("DestroyTask"), deaf.SerializeAsString());
  CHECK_FALSE(client.run_until([&] { return client.reply(stream).ended; }, 100ms));
  const auto begin = base::Clock::now();
  CHECK(client.call("/plugin.GRPCController/Shutdown", "").status() == 0);
  CHECK(host.wait().exit_code == 0);
  CHECK(base::Clock::now() - begin < kAgentGrace);
}
