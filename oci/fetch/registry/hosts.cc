#include "oci/fetch/registry/hosts.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "oci/fetch/registry/hosts_file.h"

namespace oci::fetch {

namespace {

using base::str;
using Warn = std::function<void(const std::string&)>;
namespace fs = std::filesystem;

base::Result<Url> own_url(const Reference& reference);
std::string folder_of(const std::string& host, std::string_view dirs);
base::Result<HostsFile> read_folder(const std::string& folder, const Url& own, const Warn& warn);
base::Result<Host> host_from(const HostEntry& entry, const Reference& reference, const Url& own);
PlainHosts find_plain_hosts(const HostsFile& file, std::string_view dirs);

}  // namespace

std::string Host::name() const {
  const bool usual = base.port == (base.scheme == "https" ? "443" : "80");
  return usual ? base.host : str(base.host, ":", base.port);
}

base::Result<std::vector<Host>> hosts_of(const Reference& reference, const std::string& dirs, const Warn& warn) {
  TRY(const auto own, own_url(reference));
  const std::string folder = folder_of(reference.host(), dirs);
  HostsFile file;
  file.server.base = own;
  if (!folder.empty()) {
    TRY(file, read_folder(folder, own, warn));
  }
  file.mirrors.push_back(std::move(file.server));
  std::vector<Host> out;
  for (const HostEntry& entry : file.mirrors) {
    if (!entry.pull) continue;
    TRY(auto host, host_from(entry, reference, own));
    out.push_back(std::move(host));
  }
  if (out.empty()) {
    return base::Error::failed_precondition(str(folder, "/hosts.toml leaves no host to pull ", reference.canonical(),
                                                " from: none has the capability pull"));
  }
  PlainHosts plain_hosts;
  for (Host& host : out) {
    if (host.base.scheme != "http" || is_loopback(host.base.host)) continue;
    if (plain_hosts.empty()) plain_hosts = find_plain_hosts(file, dirs);
    host.plain_hosts = plain_hosts;
  }
  return out;
}

std::vector<std::string> files_for(const std::vector<Host>& hosts) {
  std::vector<std::string> out;
  for (const Host& host : hosts) {
    for (const std::string& file : {host.transport.client_cert, host.transport.client_key}) {
      if (!file.empty()) out.push_back(file);
    }
  }
  for (const char* name : {"SSL_CERT_FILE", "SSL_CERT_DIR"}) {
    if (const char* value = std::getenv(name)) out.emplace_back(value);
  }
  return out;
}

namespace {

base::Result<Url> own_url(const Reference& reference) {
  const std::string& name = reference.host() == "docker.io" ? "registry-1.docker.io" : reference.host();
  TRY(auto url, parse_url(str("https://", name, "/v2/")));
  if (is_loopback(url.host) && name.ends_with(":80")) return parse_url(str("http://", name, "/v2/"));
  return url;
}

std::string folder_of(const std::string& host, std::string_view dirs) {
  std::vector<std::string> names;
  const auto colon = host.rfind(':');
  if (colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    names.push_back(str(host.substr(0, colon), "_", host.substr(colon + 1), "_"));
  }
  names.insert(names.end(), {host, "_default"});
  while (!dirs.empty()) {
    const std::string dir(dirs.substr(0, dirs.find(':')));
    dirs.remove_prefix(std::min(dirs.size(), dir.size() + 1));
    if (dir.empty()) continue;
    for (const std::string& name : names) {
      std::error_code ignored;
      const std::string path = str(dir, "/", name);
      if (fs::is_directory(path, ignored)) return path;
    }
  }
  return "";
}

base::Result<HostsFile> docker_certificates(const std::string& folder, const Url& own);

base::Result<HostsFile> read_folder(const std::string& folder, const Url& own, const Warn& warn) {
  const std::string path = folder + "/hosts.toml";
  const auto text = base::read_file(path, kHostsFileBytesMax);
  if (!text && text.error().code == base::Code::kNotFound) return docker_certificates(folder, own);
  if (!text) return base::Error::failed_precondition(text.error().message);
  TRY(auto file, parse_hosts_file(*text, path, own));
  for (const std::string& key : file.ignored_keys) warn(str(path, ": the key ", key, " is not known and was ignored"));
  return file;
}

base::Result<HostsFile> docker_certificates(const std::string& folder, const Url& own) {
  HostsFile out;
  out.server.base = own;
  std::error_code failed;
  std::vector<fs::path> files;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
    files.push_back(it->path());
  }
  if (failed) return base::Error::failed_precondition(str("reading ", folder, ": ", failed.message()));
  std::sort(files.begin(), files.end());
  const auto has = [&](const fs::path& file) { return std::find(files.begin(), files.end(), file) != files.end(); };
  for (const fs::path& file : files) {
    const auto kind = file.extension();
    if (kind == ".crt") out.server.ca_files.push_back(file.string());
    if (kind != ".cert" && kind != ".key") continue;
    const fs::path other = fs::path(file).replace_extension(kind == ".cert" ? ".key" : ".cert");
    if (!has(other)) {
      return base::Error::failed_precondition(
          str(file.string(), " is one half of a client certificate, and ", other.string(), " is missing"));
    }
    if (kind == ".key") continue;
    if (!out.server.client_cert.empty()) {
      return base::Error::failed_precondition(
          str(folder, " has several client certificates; keep the one that this registry accepts"));
    }
    out.server.client_cert = file.string();
    out.server.client_key = other.string();
  }
  return out;
}

base::Result<std::string> read_certificates(const HostEntry& entry);

base::Result<Host> host_from(const HostEntry& entry, const Reference& reference, const Url& own) {
  Host out;
  out.base = entry.base;
  out.resolve = entry.resolve;
  out.own = entry.base.host == own.host && entry.base.port == own.port;
  const bool alias = reference.host() == "docker.io" && entry.base.host == "registry-1.docker.io";
  if (!out.own && !alias) out.query = str("ns=", percent_encode(reference.host()));
  out.headers = entry.headers;
  TRY(out.transport.ca_pem, read_certificates(entry));
  for (const std::string& file : {entry.client_cert, entry.client_key}) {
    std::error_code failed;
    if (file.empty() || fs::is_regular_file(file, failed)) continue;
    return base::Error::failed_precondition(
        str("the client certificate file ", file, " for ", entry.base.host, " cannot be read"));
  }
  out.transport.client_cert = entry.client_cert;
  out.transport.client_key = entry.client_key.empty() ? entry.client_cert : entry.client_key;
  out.transport.skip_verify = entry.skip_verify;
  out.transport.connect_timeout = entry.dial_timeout;
  const bool has_tls_settings = !entry.ca_files.empty() || !entry.client_cert.empty() || entry.skip_verify;
  if (!entry.stated && is_loopback(own.host) && own.scheme == "https" && own.port != "443" && !has_tls_settings) {
    TRY(out.plain, parse_url("http" + own.text.substr(own.text.find(':'))));
    out.transport.skip_verify = true;  // plain HTTP would do as well
  }
  return out;
}

/// What is plain HTTP in this file, or in those of other registries. One that cannot be read makes nothing so, and is
/// an error when its registry is asked.
PlainHosts find_plain_hosts(const HostsFile& file, std::string_view dirs) {
  PlainHosts out;
  const auto add = [&out](const HostsFile& found) {
    for (const HostEntry& entry : found.mirrors) {
      if (entry.base.scheme == "http") out.insert(host_and_port(entry.base));
    }
    if (found.server.base.scheme == "http") out.insert(host_and_port(found.server.base));
  };
  add(file);
  for (const std::string_view dir : base::split(dirs, ':')) {
    std::size_t count = 0;
    std::error_code failed;
    for (fs::directory_iterator it(fs::path(dir), failed), end; !failed && it != end; it.increment(failed)) {
      if (++count > kPlainFoldersMax) break;
      std::string host = it->path().filename().string();
      if (host == "_default") continue;
      if (const auto port = host.find('_'); port != std::string::npos && host.ends_with('_')) {
        host.pop_back();
        host[port] = ':';
      }
      if (folder_of(host, dirs) != it->path().string()) continue;  // another one counts
      const auto own = parse_url(str("https://", host, "/v2/"));
      const std::string path = it->path() / "hosts.toml";
      const auto text = base::read_file(path, kHostsFileBytesMax);
      if (!own || !text) continue;
      if (const auto other = parse_hosts_file(*text, path, *own)) add(*other);
    }
  }
  return out;
}

// What is given here replaces the bundle that libcurl would read, but not the folder of certificates. A bundle that the
// environment names is part of what the operator trusts as well.
base::Result<std::string> read_certificates(const HostEntry& entry) {
  std::string out;
  if (entry.ca_files.empty()) return out;
  std::vector<std::string> files = entry.ca_files;
  if (const char* file = std::getenv("SSL_CERT_FILE")) files.emplace_back(file);
  for (const std::string& file : files) {
    auto text = base::read_file(file, kCertificateFileBytesMax);
    if (!text) {
      return base::Error::failed_precondition(
          str("the CA certificate for ", entry.base.host, " cannot be read: ", text.error().message));
    }
    out += *text + "\n";
  }
  return out;
}

}  // namespace

}  // namespace oci::fetch
