#include "cli/auth_file.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "driver/files/named_file.h"
#include "driver/image/credentials.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kAuthFileBytesMax = 1u << 20;
constexpr char kAuths[] = "auths";

std::string variable(const char* name);
Status check_object(const Json& document, const char* key);
std::string key_of_login(const std::string& host);

}  // namespace

std::string auth_file_path(const std::string& named) {
  if (!named.empty()) return named;
  if (std::string path = variable("REGISTRY_AUTH_FILE"); !path.empty()) return path;
  if (const std::string folder = variable("DOCKER_CONFIG"); !folder.empty()) return str(folder, "/config.json");
  const std::string home = variable("HOME");
  return str(home.empty() ? "/root" : home, "/.docker/config.json");
}

Result<bool> has_auth_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return Error::from_errno(errno, path);
}

Result<Json> read_auth_file(const std::string& path) {
  TRY(const bool is_there, has_auth_file(path));
  if (!is_there) return Json::object();
  auto text = driver::read_named_file(path, kAuthFileBytesMax);
  if (!text) return std::move(text).error().wrap(path);
  auto document = base::parse_json(*text, "the file", {.bytes_max = kAuthFileBytesMax});
  if (!document || !document->is_object()) {
    return Error::invalid_argument(str(path, " is not a JSON object: correct it, or move it away"));
  }
  TRY_VOID(check_object(*document, kAuths));
  TRY_VOID(check_object(*document, "credHelpers"));
  return document;
}

Status write_auth_file(const std::string& path, const Json& document) {
  TRY(const std::string absolute, base::absolute_path(path));
  std::error_code error;
  const auto place = std::filesystem::weakly_canonical(absolute, error);
  if (error) return Error::from_errno(error.value(), path);
  TRY_VOID(base::make_dirs(place.parent_path(), 0700));
  return base::write_file_atomic(place, base::dump_json_pretty(document) + "\n", 0600, base::Durable::kYes);
}

Result<Json> with_login(Json document, const std::string& host, const oci::Credentials& credentials) {
  TRY(const auto entry, driver::read_docker_config(base::dump_json(document), host));
  if (!entry.helper.empty()) {
    return Error::failed_precondition(str("the file says that the credential helper ", entry.helper, " keeps those of ",
                                          host, ": log in with docker or podman, or name another --authfile"));
  }
  // Whatever else says something about this host would be read before or instead.
  const Json entries = document.value(kAuths, Json::object());
  for (const auto& [key, value] : entries.items()) {
    const bool is_whole_host = !driver::keys_for({key}, host, "").empty();
    if (is_whole_host) document[kAuths].erase(key);
  }
  document[kAuths][key_of_login(host)] = {
      {"auth", base::base64_encode(str(credentials.username, ":", credentials.password), base::Base64Padding::kFull)}};
  return document;
}

Result<Json> without_login(Json document, const std::string& host) {
  bool found = false;
  const Json entries = document.value(kAuths, Json::object());
  for (const auto& [key, value] : entries.items()) {
    if (driver::keys_for({key}, host, "").empty()) continue;
    document[kAuths].erase(key);
    found = true;
  }
  if (!found) return Error::not_found(str("not logged in to ", host));
  return document;
}

Result<Json> without_logins(Json document) {
  document[kAuths] = Json::object();
  return document;
}

namespace {

std::string variable(const char* name) {
  const char* const value = ::getenv(name);
  return value == nullptr ? "" : value;
}

Status check_object(const Json& document, const char* key) {
  TRY([[maybe_unused]] const Json* object, base::get_object(document, key));
  return {};
}

std::string key_of_login(const std::string& host) {
  return host == "docker.io" ? "https://index.docker.io/v1/" : host;
}

}  // namespace
}  // namespace cli
