#include "cli/auth_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/output_file.h"
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
constexpr std::chrono::seconds kLockTimeout{10};  // whoever has the lock writes one small file
constexpr std::chrono::milliseconds kLockPoll{5};
constexpr char kAuths[] = "auths";

std::string variable(const char* name);
Status check_object(const Json& document, const char* key);
Status lock_folder(const base::Context& ctx, const base::Fd& folder, const std::filesystem::path& path);
Status keep_owner(const std::filesystem::path& before, int fd);
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

Status check_unnamed_auth_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return Error::from_errno(errno, path);
  const bool is_trusted = info.st_uid == 0 || info.st_uid == ::geteuid();
  if (is_trusted && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
  return Error::failed_precondition(str(path,
                                        " can be changed by others than root and you: correct its owner and mode, ",
                                        "or name it with --auth-config if that is right"));
}

bool is_auth_file_unnamed() {
  return variable("REGISTRY_AUTH_FILE").empty() && variable("DOCKER_CONFIG").empty();
}

Status change_auth_file(const base::Context& ctx, const std::string& path,
                        const std::function<Result<Json>(Json)>& change) {
  TRY(const auto place, behind_links(path));
  TRY_VOID(base::make_dirs(place.parent_path(), 0700));
  // The folder is what is locked: the file itself is replaced, and a file for the lock would stay.
  TRY(const auto folder, base::open_file(place.parent_path(), O_RDONLY | O_DIRECTORY));
  TRY_VOID(lock_folder(ctx.with_timeout(kLockTimeout), folder, place.parent_path()));
  TRY(auto before, read_auth_file(path));
  TRY(const auto changed, change(std::move(before)));
  TRY(const auto file, Unfinished::create(place, Unfinished::Kind::kFile));
  TRY_VOID(keep_owner(place, file->fd()));
  TRY_VOID(base::write_all(ctx, file->fd(), base::dump_json_pretty(changed) + "\n"));
  return file->finish();
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

// flock cannot wait with a deadline.
Status lock_folder(const base::Context& ctx, const base::Fd& folder, const std::filesystem::path& path) {
  while (::flock(folder.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return Error::from_errno(errno, str("locking ", path.native()));
    if (auto slept = ctx.sleep(kLockPoll); !slept) {
      return std::move(slept).error().wrap(str("another program has locked ", path.native()));
    }
  }
  return {};
}

// Somebody's file that root changes stays theirs.
Status keep_owner(const std::filesystem::path& before, int fd) {
  struct stat info {};
  if (::geteuid() != 0) return {};
  if (::lstat(before.c_str(), &info) != 0) {
    return errno == ENOENT ? Status() : Status(Error::from_errno(errno, before.native()));
  }
  if (::fchown(fd, info.st_uid, info.st_gid) == 0) return {};
  return Error::from_errno(errno, str("the owner of ", before.native()));
}

std::string key_of_login(const std::string& host) {
  return host == "docker.io" ? "https://index.docker.io/v1/" : host;
}

}  // namespace
}  // namespace cli
