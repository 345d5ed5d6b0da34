#include "driver/image/credentials.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>

#include "base/base64.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "driver/files/named_file.h"
#include "driver/host/programs.h"

namespace driver {

namespace {
using base::Context;
using base::Error;
using base::Result;
using base::str;

constexpr std::size_t kConfigBytesMax = 1u << 20;
constexpr std::size_t kAnswerBytesMax = 64u << 10;
constexpr std::chrono::seconds kHelperTimeout{30};  // some ask a cloud's metadata service first
constexpr std::string_view kDockerHub = "docker.io";
constexpr std::string_view kDockerHubServer = "https://index.docker.io/v1/";  // its name in Docker's files
constexpr std::string_view kTokenUser = "<token>";
constexpr std::string_view kNotThere = "credentials not found in native keychain";  // what helpers say then

bool is_for(const std::string& server_address, const std::string& host);
/// A key of the file, taken apart.
struct Key {
  std::string host;
  std::string path;  ///< without slashes at its ends
  std::string_view scheme;
};
Key key_of(std::string_view text);
bool is_below(std::string_view repository, std::string_view path);
std::vector<std::string> names_in(const base::Json& object);
Result<oci::Credentials> from_config(const Context& ctx, const std::string& path, const std::string& host,
                                     const std::string& repository);
Result<oci::Credentials> ask_helper(const Context& ctx, const std::string& name, const std::string& host);
Result<oci::Credentials> decode_auth(const base::Json& entry);
}  // namespace

Result<oci::Credentials> find_credentials(const Context& ctx, const std::string& host, const RegistryAuth& task,
                                          const RegistryAuth& plugin, const std::string& repository) {
  if (!task.empty() && (task.server_address.empty() || is_for(task.server_address, host))) {
    return oci::Credentials{task.username, task.password};
  }
  // What the Go driver sent to every registry goes to the one that a name without a registry means.
  const std::string server = plugin.server_address.empty() ? std::string(kDockerHub) : plugin.server_address;
  if (!plugin.empty() && is_for(server, host)) return oci::Credentials{plugin.username, plugin.password};
  if (!plugin.config.empty()) {
    TRY(auto found, from_config(ctx, plugin.config, host, repository));
    if (!found.empty()) return found;
  }
  if (!plugin.helper.empty()) return ask_helper(ctx, plugin.helper, host);
  return oci::Credentials();
}

std::string explain_unused_credentials(const std::string& host, const RegistryAuth& task, const RegistryAuth& plugin) {
  if (plugin.empty() || !plugin.server_address.empty() || !task.empty() || host == kDockerHub) return "";
  return str(
      "the plugin's auth has no server_address, so it is used for docker.io only: if it is for this registry, set "
      "server_address = \"",
      host, "\" in it");
}

std::string registry_host(std::string_view server) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (server.starts_with(scheme)) server.remove_prefix(scheme.size());
  }
  const std::string host = base::ascii_lower(server.substr(0, server.find('/')));
  if (host == "index.docker.io" || host == "registry-1.docker.io") return std::string(kDockerHub);
  return host;
}

std::vector<std::string> keys_for(const std::vector<std::string>& keys, const std::string& host,
                                  const std::string& repository) {
  constexpr int kExact = 1 << 16;  // behind every path
  const std::string_view exact = host == kDockerHub ? kDockerHubServer : std::string_view(host);
  std::vector<std::pair<int, std::string>> ranked;
  for (const std::string& text : keys) {
    const Key key = key_of(text);
    if (key.host != host || text.ends_with("/access-token") || text.ends_with("/refresh-token")) continue;
    const bool is_api = key.path.empty() || (!key.scheme.empty() && (key.path == "v1" || key.path == "v2"));
    if (text == exact) {
      ranked.emplace_back(kExact, text);
    } else if (is_api) {
      ranked.emplace_back(kExact + (key.scheme.empty() ? 1 : key.scheme == "https://" ? 2 : 3), text);
    } else if (is_below(repository, key.path)) {
      ranked.emplace_back(kExact - 1 - static_cast<int>(std::min<std::size_t>(key.path.size(), kExact - 1)), text);
    } else if (key.host == kDockerHub && (key.path == "v1" || key.path == "v2")) {
      ranked.emplace_back(kExact + 2, text);
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> out;
  for (auto& [rank, text] : ranked) out.push_back(std::move(text));
  return out;
}

Result<DockerConfigEntry> read_docker_config(std::string_view text, const std::string& host,
                                             const std::string& repository) {
  TRY(const base::Json config, base::parse_json(text, "the file", {.bytes_max = kConfigBytesMax}));
  if (!config.is_object()) return Error::invalid_argument("the file is not a JSON object");
  DockerConfigEntry entry;
  TRY(const base::Json* helpers, base::get_object(config, "credHelpers"));
  if (helpers != nullptr) {
    for (const std::string& key : keys_for(names_in(*helpers), host, repository)) {
      TRY(const auto helper, base::get_string(*helpers, key));
      entry.helper = helper.value_or("");
      if (!entry.helper.empty()) break;
    }
  }
  if (entry.helper.empty()) {
    TRY(const auto store, base::get_string(config, "credsStore"));
    entry.helper = store.value_or("");
  }
  TRY(const base::Json* auths, base::get_object(config, "auths"));
  if (auths == nullptr) return entry;
  for (const std::string& key : keys_for(names_in(*auths), host, repository)) {
    TRY(const base::Json* auth, base::get_object(*auths, key));
    if (auth == nullptr) continue;
    TRY(entry.credentials, decode_auth(*auth));
    if (!entry.credentials.empty()) break;  // an entry with nothing in it says that a helper has the secret
  }
  return entry;
}

Result<oci::Credentials> parse_helper_answer(std::string_view text) {
  TRY(const base::Json answer, base::parse_json(text, "the answer", {.bytes_max = kAnswerBytesMax}));
  TRY(const auto username, base::get_string(answer, "Username"));
  TRY(const auto secret, base::get_string(answer, "Secret"));
  if (!username || !secret) return Error::invalid_argument("the answer lacks Username or Secret");
  return oci::Credentials{*username == kTokenUser ? "" : *username, *secret};
}

namespace {

bool is_for(const std::string& server_address, const std::string& host) {
  return server_address == kEveryRegistry || registry_host(server_address) == host;
}

Key key_of(std::string_view text) {
  Key key;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (!text.starts_with(scheme)) continue;
    key.scheme = scheme;
    text.remove_prefix(scheme.size());
  }
  key.host = registry_host(text);
  std::string_view path = text.substr(std::min(text.find('/'), text.size()));
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  key.path = path;
  return key;
}

bool is_below(std::string_view repository, std::string_view path) {
  return repository == path || (repository.starts_with(path) && repository.substr(path.size()).starts_with('/'));
}

std::vector<std::string> names_in(const base::Json& object) {
  std::vector<std::string> out;
  for (const auto& [name, ignored] : object.items()) out.push_back(name);
  return out;
}

Result<oci::Credentials> from_config(const Context& ctx, const std::string& path, const std::string& host,
                                     const std::string& repository) {
  auto text = read_named_file(path, kConfigBytesMax);
  auto entry = text ? read_docker_config(*text, host, repository) : std::move(text).error();
  if (!entry) {
    return std::move(entry)
        .error()
        .recode(base::Code::kFailedPrecondition)
        .wrap(str("auth.config = \"", path, "\" cannot be used"));
  }
  if (entry->helper.find('/') != std::string::npos) {
    return Error::failed_precondition(
        str("auth.config = \"", path, "\" names the credential helper \"", entry->helper,
            "\", which has a slash: a file names what follows docker-credential-, and auth.helper may be a path"));
  }
  if (!entry->helper.empty()) {
    TRY(auto found, ask_helper(ctx, entry->helper, host));
    if (!found.empty()) return found;
  }
  return entry->credentials;
}

// The secret comes by its stdout and is in no argument; what it writes to stderr is not repeated, as it may hold one.
Result<oci::Credentials> ask_helper(const Context& ctx, const std::string& name, const std::string& host) {
  const std::string program_name = name.front() == '/' ? name : str("docker-credential-", name);
  const auto failed = [&](std::string_view why) {
    return Error::failed_precondition(str("the credential helper ", program_name, " ", why));
  };
  const auto program = find_program(program_name, "auth.helper");
  if (!program) return Error(program.error());
  base::SpawnOptions spawn;
  spawn.argv = {*program, "get"};
  spawn.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"};
  spawn.new_process_group = true;
  const std::string server(host == kDockerHub ? kDockerHubServer : host);
  const auto ran = base::run(ctx.with_timeout(kHelperTimeout), std::move(spawn), server, kAnswerBytesMax);
  if (!ran) return failed(str("cannot be run: ", ran.error().message));
  if (!ran->exit.success()) {
    if (ran->stdout_text.find(kNotThere) != std::string::npos) return oci::Credentials();
    return failed(str("failed for ", server, " with exit code ", ran->exit.exit_code));
  }
  auto credentials = parse_helper_answer(ran->stdout_text);
  if (!credentials) return failed("gave an invalid answer");
  return credentials;
}

Result<oci::Credentials> decode_auth(const base::Json& entry) {
  TRY(const auto identity, base::get_string(entry, "identitytoken"));
  if (identity && !identity->empty()) return oci::Credentials{"", *identity};
  TRY(const auto auth, base::get_string(entry, "auth"));
  if (!auth || auth->empty()) {
    TRY(const auto username, base::get_string(entry, "username"));
    TRY(const auto password, base::get_string(entry, "password"));
    if (!username || !password || username->empty()) return oci::Credentials();
    return oci::Credentials{*username, *password};
  }
  const auto pair = base::base64_decode(*auth);
  const auto colon = pair ? pair->find(':') : std::string::npos;
  // Without a user it would be sent as an identity token, which it is not.
  if (colon == std::string::npos || colon == 0)
    return Error::invalid_argument("an \"auth\" in it is not the base64 of user:password");
  std::string secret = pair->substr(colon + 1);
  while (!secret.empty() && secret.back() == '\0') secret.pop_back();  // some tools pad it
  return oci::Credentials{pair->substr(0, colon), std::move(secret)};
}

}  // namespace
}  // namespace driver
