// Which credentials an image's registry gets: the job's, the plugin's, those of a Docker config file, or a credential
// helper's. They go to the host that they are for and to no other: a job chooses which registry it names, and must not
// choose who gets the node's password by it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "driver/values/options.h"
#include "oci/images.h"

namespace driver {

/// The first that has some for `host` (as in a reference: "docker.io", "registry.example.com:5000"):
///   1 task.username/password, for task.server_address if that is given: the job's own password for its own image,
///   2 plugin.username/password, for plugin.server_address ("*": every registry; unset: docker.io only),
///   3 plugin.config: credHelpers, credsStore, auths, as Docker and podman read them; 4 plugin.helper. None: anonymous.
/// `repository` ("team/app") chooses among the file's entries for parts of a registry.
///   blocks  while a helper runs, kHelperTimeout at most
///   errors  kFailedPrecondition the config file or the helper does not work. No message contains a secret.
base::Result<oci::Credentials> find_credentials(const base::Context& ctx, const std::string& host,
                                                const RegistryAuth& task, const RegistryAuth& plugin,
                                                const std::string& repository = "");

/// The server_address of credentials that are for every registry.
inline constexpr char kEveryRegistry[] = "*";
/// What to write in the plugin's configuration if `host` refused a pull that might have needed
/// plugin.username/password, which name no registry; else "".
std::string explain_unused_credentials(const std::string& host, const RegistryAuth& task, const RegistryAuth& plugin);

// ---- the pure parts ---------------------------------------------------------------------------------------------

/// "https://index.docker.io/v1/" → "docker.io": a server as Docker's files and jobs write it, as a reference's host.
std::string registry_host(std::string_view server);

/// Which of the keys of "auths" or "credHelpers" are for images of `repository` on `host`, best first:
///   1 those with a path that the repository is, or lies below; the longest first ("quay.io/team/app", "quay.io/team")
///   2 the host as `docker login` writes it: itself, for Docker Hub "https://index.docker.io/v1/"
///   3 the host by its other names; 4 as a URL with no path or that of an API, https before http
/// Never "…/access-token" and "…/refresh-token", where `docker login` keeps what is for Docker's own use.
std::vector<std::string> keys_for(const std::vector<std::string>& keys, const std::string& host,
                                  const std::string& repository);

/// What a config.json says of one host.
struct DockerConfigEntry {
  oci::Credentials credentials;  ///< of auths
  std::string helper;            ///< "ecr-login": to be asked instead; credHelpers, else credsStore
};
///   errors  kInvalidArgument malformed; of the entries, only those count that come before the one that is used
base::Result<DockerConfigEntry> read_docker_config(std::string_view text, const std::string& host,
                                                   const std::string& repository = "");

/// A helper's answer to `get`: {"ServerURL":…,"Username":…,"Secret":…}; the user "<token>" means an identity token.
base::Result<oci::Credentials> parse_helper_answer(std::string_view text);

}  // namespace driver
