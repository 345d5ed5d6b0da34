#include "cli/run_spec.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include <charconv>
#include <iomanip>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/definition.h"
#include "cli/flags.h"
#include "driver/options/config.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

Result<driver::TaskOptions> make_options(const RunFlags& flags, const std::vector<std::string>& args,
                                         driver::TaskSpec& spec);
Result<Json> mount_of(const std::string& volume);
Status apply_limits(const RunFlags& flags, Json& options, driver::TaskSpec& spec);
Status apply_namespaces(const RunFlags& flags, Json& options);
/// Flags that are words, and change nothing in the options.
Status check_words(const RunFlags& flags);
Result<Json> map_of(const char* flag, const std::vector<std::string>& entries);
Result<Json> entrypoint_of(const std::string& text);
Result<Json> long_mount_of(const std::string& text);
Result<std::int64_t> bytes_of(const char* flag, const std::string& text);
Result<double> number_of(const char* flag, const std::string& text);
Result<std::int64_t> integer_of(const char* flag, const std::string& text);
base::Status add_one(const std::string& entry, std::map<std::string, std::string>& env);
std::string default_name(const std::string& image);
std::string random_hex();

}  // namespace

void declare_run_flags(Flags& flags, RunFlags& into) {
  flags.toggle("rm", 0, "remove the container when it has ended", into.remove);
  flags.toggle("detach", 'd', "leave it running, and print its ID", into.detach);
  flags.value("cidfile", 0, "FILE", "write the container's ID to a new file", into.cidfile);
  flags.value("pull", 0, "WHEN", "ask the image's registry: always, missing (default), newer or never", into.pull);
  flags.value("log-driver", 0, "DRIVER", "none: keep no log of a detached container", into.log_driver);
  flags.toggle("interactive", 'i', "pass on standard input", into.interactive);
  flags.toggle("tty", 't', "give the command a terminal", into.tty);
  flags.list("env", 'e', "K=V", "set an environment variable; K alone passes on the caller's value", into.env);
  flags.list("env-file", 0, "FILE", "set the variables of a file, one K=V a line", into.env_files);
  flags.list("label", 'l', "K=V", "a label, which ps and inspect show", into.labels);
  flags.list("mount", 0, "type=bind,source=SRC,target=DST", "a mount of type bind or tmpfs", into.mounts);
  flags.list("tmpfs", 0, "DST[:size=64m,…]", "a folder in memory", into.tmpfs);
  flags.value("shm-size", 0, "SIZE", "size of /dev/shm (default 64m)", into.shm_size);
  for (const LimitFlag& limit : limit_flags()) {
    flags.value(limit.name, limit.letter, limit.value, limit.help, into.*limit.member);
  }
  flags.value("oom-score-adj", 0, "NUMBER", "0 to 1000: how early the kernel kills it when memory is out",
              into.oom_score_adj);
  flags.list("ulimit", 0, "NAME=SOFT[:HARD]", "a limit of setrlimit(2): nofile=1024:4096", into.ulimits);
  flags.list("sysctl", 0, "K=V", "a kernel parameter of its own namespaces", into.sysctls);
  flags.list("device", 0, "HOST[:INSIDE[:rwm]]", "a device of the host", into.devices);
  flags.list("security-opt", 0, "OPTION", "seccomp=…, apparmor=…, no-new-privileges, label=disable", into.security_opt);
  flags.list("group-add", 0, "GROUP", "one more group of its user", into.group_add);
  flags.value("runtime", 0, "NAME", "the OCI runtime", into.runtime);
  flags.value("pid", 0, "host", "share the processes of the host, or of container:ID", into.pid);
  flags.value("ipc", 0, "host", "share the host's IPC", into.ipc);
  flags.value("uts", 0, "host", "share the host's name", into.uts);
  flags.value("restart", 0, "no", "no other policy is known: what is to run always is a job of Nomad", into.restart);
  flags.value("stop-signal", 0, "SIGNAL", "what `stop` sends first, if not the image's", into.stop_signal);
  flags.value("stop-timeout", 0, "SECONDS", "how long `stop` waits before it kills (default 10)", into.stop_timeout);
  flags.toggle("sig-proxy", 0, "pass on signals to the container (always)", into.sig_proxy);
  flags.toggle("init", 0, "run a small init as its first process", into.init);
  flags.list("volume", 'v', "SRC:DST[:ro]", "mount a file or folder of the host", into.volumes);
  flags.value("platform", 0, "OS/ARCH", "platform of the image, if not this host's", into.platform);
  into.network.declare(flags);
  flags.value("hostname", 0, "NAME", "host name inside", into.hostname);
  flags.value("user", 'u', "USER[:GROUP]", "user to run as", into.user);
  flags.list("entrypoint", 0, "PROGRAM", "replace the image's ENTRYPOINT and ignore its CMD; \"\" for none",
             into.entrypoint);
  flags.value("workdir", 'w', "DIR", "working directory", into.cwd);
  flags.value("name", 0, "NAME", "prefix of the container ID (default: the image's name)", into.name);
  flags.toggle("privileged", 0, "all capabilities and devices, no seccomp filter", into.privileged);
  flags.toggle("read-only", 0, "mount the image read-only", into.readonly);
  flags.list("cap-add", 0, "CAP", "add a capability", into.cap_add);
  flags.list("cap-drop", 0, "CAP", "drop a capability", into.cap_drop);
}

const std::vector<LimitFlag>& limit_flags() {
  static const std::vector<LimitFlag> all = {
      {"memory", 'm', "SIZE", "memory limit: 512m", &RunFlags::memory},
      {"memory-swap", 0, "SIZE", "memory and swap together; -1: no limit", &RunFlags::memory_swap},
      {"memory-reservation", 0, "SIZE", "memory that is kept for it when memory is short",
       &RunFlags::memory_reservation},
      {"cpus", 0, "NUMBER", "how many cores it may use: 1.5", &RunFlags::cpus},
      {"cpu-shares", 0, "NUMBER", "its weight against other containers (default 1024)", &RunFlags::cpu_shares},
      {"cpuset-cpus", 0, "LIST", "the cores that it may use: 0-2,4", &RunFlags::cpuset_cpus},
      {"pids-limit", 0, "NUMBER", "the most processes and threads; -1: no limit", &RunFlags::pids_limit},
  };
  return all;
}

Result<driver::TaskSpec> make_task_spec(const RunFlags& flags, const std::vector<std::string>& args) {
  if (args.empty()) return Error::invalid_argument("name the image to run");
  driver::TaskSpec spec;
  TRY(spec.options, make_options(flags, args, spec));
  for (const std::string& file : flags.env_files) TRY_VOID(add_env_file(file, spec.env));
  TRY_VOID(add_env(flags.env, spec.env));
  if (!flags.name.empty()) TRY_VOID(check_name(flags.name));
  spec.stop_signal = flags.stop_signal;
  spec.name = flags.name.empty() ? default_name(args.front()) : flags.name;
  spec.id.text = str("cli/", spec.name, "/", random_hex());
  spec.user = flags.user;
  spec.from_command_line = true;
  spec.remove_on_exit = flags.remove;
  return spec;
}

base::Status add_env(const std::vector<std::string>& entries, std::map<std::string, std::string>& env) {
  for (const std::string& entry : entries) TRY_VOID(add_one(entry, env));
  return {};
}

// As docker and podman read it: comments, blank lines, and values to the end of the line with their quotes.
Status add_env_file(const std::string& path, std::map<std::string, std::string>& env) {
  constexpr std::size_t kBytesMax = 4u << 20;
  auto text = base::read_file(path, kBytesMax);
  if (!text) return std::move(text).error().wrap("--env-file");
  std::string_view rest = *text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  for (std::size_t number = 1; !rest.empty(); ++number) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos || line[begin] == '#') continue;
    line.remove_prefix(begin);
    const std::string_view key = line.substr(0, line.find('='));
    if (key.empty() || key.find_first_of(" \t") != std::string_view::npos) {
      return Error::invalid_argument(
          str("--env-file ", path, ", line ", number, ": \"", key, "\" is not a variable's name: write NAME=VALUE"));
    }
    TRY_VOID(add_one(std::string(line), env));
  }
  return {};
}

namespace {

Result<driver::TaskOptions> make_options(const RunFlags& flags, const std::vector<std::string>& args,
                                         driver::TaskSpec& spec) {
  Json object = {{"image", args[0]},
                 {"image_pull_policy", "missing"},  // also of "latest": a person who
                                                    // wants a newer one pulls it
                 {"platform", flags.platform},
                 {"hostname", flags.hostname},
                 {"cwd", flags.cwd},
                 {"cap_add", flags.cap_add},
                 {"cap_drop", flags.cap_drop},
                 {"privileged", flags.privileged},
                 {"tty", flags.tty},
                 {"readonly_rootfs", flags.readonly}};
  TRY_VOID(apply_network(flags.network, object, spec));
  TRY_VOID(apply_limits(flags, object, spec));
  TRY_VOID(apply_namespaces(flags, object));
  TRY_VOID(check_words(flags));
  TRY(object["labels"], map_of("--label", flags.labels));
  TRY(object["sysctl"], map_of("--sysctl", flags.sysctls));
  TRY(object["ulimit"], map_of("--ulimit", flags.ulimits));
  object["devices"] = flags.devices;
  object["security_opt"] = flags.security_opt;
  object["group_add"] = flags.group_add;
  object["tmpfs"] = flags.tmpfs;
  object["init"] = flags.init;
  object["runtime"] = flags.runtime;
  if (!flags.entrypoint.empty()) {
    TRY(object["entrypoint"], entrypoint_of(flags.entrypoint.back()));
    if (object["entrypoint"].empty() && args.size() < 2) {
      return Error::invalid_argument("--entrypoint \"\" leaves nothing to run: name a command");
    }
  }
  if (args.size() > 1) object["command"] = args[1];
  if (args.size() > 2) object["args"] = std::vector<std::string>(args.begin() + 2, args.end());
  object["mounts"] = Json::array();
  for (const std::string& volume : flags.volumes) {
    TRY(Json mount, mount_of(volume));
    object["mounts"].push_back(std::move(mount));
  }
  for (const std::string& text : flags.mounts) {
    TRY(Json mount, long_mount_of(text));
    object["mounts"].push_back(std::move(mount));
  }
  return driver::decode_task_options(object);
}

Status apply_limits(const RunFlags& flags, Json& options, driver::TaskSpec& spec) {
  if (!flags.memory.empty()) {
    TRY(spec.resources.memory_bytes, bytes_of("--memory", flags.memory));
  }
  if (!flags.memory_reservation.empty()) {
    TRY(const std::int64_t bytes, bytes_of("--memory-reservation", flags.memory_reservation));
    options["memory_reservation"] = str(bytes);
  }
  if (flags.memory_swap == "-1") options["memory_swap"] = "-1";
  if (!flags.memory_swap.empty() && flags.memory_swap != "-1") {
    TRY(const std::int64_t bytes, bytes_of("--memory-swap", flags.memory_swap));
    if (flags.memory.empty()) return Error::invalid_argument("--memory-swap needs --memory");
    if (bytes < spec.resources.memory_bytes) {
      return Error::invalid_argument(str("--memory-swap ", flags.memory_swap, " is less than --memory ", flags.memory,
                                         ": it is memory and swap together"));
    }
    options["memory_swap"] = str(bytes);
  }
  if (!flags.shm_size.empty()) {
    TRY(const std::int64_t bytes, bytes_of("--shm-size", flags.shm_size));
    options["shm_size"] = str(bytes);
  }
  if (!flags.cpus.empty()) {
    TRY(const double cpus, number_of("--cpus", flags.cpus));
    const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
    if (cpus <= 0 || cpus > static_cast<double>(cores)) {
      return Error::invalid_argument(
          str("--cpus ", flags.cpus, " must be from 0.01 to ", cores, ", which this host has"));
    }
    options["cpu_hard_limit"] = true;
    spec.resources.node_cpu_share = cpus / static_cast<double>(cores);
  }
  if (!flags.cpu_shares.empty()) {
    TRY(const double shares, number_of("--cpu-shares", flags.cpu_shares));
    if (shares < 2 || shares > 262144) {
      return Error::invalid_argument(str("--cpu-shares ", flags.cpu_shares, " must be from 2 to 262144"));
    }
    spec.resources.cpu_shares = static_cast<std::int64_t>(shares);
  }
  options["cpuset_cpus"] = flags.cpuset_cpus;
  if (!flags.pids_limit.empty()) {
    TRY(options["pids_limit"], integer_of("--pids-limit", flags.pids_limit));
  }
  if (!flags.oom_score_adj.empty()) {
    TRY(options["oom_score_adj"], integer_of("--oom-score-adj", flags.oom_score_adj));
  }
  return {};
}

Status apply_namespaces(const RunFlags& flags, Json& options) {
  struct Row {
    const char* flag;
    const std::string& given;
    const char* option;
  };
  for (const Row& row : {Row{"--pid", flags.pid, "pid_mode"}, Row{"--ipc", flags.ipc, "ipc_mode"},
                         Row{"--uts", flags.uts, "uts_mode"}}) {
    if (row.given.empty() || row.given == "private") continue;
    const bool may_join = row.option == std::string_view("pid_mode");
    if (may_join && row.given.starts_with("container:")) continue;  // whose it is, is looked for at the start
    if (row.given != "host") {
      return Error::invalid_argument(
          str(row.flag, " ", row.given, " must be host", may_join ? ", container:ID" : "", " or private"));
    }
    options[row.option] = "host";
  }
  return {};
}

Status check_words(const RunFlags& flags) {
  if (!flags.restart.empty() && flags.restart != "no") {
    return Error::invalid_argument(
        str("--restart ", flags.restart, " needs somebody who watches: nothing does so here, write a job for Nomad"));
  }
  if (!flags.log_driver.empty() && flags.log_driver != "none" && flags.log_driver != "file" &&
      flags.log_driver != "k8s-file" && flags.log_driver != "json-file") {
    return Error::invalid_argument(str("--log-driver ", flags.log_driver, " must be file or none"));
  }
  if (!flags.pull.empty() && flags.pull != "always" && flags.pull != "missing" && flags.pull != "newer" &&
      flags.pull != "never") {
    return Error::invalid_argument(str("--pull ", flags.pull, " must be always, missing, newer or never"));
  }
  if (!flags.stop_signal.empty() && !base::signal_from_name(flags.stop_signal)) {
    return Error::invalid_argument(str("--stop-signal \"", flags.stop_signal, "\" is not a signal's name"));
  }
  return {};
}

// "K=V", or "K" for an empty value.
Result<Json> map_of(const char* flag, const std::vector<std::string>& entries) {
  Json map = Json::object();
  for (const std::string& entry : entries) {
    const std::size_t equals = entry.find('=');
    const std::string key = entry.substr(0, equals);
    if (key.empty()) return Error::invalid_argument(str(flag, " ", entry, " has no name: write NAME=VALUE"));
    map[key] = equals == std::string::npos ? "" : entry.substr(equals + 1);
  }
  return map;
}

// "/bin/echo", or a list as JSON: ["/bin/echo", "a b"]
Result<Json> entrypoint_of(const std::string& text) {
  if (text.empty()) return Json::array();
  if (text.front() != '[') return Json::array({text});
  TRY(Json list, base::parse_json(text, "--entrypoint"));
  return list;
}

Result<Json> long_mount_of(const std::string& text) {
  const auto malformed = [&](std::string_view why) {
    return Error::invalid_argument(
        str("--mount ", text, " ", why,
            ": write type=bind,source=/path,target=/path[,readonly], or type=tmpfs,target=/path"));
  };
  std::string type = "volume", source, target;
  std::vector<std::string> options;
  bool readonly = false;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (key == "type") {
      type = value;
    } else if (key == "source" || key == "src") {
      source = value;
    } else if (key == "target" || key == "dst" || key == "destination") {
      target = value;
    } else if (key == "readonly" || key == "ro") {
      const bool yes = value.empty() || value == "true" || value == "1";
      if (!yes && value != "false" && value != "0") return malformed(str("has ", word));
      readonly = yes;
    } else if (key == "bind-propagation") {
      options.push_back(value);
    } else if (key == "tmpfs-size") {
      options.push_back("size=" + value);
    } else if (key == "tmpfs-mode") {
      options.push_back("mode=" + value);
    } else if (key == "bind-nonrecursive" || key == "consistency" || key == "chown" || key == "relabel") {
      continue;
    } else {
      return malformed(str("has the unknown ", key));
    }
  }
  if (type != "bind" && type != "tmpfs") return malformed("is of no type that there is here");
  if (target.empty()) return malformed("has no target");
  if (type == "tmpfs") {
    if (!source.empty()) return malformed("has a source, which a tmpfs does not have");
    if (readonly) options.emplace_back("ro");
    return Json{{"type", "tmpfs"}, {"target", target}, {"options", options}};
  }
  if (source.empty()) return malformed("has no source");
  TRY(const std::string absolute, base::absolute_path(source));
  options.emplace_back("rbind");
  options.emplace_back(readonly ? "ro" : "rw");
  return Json{{"type", "bind"}, {"source", absolute}, {"target", target}, {"options", options}};
}

// "512m", "1g", "1.5GiB", "1048576"
Result<std::int64_t> bytes_of(const char* flag, const std::string& text) {
  constexpr double kMost = 1e18;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  std::string unit = base::ascii_lower({end, text.data() + text.size()});
  if (unit.ends_with("ib")) unit.resize(unit.size() - 2);
  if (unit.size() == 2 && unit.ends_with('b')) unit.resize(1);
  static constexpr std::string_view kUnits = "bkmgt";
  const std::size_t power = unit.empty() ? 0 : kUnits.find(unit.front());
  if (error != std::errc() || unit.size() > 1 || power == std::string_view::npos || number < 0) {
    return Error::invalid_argument(str(flag, " ", text, " is not a size: write 512m, 1g, or bytes"));
  }
  for (std::size_t i = 0; i < power; ++i) number *= 1024;
  if (number > kMost) return Error::invalid_argument(str(flag, " ", text, " is too much"));
  return static_cast<std::int64_t>(number);
}

Result<double> number_of(const char* flag, const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error::invalid_argument(str(flag, " ", text, " is not a number"));
  }
  return number;
}

Result<std::int64_t> integer_of(const char* flag, const std::string& text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error::invalid_argument(str(flag, " ", text, " is not a whole number, or too large for one"));
  }
  return number;
}

Result<Json> mount_of(const std::string& volume) {
  const auto malformed = [&](std::string_view why) {
    return Error::invalid_argument(str("--volume ", volume, " ", why, ": write /source:/target or /source:/target:ro"));
  };
  const std::size_t first = volume.find(':');
  if (first == 0 || first == std::string::npos) return malformed("has no target");
  const std::size_t second = volume.find(':', first + 1);
  const std::string source = volume.substr(0, first);
  if (source.front() != '/' && source.front() != '.') {
    return malformed("names a volume, and there are only files and folders here");
  }
  std::vector<std::string> options = {"rbind"};
  if (second == std::string::npos) {
    options.emplace_back("rw");
  } else {
    std::istringstream words(volume.substr(second + 1));
    for (std::string word; std::getline(words, word, ',');) {
      if (word != "z" && word != "Z") options.push_back(word);  // labels of SELinux, which is not set here
    }
  }
  TRY(const std::string absolute, base::absolute_path(source));
  return Json{{"type", "bind"},
              {"source", absolute},
              {"target", volume.substr(first + 1, second - first - 1)},
              {"options", options}};
}

base::Status add_one(const std::string& entry, std::map<std::string, std::string>& env) {
  const std::size_t equals = entry.find('=');
  const std::string key = entry.substr(0, equals);
  if (key.empty()) return Error::invalid_argument(str("--env ", entry, " has no name: write NAME=VALUE"));
  if (equals != std::string::npos) {
    env[key] = entry.substr(equals + 1);
  } else if (const char* own = ::getenv(key.c_str()); own != nullptr) {
    env[key] = own;
  }
  return {};
}

// "localhost:5000/team/redis:7" → "redis"
std::string default_name(const std::string& image) {
  const std::string last = image.substr(image.rfind('/') + 1);
  const std::string name = last.substr(0, last.find_first_of(":@"));
  return name.empty() ? "run" : name;
}

std::string random_hex() {
  std::uint32_t value = 0;
  CHECK(::getrandom(&value, sizeof value, 0) == sizeof value);
  std::ostringstream out;
  out << std::hex << std::setw(8) << std::setfill('0') << value;
  return out.str();
}

}  // namespace
}  // namespace cli
