#include "cli/verb.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/auth_file.h"
#include "driver/host/programs.h"
#include "driver/image/credentials.h"
#include "oci/reference.h"

namespace cli {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr char kDataDirVariable[] = "CONTAINERD_DRIVER_DATA_DIR";
constexpr char kStateDirVariable[] = "CONTAINERD_DRIVER_STATE_DIR";

}  // namespace

void Globals::declare(Flags& flags) {
  const driver::PluginOptions defaults;
  flags.value("data-dir", 0, "DIR", str("images and writable layers (default ", defaults.data_dir, ")"), data_dir);
  flags.value("state-dir", 0, "DIR", str("bundles and sockets (default ", defaults.state_dir, ")"), state_dir);
  flags.value("shim", 0, "PROGRAM", str("the shim (default ", defaults.shim, ")"), shim);
  flags.value("runtime", 0, "PROGRAM", str("the OCI runtime (default ", defaults.runtime_binary, ")"), runtime);
  flags.value("image-helper", 0, "PROGRAM", "the program that fetches images", image_helper);
  flags.value("hosts-dir", 0, "DIR[:DIR]", "where hosts.toml files with mirrors and certificates are", hosts_dir);
  flags.value("auth-config", 0, "FILE", "a Docker config.json with the credentials of registries", auth_config);
  flags.value("log-level", 0, "LEVEL", "trace, debug, info, warn, error or off (default warn)", log_level);
  flags.toggle("help", 'h', "show help for the command", help);
}

Status Globals::apply() {
  const auto level = base::log_level_from_name(log_level);
  if (!level) {
    return Error::invalid_argument(
        str("--log-level ", log_level, " is not a log level: use trace, debug, info, warn, error or off"));
  }
  base::set_log(*level, base::LogFormat::kHuman);
  for (const auto& [path, variable] : {std::pair{&data_dir, kDataDirVariable}, {&state_dir, kStateDirVariable}}) {
    if (const char* const value = ::getenv(variable); path->empty() && value != nullptr) *path = value;
    if (path->empty()) continue;
    TRY(*path, base::absolute_path(*path));
  }
  return {};
}

Status Globals::check_data_dir() const {
  struct stat info = {};
  if (data_dir.empty() || ::stat(data_dir.c_str(), &info) == 0) return {};
  if (errno != ENOENT) return Error::from_errno(errno, data_dir);
  return Error::not_found(str("there is no folder ", data_dir, ": --data-dir and ", kDataDirVariable,
                              " name the one that the agent's configuration does"));
}

driver::PluginOptions Globals::options() const {
  driver::PluginOptions options;
  const auto replace = [](std::string& option, const std::string& given) {
    if (!given.empty()) option = given;
  };
  replace(options.data_dir, data_dir);
  replace(options.state_dir, state_dir);
  replace(options.shim, shim);
  replace(options.runtime_binary, runtime);
  replace(options.image_helper, image_helper);
  replace(options.hosts_dir, hosts_dir);
  replace(options.auth.config, auth_config);
  return options;
}

std::vector<Flags::Description> flags_of(const Verb& verb) {
  std::ostringstream nowhere;
  Io io{nowhere, nowhere};
  std::vector<Flags::Description> found;
  Call call{{}, {}, io, &found};
  verb.run(verb, call);
  return found;
}

std::vector<Flags::Description> global_flags() {
  Flags flags;
  Globals globals;
  globals.declare(flags);
  return flags.describe();
}

std::optional<std::vector<std::string>> parse_flags(const Verb& self, Call& call, Flags& flags, Flags::Stop stop,
                                                    int& exit_code) {
  if (call.described != nullptr) {
    *call.described = flags.describe();
    return std::nullopt;
  }
  const std::string own_help = flags.help();
  call.globals.declare(flags);
  auto rest = flags.parse(call.args, stop);
  if (!rest) {
    exit_code = misuse(self, call.io, rest.error());
    return std::nullopt;
  }
  if (call.globals.help) {
    Flags global_flags;
    Globals unused;
    unused.declare(global_flags);
    std::string examples;
    for (const std::string_view example : self.examples) examples += str("  containerd-driver ", example, "\n");
    print_own(call.io, str("usage: containerd-driver ", self.name, " ", self.arguments, "\n\n  ", self.summary, "\n\n",
                           own_help.empty() ? "" : str("flags:\n", own_help, "\n"), "flags of every command:\n",
                           global_flags.help(), examples.empty() ? "" : str("\nexamples:\n", examples)));
    exit_code = kExitOk;
    return std::nullopt;
  }
  if (auto applied = call.globals.apply(); !applied) {
    exit_code = misuse(self, call.io, applied.error());
    return std::nullopt;
  }
  if (auto there = self.needs_store ? call.globals.check_data_dir() : Status(); !there) {
    exit_code = fail(call.io, there.error());
    return std::nullopt;
  }
  return std::move(*rest);
}

bool parse_flags_only(const Verb& self, Call& call, Flags& flags, int& exit_code) {
  const auto rest = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!rest) return false;
  if (rest->empty()) return true;
  exit_code = misuse(self, call.io, Error::invalid_argument(str("unexpected argument \"", rest->front(), "\"")));
  return false;
}

int misuse(const Verb& self, Io& io, const Error& error) {
  print_note(io, str(error.message, " (see containerd-driver help ", self.name, ")"));
  return kExitMisuse;
}

int fail_unless_stopped(Io& io, const SignalRelay& signals, const Error& error, int exit_code) {
  const int stopped_by = signals.stopped_by();
  if (stopped_by != 0 && error.code == base::Code::kCancelled) return kExitSignalBase + stopped_by;
  return fail(io, error, exit_code);
}

int fail_lost_output(Io& io, const Error& error) {
  return fail(io, error, error.sys_errno == EPIPE ? kExitSignalBase + SIGPIPE : kExitRunFailure);
}

base::Json json_time(std::int64_t unix_seconds) {
  return unix_seconds == 0 ? base::Json() : base::Json(base::utc_text(unix_seconds));
}

Status check_output_format(const std::string& format) {
  if (format.empty() || format == "json") return {};
  return Error::invalid_argument(str("--output ", format, " is not an output format: use json, or omit the flag"));
}

Result<std::unique_ptr<DriverSession>> open_driver(const Globals& globals) {
  if (::geteuid() != 0) return Error::permission_denied("containers are made with root's rights");
  auto session = std::make_unique<DriverSession>();
  TRY_VOID(session->loop.status());
  TRY_VOID(session->driver.configure(globals.options(), {}));
  return session;
}

Result<std::unique_ptr<oci::Images>> open_images(const Globals& globals) {
  const driver::PluginOptions options = globals.options();
  TRY(std::string helper, driver::find_image_helper(options.image_helper));
  return std::make_unique<oci::Images>(
      oci::ImagesOptions{.data_dir = options.data_dir, .helper = std::move(helper), .hosts_dir = options.hosts_dir});
}

Result<oci::PullRequest> pull_request(const base::Context& ctx, const Globals& globals, const std::string& name) {
  TRY(const auto reference, oci::Reference::parse(name));
  oci::PullRequest request;
  request.reference = name;
  request.timeout = std::chrono::hours(24);
  driver::RegistryAuth auth = globals.options().auth;
  // What `login` has written counts without being named; a file that is named has to be there.
  if (auth.config.empty()) {
    const std::string path = auth_file_path("");
    TRY(const bool is_there, has_auth_file(path));
    if (is_there && is_auth_file_unnamed()) TRY_VOID(check_unnamed_auth_file(path));
    if (is_there) auth.config = path;
  }
  TRY(request.credentials, driver::find_credentials(ctx, reference.host(), {}, auth, reference.repository()));
  return request;
}

}  // namespace cli
