#include "oci/fetch/registry/hosts_file.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/text.h"
#include "oci/fetch/registry/toml.h"

namespace oci::fetch {

namespace {

using base::str;
using Kind = TomlValue::Kind;

/// Reads the keys of one table into a HostEntry.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), folder_(std::filesystem::path(path).parent_path()) {}

  base::Error error(int line, std::string_view what) const {
    return base::Error::failed_precondition(str(path_, " line ", line, ": ", what));
  }
  /// `url` may be nullptr: then it is `own`.
  base::Result<HostEntry> entry(const TomlValue& table, const std::string* url, const Url& own) const;
  /// The text or the truth of `key`: nullptr, or false, if absent; of another type an error.
  base::Result<const std::string*> text(const TomlValue& table, std::string_view key, std::string_view type) const;
  base::Result<bool> flag(const TomlValue& table, std::string_view key) const;

 private:
  base::Result<Url> base_url(const TomlValue& table, const std::string& text) const;
  base::Status capabilities(const TomlValue& table, HostEntry& out) const;
  base::Status client(const TomlValue& table, HostEntry& out) const;
  base::Status headers(const TomlValue& table, HostEntry& out) const;
  base::Status dial_timeout(const TomlValue& table, HostEntry& out) const;
  base::Result<std::vector<std::string>> texts(const TomlValue& node, std::string_view key) const;
  std::string absolute(const std::string& file) const { return (folder_ / file).lexically_normal().string(); }

  const std::string& path_;
  const std::filesystem::path folder_;
};

base::Result<std::vector<HostEntry>> read_mirrors(Reader& reader, const TomlValue& root, HostsFile& out);
void note_unknown_keys(const TomlValue& table, std::string_view where, bool top, HostsFile& out);
std::optional<std::chrono::milliseconds> parse_dial_timeout(std::string_view text);
std::string_view shown_url(std::string_view url);
bool is_header_name(std::string_view name);
bool has_control_characters(std::string_view text);

}  // namespace

base::Result<HostsFile> parse_hosts_file(std::string_view text, const std::string& path, const Url& own) {
  Reader reader(path);
  if (text.size() > kHostsFileBytesMax) {
    return base::Error::failed_precondition(
        str(path, " has ", text.size(), " bytes, more than the limit of ", kHostsFileBytesMax));
  }
  const auto root = parse_toml(text);
  if (!root) return base::Error::failed_precondition(str(path, " ", root.error().message));
  HostsFile out;
  note_unknown_keys(*root, "", true, out);
  TRY(const auto* server, reader.text(*root, "server", "a quoted URL"));
  TRY(out.server, reader.entry(*root, server, own));
  TRY(out.mirrors, read_mirrors(reader, *root, out));
  return out;
}

namespace {

base::Result<std::vector<HostEntry>> read_mirrors(Reader& reader, const TomlValue& root, HostsFile& out) {
  std::vector<HostEntry> mirrors;
  const TomlValue* hosts = root.find("host");
  if (hosts == nullptr) return mirrors;
  if (hosts->kind != Kind::kTable) {
    return reader.error(hosts->line, "host is a table for each mirror: [host.\"https://mirror\"]");
  }
  if (hosts->members.size() > kMirrorsMax) {
    return reader.error(hosts->line, str("more than ", kMirrorsMax, " hosts are named"));
  }
  for (const auto& [url, table] : hosts->members) {
    if (table.kind != Kind::kTable)
      return reader.error(table.line, str("host \"", shown_url(url), "\" is not a table"));
    note_unknown_keys(table, url, false, out);
    TRY(auto entry, reader.entry(table, &url, Url{}));
    mirrors.push_back(std::move(entry));
  }
  return mirrors;
}

void note_unknown_keys(const TomlValue& table, std::string_view where, bool top, HostsFile& out) {
  constexpr std::string_view kKnown[] = {"capabilities",  "ca",          "client", "skip_verify", "header",
                                         "override_path", "dial_timeout"};
  for (const auto& [name, value] : table.members) {
    if (std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown)) continue;
    if (top && (name == "server" || name == "host")) continue;
    out.ignored_keys.push_back(where.empty() ? name : str(name, " of ", shown_url(where)));
  }
}

base::Result<HostEntry> Reader::entry(const TomlValue& table, const std::string* url, const Url& own) const {
  HostEntry out;
  out.base = own;
  out.stated = url != nullptr;
  if (url != nullptr) {
    TRY(out.base, base_url(table, *url));
  }
  TRY(out.skip_verify, flag(table, "skip_verify"));
  if (const TomlValue* ca = table.find("ca")) {
    TRY(const auto files, texts(*ca, "ca"));
    for (const std::string& file : files) out.ca_files.push_back(absolute(file));
  }
  TRY_VOID(capabilities(table, out));
  TRY_VOID(client(table, out));
  TRY_VOID(headers(table, out));
  TRY_VOID(dial_timeout(table, out));
  return out;
}

base::Result<const std::string*> Reader::text(const TomlValue& table, std::string_view key,
                                              std::string_view type) const {
  const TomlValue* found = table.find(key);
  if (found == nullptr) return nullptr;
  if (found->kind != Kind::kText) return error(found->line, str(key, " must be ", type));
  return &found->text;
}

base::Result<bool> Reader::flag(const TomlValue& table, std::string_view key) const {
  const TomlValue* found = table.find(key);
  if (found == nullptr) return false;
  if (found->kind != Kind::kBool) return error(found->line, str(key, " must be true or false"));
  return found->flag;
}

base::Result<Url> Reader::base_url(const TomlValue& table, const std::string& text) const {
  if (text.find_first_of("?#") != std::string::npos) {
    return error(table.line, str("the host \"", shown_url(text), "\" has a query"));
  }
  auto url = parse_url(text.find("://") == std::string::npos ? str("https://", text) : text);
  if (!url) return error(table.line, str(url.error().message, "; write https://host[:port][/path]"));
  TRY(const bool override_path, flag(table, "override_path"));
  std::string out = url->text;
  while (out.ends_with('/')) out.pop_back();
  if (!override_path && !out.ends_with("/v2")) out += "/v2";
  return parse_url(out + "/");
}

base::Status Reader::capabilities(const TomlValue& table, HostEntry& out) const {
  const TomlValue* node = table.find("capabilities");
  if (node == nullptr) return {};
  TRY(const auto names, texts(*node, "capabilities"));
  const auto has = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  for (const std::string& name : names) {
    if (name != "pull" && name != "resolve" && name != "push" && name != "referrers") {
      return error(node->line, str("\"", name.substr(0, 100),
                                   "\" is not a valid capability; these are: pull, resolve, push, referrers"));
    }
  }
  out.pull = has("pull");
  out.resolve = has("resolve");
  return {};
}

// A file with certificate and key, or a pair of files; one of them, alone or as the only element of a list.
base::Status Reader::client(const TomlValue& table, HostEntry& out) const {
  const TomlValue* node = table.find("client");
  if (node == nullptr) return {};
  const bool is_list = node->kind == Kind::kList;
  if (is_list && node->items.size() > 1) {
    return error(node->line, "client names more than one certificate; keep the one that this host accepts");
  }
  if (is_list && node->items.empty()) return {};
  const TomlValue& one = is_list ? node->items.front() : *node;
  TRY(const auto files, texts(one, "client"));
  if (files.empty() || files.size() > 2 || files[0].empty()) {
    return error(one.line, "client must be a file, or a list of [certificate, key]");
  }
  out.client_cert = absolute(files[0]);
  if (files.size() == 2 && !files[1].empty()) out.client_key = absolute(files[1]);
  return {};
}

base::Status Reader::headers(const TomlValue& table, HostEntry& out) const {
  const TomlValue* node = table.find("header");
  if (node == nullptr) return {};
  if (node->kind != Kind::kTable) return error(node->line, "header must be a table: name = \"value\"");
  for (const auto& [name, values] : node->members) {
    if (!is_header_name(name)) return error(values.line, "the name of a header has characters that are not allowed");
    TRY(const auto lines, texts(values, str("header ", name)));
    for (const std::string& value : lines) {
      if (has_control_characters(value)) return error(values.line, str("header ", name, " has control characters"));
      out.headers.push_back(str(name, ": ", value));
      if (out.headers.size() > kHostHeadersMax || out.headers.back().size() > kHostHeaderBytesMax) {
        return error(values.line, str("more than ", kHostHeadersMax, " headers, or one of more than ",
                                      kHostHeaderBytesMax, " bytes"));
      }
    }
  }
  return {};
}

base::Status Reader::dial_timeout(const TomlValue& table, HostEntry& out) const {
  TRY(const auto* given, text(table, "dial_timeout", "a quoted duration, such as \"5s\""));
  if (given == nullptr) return {};
  const auto duration = parse_dial_timeout(*given);
  if (!duration) {
    return error(table.find("dial_timeout")->line,
                 str("dial_timeout \"", given->substr(0, 40), "\" must be a duration of up to ",
                     kDialTimeoutMax.count(), " minutes, as \"5s\", \"500ms\" or \"1m\""));
  }
  if (duration->count() > 0) out.dial_timeout = *duration;  // 0: the default
  return {};
}

// A string, or a list of strings.
base::Result<std::vector<std::string>> Reader::texts(const TomlValue& node, std::string_view key) const {
  std::vector<std::string> out;
  const auto add = [&out](const TomlValue& element) {
    if (element.kind != Kind::kText || element.text.find('\0') != std::string::npos) return false;
    out.push_back(element.text);
    return true;
  };
  if (node.kind == Kind::kList) {
    for (const TomlValue& element : node.items) {
      if (!add(element)) return error(element.line, str(key, " must be a list of strings"));
    }
    return out;
  }
  if (!add(node)) return error(node.line, str(key, " must be a string, or a list of strings"));
  return out;
}

// The part of Go's durations that makes sense here: a whole number and one unit.
std::optional<std::chrono::milliseconds> parse_dial_timeout(std::string_view text) {
  long count = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (failed != std::errc() || count < 0 || count > 1000000) return std::nullopt;
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  std::chrono::milliseconds out{};
  if (unit == "ms") {
    out = std::chrono::milliseconds(count);
  } else if (unit == "s") {
    out = std::chrono::seconds(count);
  } else if (unit == "m") {
    out = std::chrono::minutes(count);
  } else if (count != 0 || !unit.empty()) {
    return std::nullopt;
  }
  return out <= kDialTimeoutMax ? std::optional(out) : std::nullopt;
}

/// Without what may be a secret.
std::string_view shown_url(std::string_view url) {
  constexpr std::size_t kShownMax = 200;
  if (url.find('@') != std::string_view::npos) return "…";
  return url.substr(0, std::min(url.find_first_of("?#"), kShownMax));
}

bool is_header_name(std::string_view name) {
  constexpr std::string_view kPunctuation = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kPunctuation.find(c) != std::string_view::npos;
  });
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return base::is_control(c) && c != '\t'; });
}

}  // namespace

}  // namespace oci::fetch
