// The file in which docker and podman keep registries' credentials (config.json, auth.json), as `login` and `logout`
// change it: one entry at a time, and everything else in it stays. Reading it for a pull is driver/image/credentials.h.
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "oci/images.h"

namespace cli {

/// `named` if it is not empty, else REGISTRY_AUTH_FILE, config.json in DOCKER_CONFIG, or ~/.docker/config.json.
std::string auth_file_path(const std::string& named);

/// Errors by errno: it is not known.
base::Result<bool> has_auth_file(const std::string& path);

/// An empty object if there is no file.
///   errors  kInvalidArgument not a JSON object · by errno. No message quotes its text.
base::Result<base::Json> read_auth_file(const std::string& path);

/// Replaces the file, or makes it and its folder, for nobody but its owner (0600). A link stays one.
base::Status write_auth_file(const std::string& path, const base::Json& document);

// ---- the pure part ----------------------------------------------------------------------------------------------

/// With an entry for `host`, as `docker login` writes it.
///   errors  kFailedPrecondition the file says that a credential helper keeps them · kInvalidArgument malformed
base::Result<base::Json> with_login(base::Json document, const std::string& host, const oci::Credentials& credentials);
/// Without any entry for `host` as a whole.
///   errors  kNotFound there is none · kInvalidArgument malformed
base::Result<base::Json> without_login(base::Json document, const std::string& host);
base::Result<base::Json> without_logins(base::Json document);

}  // namespace cli
