#include "cni/types.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "base/json.h"
#include "base/text.h"

namespace cni {

namespace {

using base::Error;
using base::Json;
using base::Result;
using base::str;

constexpr std::array kSpoken = {Version{0, 3, 0}, Version{0, 3, 1}, Version{0, 4, 0}, Version{1, 0, 0}, kNewest};

Result<Json> parse_object(std::string_view text, std::string_view what);
Result<Version> version_of(const Json& object, std::string_view what);
Result<bool> flag(const Json& object, const char* key);
Result<PluginConf> plugin_of(const Json& object);
std::optional<Version> three_numbers(std::string_view text);
bool is_spoken(const Version& version);

}  // namespace

std::string Version::text() const {
  return str(major, ".", minor, ".", patch);
}

Result<Version> parse_version(std::string_view text, std::string_view what) {
  const auto version = three_numbers(text);
  if (!version) {
    return Error::invalid_argument(str(what, " has cniVersion \"", base::printable(text.substr(0, 32)),
                                       "\", which is no version: write one like \"1.0.0\""));
  }
  if (is_spoken(*version)) return *version;
  return Error::invalid_argument(str(what, " has cniVersion ", version->text(),
                                     ", which is not supported: use 0.3.1, 0.4.0, 1.0.0 or 1.1.0"));
}

Result<NetworkList> parse_list(std::string_view text, std::string_view what) {
  TRY(const Json object, parse_object(text, what));
  const auto wrong = [&](const Error& error) { return Error::invalid_argument(str(what, ": ", error.message)); };
  NetworkList list;
  list.text = text;
  TRY(list.version, version_of(object, what));
  auto name = base::get_string(object, "name");
  if (!name) return wrong(name.error());
  list.name = name->value_or("");
  if (!is_name(list.name)) {
    return Error::invalid_argument(str(what, list.name.empty() ? " has no name" : " has a name that cannot be one",
                                       ": write \"name\" with letters, digits, \"_\", \".\" and \"-\""));
  }
  for (const auto& [key, into] : {std::pair{"disableCheck", &list.disable_check},
                                  {"disableGC", &list.disable_gc},
                                  {"loadOnlyInlinedPlugins", &list.load_only_inlined}}) {
    auto value = flag(object, key);
    if (!value) return wrong(value.error());
    *into = *value;
  }
  const auto plugins = base::get_array(object, "plugins");
  if (!plugins) return wrong(plugins.error());
  const Json alone = Json::array({object});
  const Json* each = *plugins == nullptr && object.contains("type") ? &alone : *plugins;
  if (each == nullptr || each->empty()) {
    return Error::invalid_argument(str(what, " has no plugins: write \"plugins\": [ … ] with at least one"));
  }
  if (each->size() > kPluginsMax) {
    return Error::invalid_argument(str(what, " has ", each->size(), " plugins, at most ", kPluginsMax, " are run"));
  }
  for (const Json& plugin : *each) {
    auto parsed = plugin_of(plugin);
    if (!parsed) return wrong(parsed.error());
    list.plugins.push_back(*std::move(parsed));
  }
  return list;
}

bool is_name(std::string_view text) {
  const auto alnum = [](char c) { return static_cast<unsigned char>(c) < 0x80 && std::isalnum(c) != 0; };
  return !text.empty() && text.size() <= kNameBytesMax && alnum(text.front()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return alnum(c) || c == '_' || c == '.' || c == '-'; });
}

bool is_ifname(std::string_view text) {
  return !text.empty() && text.size() <= kIfnameBytesMax && text != "." && text != ".." &&
         !base::has_control_or_blank(text) && text.find_first_of("/:") == std::string_view::npos;
}

bool is_plugin_type(std::string_view text) {
  constexpr std::size_t kFileNameBytesMax = 255;
  return !text.empty() && text.size() <= kFileNameBytesMax && text != "." && text != ".." &&
         text.find('/') == std::string_view::npos && !base::has_control(text);
}

namespace {

Result<Json> parse_object(std::string_view text, std::string_view what) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return Error::invalid_argument(str(what, " is empty: write a CNI configuration list into it, or remove it"));
  }
  base::JsonLimits limits;
  limits.bytes_max = kListBytesMax;
  limits.duplicate_keys = true;  // plugins are written in Go, where the last one counts
  TRY(Json object, base::parse_json(text, what, limits));
  if (object.is_object()) return object;
  return Error::invalid_argument(str(what, " is not a JSON object: write { \"cniVersion\": …, \"name\": …, … }"));
}

Result<Version> version_of(const Json& object, std::string_view what) {
  auto one = base::get_string(object, "cniVersion");
  if (!one) return Error::invalid_argument(str(what, ": ", one.error().message));
  auto several = base::get_string_list(object, "cniVersions");
  if (!several) return Error::invalid_argument(str(what, ": ", several.error().message));
  std::optional<Version> best;
  for (const std::string& text : several->value_or(std::vector<std::string>())) {
    const auto version = three_numbers(text);
    if (version && is_spoken(*version) && (!best || *best < *version)) best = version;
  }
  if (best && !*one) return *best;
  if (!*one) {
    return Error::invalid_argument(
        str(what, " has no cniVersion, which means 0.1.0, and that is not supported: use 0.3.1, 0.4.0, 1.0.0 or "
                 "1.1.0"));
  }
  auto version = parse_version(**one, what);
  if (!version && best) return *best;
  if (version && best && *version < *best) return *best;
  return version;
}

// Some write booleans as text, which Go's library takes as well.
Result<bool> flag(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_string()) {
    const std::string text = base::ascii_lower(found->get_ref<const std::string&>());
    if (text == "true" || text == "false") return text == "true";
  }
  TRY(const auto value, base::get_bool(object, key));
  return value.value_or(false);
}

Result<PluginConf> plugin_of(const Json& object) {
  if (!object.is_object()) return Error::invalid_argument("a plugin is not a JSON object");
  PluginConf plugin;
  TRY(const auto type, base::get_string(object, "type"));
  if (!type || type->empty()) return Error::invalid_argument("a plugin has no \"type\": name its program there");
  if (!is_plugin_type(*type)) {
    return Error::invalid_argument(str("a plugin has the type \"", base::printable(type->substr(0, 64)),
                                       "\": write the name of its program, without a path"));
  }
  plugin.type = *type;
  TRY(const Json* capabilities, base::get_object(object, "capabilities"));
  if (capabilities != nullptr) {
    for (const auto& [name, value] : capabilities->items()) {
      if (value.is_boolean() && value.get<bool>()) plugin.capabilities.insert(name);
    }
  }
  plugin.json = base::dump_json(object);
  return plugin;
}

std::optional<Version> three_numbers(std::string_view text) {
  constexpr std::size_t kPartBytesMax = 4;
  Version version;
  const auto parts = base::split(text, '.');
  const std::array into = {&version.major, &version.minor, &version.patch};
  if (parts.size() != into.size()) return std::nullopt;
  for (std::size_t i = 0; i < into.size(); ++i) {
    const std::string_view part = parts[i];
    const auto [end, ec] = std::from_chars(part.data(), part.data() + part.size(), *into[i]);
    if (part.empty() || part.size() > kPartBytesMax || ec != std::errc() || end != part.data() + part.size() ||
        *into[i] < 0) {
      return std::nullopt;
    }
  }
  return version;
}

bool is_spoken(const Version& version) {
  return std::find(kSpoken.begin(), kSpoken.end(), version) != kSpoken.end();
}

}  // namespace
}  // namespace cni
