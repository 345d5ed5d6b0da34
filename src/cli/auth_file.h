// The file in which docker and podman keep registries' credentials (config.json, auth.json), as `login` and `logout`
// change it: one entry at a time, and everything else in it stays. Reading it for a pull is driver/image/credentials.h.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/context.h"
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

/// Whether what nobody named but HOME may say which program is asked for a password, and which password goes where.
///   errors  kFailedPrecondition others than root and the caller can write it · by errno
base::Status check_unnamed_auth_file(const std::string& path);
/// True if auth_file_path("") is there because of HOME alone.
bool is_auth_file_unnamed();

/// Replaces the file by what `change` makes of it, or makes it and its folder, for nobody but its owner (0600), who
/// stays the one that it had if root replaces it. Links stay. No two such calls for files of one folder run at once, so
/// that none undoes what another has written.
///   blocks  while another one does, 10 s at most
///   errors  those of read_auth_file and of `change`: nothing was written · by errno
base::Status change_auth_file(const base::Context& ctx, const std::string& path,
                              const std::function<base::Result<base::Json>(base::Json)>& change);

// ---- the pure part ----------------------------------------------------------------------------------------------

/// With an entry for `host`, as `docker login` writes it.
///   errors  kFailedPrecondition the file says that a credential helper keeps them · kInvalidArgument malformed
base::Result<base::Json> with_login(base::Json document, const std::string& host, const oci::Credentials& credentials);
/// Without any entry for `host` as a whole.
///   errors  kNotFound there is none · kInvalidArgument malformed
base::Result<base::Json> without_login(base::Json document, const std::string& host);
base::Result<base::Json> without_logins(base::Json document);

}  // namespace cli
