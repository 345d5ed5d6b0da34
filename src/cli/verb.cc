#include "cli/verb.h"

#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "driver/host/programs.h"
#include "driver/image/credentials.h"
#include "oci/reference.h"

namespace cli {

using base::Error;
using base::Result;
using base::Status;
using base::str;

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
  for (std::string* const path : {&data_dir, &state_dir}) {
    if (path->empty()) continue;
    TRY(*path, base::absolute_path(*path));
  }
  return {};
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

std::optional<std::vector<std::string>> parse_flags(const Verb& self, Call& call, Flags& flags, Flags::Stop stop,
                                                    int& exit_code) {
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
    print_own(call.io, str("usage: containerd-driver ", self.name, " ", self.arguments, "\n\n  ", self.summary, "\n\n",
                           own_help.empty() ? "" : str("flags:\n", own_help, "\n"), "flags of every command:\n",
                           global_flags.help()));
    exit_code = kExitOk;
    return std::nullopt;
  }
  if (auto applied = call.globals.apply(); !applied) {
    exit_code = misuse(self, call.io, applied.error());
    return std::nullopt;
  }
  return std::move(*rest);
}

int misuse(const Verb& self, Io& io, const Error& error) {
  print_note(io, str(error.message, " (see containerd-driver help ", self.name, ")"));
  return kExitMisuse;
}

Status check_output_format(const std::string& format) {
  if (format.empty() || format == "json") return {};
  return Error::invalid_argument(str("--output ", format, " is not an output format: use json, or omit the flag"));
}

Result<std::unique_ptr<DriverSession>> open_driver(const Globals& globals) {
  if (::geteuid() != 0) return Error::permission_denied("this needs root: containers are made with root's rights");
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
  TRY(request.credentials, driver::find_credentials(ctx, reference.host(), {}, globals.options().auth));
  return request;
}

}  // namespace cli
