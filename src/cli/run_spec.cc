#include "cli/run_spec.h"

#include <stdlib.h>
#include <sys/random.h>

#include <iomanip>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "cli/flags.h"
#include "driver/options/config.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::str;

namespace {

Result<driver::TaskOptions> make_options(const RunFlags& flags, const std::vector<std::string>& args,
                                         driver::TaskSpec& spec);
Result<Json> mount_of(const std::string& volume);
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
  flags.list("volume", 'v', "SRC:DST[:ro]", "mount a file or folder of the host", into.volumes);
  flags.value("platform", 0, "OS/ARCH", "platform of the image, if not this host's", into.platform);
  into.network.declare(flags);
  flags.value("hostname", 0, "NAME", "host name inside", into.hostname);
  flags.value("user", 'u', "USER[:GROUP]", "user to run as", into.user);
  flags.value("entrypoint", 0, "PROGRAM", "replace the image's ENTRYPOINT and ignore its CMD", into.entrypoint);
  flags.value("workdir", 'w', "DIR", "working directory", into.cwd);
  flags.value("name", 0, "NAME", "prefix of the container ID (default: the image's name)", into.name);
  flags.toggle("privileged", 0, "all capabilities and devices, no seccomp filter", into.privileged);
  flags.toggle("read-only", 0, "mount the image read-only", into.readonly);
  flags.list("cap-add", 0, "CAP", "add a capability", into.cap_add);
  flags.list("cap-drop", 0, "CAP", "drop a capability", into.cap_drop);
}

Result<driver::TaskSpec> make_task_spec(const RunFlags& flags, const std::vector<std::string>& args) {
  if (args.empty()) return Error::invalid_argument("name the image to run");
  driver::TaskSpec spec;
  TRY(spec.options, make_options(flags, args, spec));
  TRY_VOID(add_env(flags.env, spec.env));
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

namespace {

Result<driver::TaskOptions> make_options(const RunFlags& flags, const std::vector<std::string>& args,
                                         driver::TaskSpec& spec) {
  Json object = {{"image", args[0]},           {"image_pull_policy", "missing"},  // also of "latest": a person who
                                                                                  // wants a newer one pulls it
                 {"platform", flags.platform}, {"hostname", flags.hostname},       {"cwd", flags.cwd},
                 {"cap_add", flags.cap_add},   {"cap_drop", flags.cap_drop},       {"privileged", flags.privileged},
                 {"tty", flags.tty},           {"readonly_rootfs", flags.readonly}};
  TRY_VOID(apply_network(flags.network, object, spec));
  if (!flags.entrypoint.empty()) object["entrypoint"] = Json::array({flags.entrypoint});
  if (args.size() > 1) object["command"] = args[1];
  if (args.size() > 2) object["args"] = std::vector<std::string>(args.begin() + 2, args.end());
  object["mounts"] = Json::array();
  for (const std::string& volume : flags.volumes) {
    TRY(Json mount, mount_of(volume));
    object["mounts"].push_back(std::move(mount));
  }
  return driver::decode_task_options(object);
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
    for (std::string word; std::getline(words, word, ',');) options.push_back(word);
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
