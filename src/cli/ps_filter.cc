#include "cli/ps_filter.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <regex>

#include "base/json.h"
#include "base/text.h"
#include "cli/flags.h"
#include "cli/log_file.h"
#include "oci/reference.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

using Matches = bool (*)(const ListedContainer& listed, const std::string& value);

bool matches_id(const ListedContainer& listed, const std::string& value);
bool matches_name(const ListedContainer& listed, const std::string& value);
bool matches_status(const ListedContainer& listed, const std::string& value);
bool matches_exited(const ListedContainer& listed, const std::string& value);
bool matches_label(const ListedContainer& listed, const std::string& value);
bool matches_ancestor(const ListedContainer& listed, const std::string& value);
bool matches_network(const ListedContainer& listed, const std::string& value);
bool matches_volume(const ListedContainer& listed, const std::string& value);
bool matches_task(const ListedContainer& listed, const std::string& value);
bool matches_alloc(const ListedContainer& listed, const std::string& value);
bool matches_until(const ListedContainer& listed, const std::string& value);

/// `before` and `since` are not here: they need the others.
struct NamedFilter {
  std::string_view key;
  Matches matches;
  bool all_hold = false;  // else one of its values is enough
  bool negated = false;
};
constexpr std::array<NamedFilter, 12> kFilters = {{{"id", matches_id},
                                                   {"name", matches_name},
                                                   {"status", matches_status},
                                                   {"exited", matches_exited},
                                                   {"label", matches_label, true},
                                                   {"label!", matches_label, true, true},
                                                   {"ancestor", matches_ancestor},
                                                   {"network", matches_network},
                                                   {"volume", matches_volume},
                                                   {"task", matches_task},
                                                   {"alloc", matches_alloc},
                                                   {"until", matches_until, true}}};
constexpr std::array<std::string_view, 13> kStates = {"created",    "configured", "initialized", "starting", "running",
                                                      "exited",     "stopped",    "unreadable",  "unknown",  "paused",
                                                      "restarting", "removing",   "dead"};

Status check_value(const std::string& key, const std::string& value);
bool is_through(const NamedFilter& filter, const std::vector<std::string>& values, const ListedContainer& listed);
std::optional<std::regex> regex_of(const std::string& text);

}  // namespace

Result<PsFilters> PsFilters::parse(const std::vector<std::string>& filters) {
  PsFilters parsed;
  for (const std::string& filter : filters) {
    std::size_t equals = filter.find('=');
    if (filter.starts_with("label!=")) equals = 6;
    if (equals == std::string::npos) {
      return Error::invalid_argument(str("--filter ", filter, " has no value: write name=web or status=running"));
    }
    const std::string key = filter.substr(0, equals);
    const std::string value = filter.substr(equals + 1);
    std::vector<std::string> known = {"before", "since"};
    for (const NamedFilter& one : kFilters) known.emplace_back(one.key);
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      const std::string guess = nearest(key, known);
      return Error::invalid_argument(str("--filter ", filter, ": ", key, " is not known",
                                         guess.empty() ? "" : str(", did you mean ", guess, "?")));
    }
    if (auto valid = check_value(key, value); !valid) {
      return std::move(valid).error().wrap(str("--filter ", filter));
    }
    parsed.by_key_[key].push_back(value);
  }
  return parsed;
}

Result<std::vector<ListedContainer>> PsFilters::select(const std::vector<ListedContainer>& all) const {
  std::vector<Container> containers;
  for (const ListedContainer& listed : all) containers.push_back(listed.container);
  std::vector<ListedContainer> selected = all;
  const auto keep = [&](const auto& holds) { std::erase_if(selected, [&](const auto& one) { return !holds(one); }); };
  for (const auto& [key, values] : by_key_) {
    if (key == "before" || key == "since") {
      TRY(const Container other, find_container(containers, values.back()));
      const auto moment = created_at(other);
      const bool before = key == "before";
      keep([&](const ListedContainer& one) {
        const auto created = created_at(one.container);
        return before ? created < moment : created > moment;
      });
      continue;
    }
    const std::string& name = key;
    const auto it = std::find_if(kFilters.begin(), kFilters.end(), [&](const NamedFilter& f) { return f.key == name; });
    const std::vector<std::string>& wanted = values;
    keep([&](const ListedContainer& one) { return is_through(*it, wanted, one); });
  }
  return selected;
}

namespace {

Status check_value(const std::string& key, const std::string& value) {
  if (key == "status" && std::find(kStates.begin(), kStates.end(), value) == kStates.end()) {
    return Error::invalid_argument(
        "there is no such state: use created, starting, running, paused, exited or unreadable");
  }
  if (key == "name" && !regex_of(value)) return Error::invalid_argument("the expression is not valid");
  if (key == "until" && !parse_log_moment(value, std::chrono::system_clock::now())) {
    return Error::invalid_argument("this is no time: write 10m, 2026-11-28T05:00:00Z, or seconds since 1970");
  }
  if (key == "exited") {
    int code = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), code);
    if (error != std::errc() || end != value.data() + value.size()) {
      return Error::invalid_argument("an exit code is a number");
    }
  }
  return {};
}

bool is_through(const NamedFilter& filter, const std::vector<std::string>& values, const ListedContainer& listed) {
  const auto holds = [&](const std::string& value) { return filter.matches(listed, value) != filter.negated; };
  return filter.all_hold ? std::all_of(values.begin(), values.end(), holds)
                         : std::any_of(values.begin(), values.end(), holds);
}

bool matches_id(const ListedContainer& listed, const std::string& value) {
  const std::string container_id = container_id_of(listed.container.task);
  return long_id(container_id).starts_with(value) || container_id.starts_with(value);
}

bool matches_name(const ListedContainer& listed, const std::string& value) {
  return std::regex_search(name_of(listed.container), *regex_of(value));
}

// "stopped" and the like are podman's words.
bool matches_status(const ListedContainer& listed, const std::string& value) {
  const std::string state = state_of(listed.container);
  if (value == "stopped") return state == "exited";
  if (value == "configured") return state == "created";
  if (value == "initialized") return state == "starting";
  if (value == "unknown") return state == "unreadable";
  return state == value;
}

bool matches_exited(const ListedContainer& listed, const std::string& value) {
  const auto& task = listed.container.task;
  return state_of(listed.container) == "exited" && task.exit && str(task.exit->exit_code) == value;
}

bool matches_label(const ListedContainer& listed, const std::string& value) {
  const std::size_t equals = value.find('=');
  const Json& labels = (*listed.document)["Config"]["Labels"];
  const auto it = labels.find(value.substr(0, equals));
  return it != labels.end() && (equals == std::string::npos || *it == value.substr(equals + 1));
}

// By name, with any tag if it names none, or by the beginning of the image's ID or digest.
bool matches_ancestor(const ListedContainer& listed, const std::string& value) {
  const std::string image = attribute(listed.container.task, "image");
  const auto own = oci::Reference::parse(image);
  const auto wanted = oci::Reference::parse(value);
  const bool is_bare = value.find_first_of(":@", value.rfind('/') + 1) == std::string::npos;
  if (own && wanted && own->host() == wanted->host() && own->repository() == wanted->repository()) {
    if (is_bare || own->tag_or_digest() == wanted->tag_or_digest()) return true;
  }
  constexpr std::size_t kHexMin = 4;
  const std::string hex = value.starts_with("sha256:") ? value.substr(7) : value;
  if (hex.size() < kHexMin) return false;
  const std::string& id = (*listed.document)["Image"].get_ref<const std::string&>();
  return id.starts_with("sha256:" + hex) ||
         attribute(listed.container.task, "image_digest").starts_with("sha256:" + hex);
}

bool matches_network(const ListedContainer& listed, const std::string& value) {
  const Json& networks = (*listed.document)["NetworkSettings"]["Networks"];
  const std::string name = value.starts_with("cni/") ? value.substr(4) : value;
  if (networks.contains(name) || (*listed.document)["HostConfig"]["NetworkMode"] == value) return true;
  return std::any_of(networks.begin(), networks.end(), [&](const Json& one) { return one["NetworkID"] == name; });
}

bool matches_volume(const ListedContainer& listed, const std::string& value) {
  const Json& mounts = (*listed.document)["Mounts"];
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const Json& one) { return one["Source"] == value || one["Destination"] == value; });
}

bool matches_task(const ListedContainer& listed, const std::string& value) {
  return listed.container.task.name == value;
}

bool matches_alloc(const ListedContainer& listed, const std::string& value) {
  const std::string& id = listed.container.task.id.text;
  return !id.starts_with("cli/") && id.starts_with(value);
}

bool matches_until(const ListedContainer& listed, const std::string& value) {
  const auto moment = parse_log_moment(value, std::chrono::system_clock::now());
  const auto created = created_at(listed.container);
  return moment && created && *created < *moment;
}

std::optional<std::regex> regex_of(const std::string& text) {
  try {
    return std::regex(text);
  } catch (const std::regex_error&) {
    return std::nullopt;
  }
}

}  // namespace
}  // namespace cli
