#include <array>
#include <charconv>

#include "base/json.h"
#include "base/text.h"
#include "cli/documents.h"
#include "cli/format.h"
#include "cli/ps_filter.h"
#include "cli/verb.h"
#include "oci/store.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kShortIdBytes = 12;
constexpr std::size_t kShortCommandBytes = 24;
constexpr const char* kDefaultFormat =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

struct PsFlags {
  bool all = false;
  bool quiet = false;
  bool no_trunc = false;
  bool latest = false;
  std::string last;
  std::vector<std::string> filters;
  std::string format;
  std::string output;

  void declare(Flags& flags);
};

Result<std::vector<ListedContainer>> select(const Call& call, const PsFlags& given, const PsFilters& filters, int last);
Result<int> count_of(const PsFlags& given);
int print_list(Call& call, const PsFlags& given, const std::vector<ListedContainer>& selected);
Json row_of(const ListedContainer& listed, bool no_trunc);
Json heads_of_rows();
Json podman_document(const ListedContainer& listed);
std::vector<std::string> words_of(const Json& document);
std::string command_text(const Json& document, bool no_trunc);
std::string status_text(const Container& container);
std::string state_text(const driver::TaskStatus& task);
std::string age_text(const std::optional<driver::WallTime>& when);
Json names_of_networks(const Json& document);
Json destinations_of(const Json& document);
std::string joined(const Json& list);

}  // namespace

int ps_command(const Verb& self, Call& call) {
  Flags flags;
  PsFlags given;
  given.declare(flags);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(given.output); !valid) return misuse(self, call.io, valid.error());
  const auto last = count_of(given);
  if (!last) return misuse(self, call.io, last.error());
  const auto filters = PsFilters::parse(given.filters);
  if (!filters) return misuse(self, call.io, filters.error());
  const auto selected = select(call, given, *filters, *last);
  if (!selected) return fail(call.io, selected.error());
  return print_list(call, given, *selected);
}

base::Json json_of_task(const driver::TaskStatus& task) {
  base::Json out = {
      {"id", task.id.text}, {"name", task.name}, {"status", state_text(task)}, {"attributes", task.attributes}};
  if (task.started_at) out["started_at"] = json_time(std::chrono::system_clock::to_time_t(*task.started_at));
  if (task.completed_at) out["completed_at"] = json_time(std::chrono::system_clock::to_time_t(*task.completed_at));
  if (task.exit) {
    out["exit_code"] = task.exit->exit_code;
    out["oom_killed"] = task.exit->oom_killed;
  }
  return out;
}

namespace {

void PsFlags::declare(Flags& flags) {
  flags.toggle("all", 'a', "those that do not run, too", all);
  flags.toggle("quiet", 'q', "print IDs only", quiet);
  flags.toggle("no-trunc", 0, "print whole IDs and commands", no_trunc);
  flags.value("last", 'n', "COUNT", "only the last created ones, in any state", last);
  flags.toggle("latest", 'l', "only the last created one, in any state", latest);
  flags.list("filter", 'f', "KEY=VALUE",
             "only those with this id, name, status, exited, label, ancestor, before, since, until, network, volume, "
             "task or alloc",
             filters);
  flags.value("format", 0, "TEMPLATE", "json, or what a template makes of each: {{.ID}} {{.Names}}", format);
  flags.value("output", 'o', "json", "print what the driver knows of each, as JSON", output);
}

Result<int> count_of(const PsFlags& given) {
  if (given.latest) return 1;
  if (given.last.empty()) return -1;
  int count = 0;
  const auto [end, error] = std::from_chars(given.last.data(), given.last.data() + given.last.size(), count);
  if (error != std::errc() || end != given.last.data() + given.last.size()) {
    return Error::invalid_argument(str("--last ", given.last, " is not a number"));
  }
  return count;
}

Result<std::vector<ListedContainer>> select(const Call& call, const PsFlags& given, const PsFilters& filters,
                                            int last) {
  TRY(const auto session, open_driver(call.globals));
  TRY(const auto containers, list_containers(session->driver));
  const auto options = session->driver.options();
  oci::Store store(options->data_dir);
  std::vector<ListedContainer> all;
  for (const Container& container : containers) {
    all.push_back({container, std::make_shared<Json>(container_document(*options, store, container))});
  }
  TRY(auto selected, filters.select(all));
  const bool in_every_state = given.all || last >= 0 || filters.names_states();
  if (!in_every_state) {
    std::erase_if(selected, [](const ListedContainer& one) {
      const std::string state = state_of(one.container);
      return state == "created" || state == "exited";
    });
  }
  const auto most = last < 0 ? selected.size() : static_cast<std::size_t>(last);
  if (selected.size() > most) selected.erase(selected.begin(), selected.end() - static_cast<std::ptrdiff_t>(most));
  return selected;
}

int print_list(Call& call, const PsFlags& given, const std::vector<ListedContainer>& selected) {
  if (given.output == "json") {
    Json shown = Json::array();
    for (const ListedContainer& one : selected) shown.push_back(json_of_task(one.container.task));
    print_json(call.io, shown);
    return kExitOk;
  }
  std::vector<Json> rows;
  for (const ListedContainer& one : selected) {
    rows.push_back(given.format == "json" ? podman_document(one) : row_of(one, given.no_trunc));
  }
  const std::string format = given.quiet ? "{{.ID}}" : given.format.empty() ? kDefaultFormat : given.format;
  if (auto printed = print_formatted(call.io, format, rows, heads_of_rows()); !printed) {
    return fail(call.io, printed.error(), kExitMisuse);
  }
  if (!given.format.empty() || given.quiet) return kExitOk;
  for (const ListedContainer& one : selected) {
    const driver::TaskStatus& task = one.container.task;
    if (task.state != driver::TaskState::kUnreadable) continue;
    print_note(call.io, str(attribute(task, "container_id", "-"), ": ", attribute(task, "problem", "-")));
  }
  return kExitOk;
}

// What templates get: texts for people, but for labels.
Json row_of(const ListedContainer& listed, bool no_trunc) {
  const Container& container = listed.container;
  const Json& document = *listed.document;
  const std::string id = long_id(container_id_of(container.task));
  const auto created = created_at(container);
  return {{"ID", no_trunc ? id : id.substr(0, kShortIdBytes)},
          {"Names", name_of(container)},
          {"Image", attribute(container.task, "image")},
          {"ImageID", document["Image"]},
          {"Command", command_text(document, no_trunc)},
          {"Status", status_text(container)},
          {"State", state_of(container)},
          {"Created", age_text(created)},
          {"CreatedAt", created ? time_text(created) : ""},
          {"CreatedHuman", age_text(created)},
          {"RunningFor", age_text(created)},
          {"StartedAt", document["State"]["StartedAt"]},
          {"ExitCode", document["State"]["ExitCode"]},
          {"Exited", state_of(container) == "exited"},
          {"Ports", attribute(container.task, "ports")},
          {"Labels", document["Config"]["Labels"]},
          {"Pid", document["State"]["Pid"]},
          {"Mounts", joined(destinations_of(document))},
          {"Networks", joined(names_of_networks(document))},
          {"Restarts", document["RestartCount"]},
          {"Task", container.task.name},
          {"TaskID", container.task.id.text}};
}

Json heads_of_rows() {
  return {{"ID", "CONTAINER ID"},
          {"Names", "NAMES"},
          {"Image", "IMAGE"},
          {"ImageID", "IMAGE ID"},
          {"Command", "COMMAND"},
          {"Status", "STATUS"},
          {"State", "STATE"},
          {"Created", "CREATED"},
          {"CreatedAt", "CREATED AT"},
          {"CreatedHuman", "CREATED"},
          {"RunningFor", "CREATED"},
          {"StartedAt", "STARTED AT"},
          {"ExitCode", "EXIT CODE"},
          {"Exited", "EXITED"},
          {"Ports", "PORTS"},
          {"Labels", "LABELS"},
          {"Pid", "PID"},
          {"Mounts", "MOUNTS"},
          {"Networks", "NETWORKS"},
          {"Restarts", "RESTARTS"},
          {"Task", "TASK"},
          {"TaskID", "TASK ID"}};
}

// What podman prints as JSON: values for programs.
Json podman_document(const ListedContainer& listed) {
  const Container& container = listed.container;
  const Json& document = *listed.document;
  const auto unix_seconds = [](const std::optional<driver::WallTime>& time) {
    return time ? std::chrono::system_clock::to_time_t(*time) : 0;
  };
  Json ports = Json::array();
  for (const auto& [inside, outside] : document["NetworkSettings"]["Ports"].items()) {
    const std::size_t slash = inside.find('/');
    for (const Json& one : outside) {
      const std::string host_port = one["HostPort"];
      ports.push_back({{"host_ip", one["HostIp"]},
                       {"host_port", std::strtoll(host_port.c_str(), nullptr, 10)},
                       {"container_port", std::strtoll(inside.c_str(), nullptr, 10)},
                       {"range", 1},
                       {"protocol", inside.substr(slash + 1)}});
    }
  }
  return {{"Id", long_id(container_id_of(container.task))},
          {"Names", Json::array({name_of(container)})},
          {"Image", attribute(container.task, "image")},
          {"ImageID", document["Image"]},
          {"Command", words_of(document)},
          {"Created", unix_seconds(created_at(container))},
          {"CreatedAt", time_text(created_at(container))},
          {"StartedAt", unix_seconds(container.task.started_at)},
          {"ExitedAt", unix_seconds(container.task.completed_at)},
          {"Exited", state_of(container) == "exited"},
          {"ExitCode", document["State"]["ExitCode"]},
          {"State", state_of(container)},
          {"Status", status_text(container)},
          {"Pid", document["State"]["Pid"]},
          {"Ports", std::move(ports)},
          {"Labels", document["Config"]["Labels"]},
          {"Mounts", destinations_of(document)},
          {"Networks", names_of_networks(document)},
          {"Restarts", document["RestartCount"]},
          {"AutoRemove", document["HostConfig"]["AutoRemove"]},
          {"Task", container.task.name},
          {"TaskID", container.task.id.text}};
}

std::vector<std::string> words_of(const Json& document) {
  std::vector<std::string> words;
  if (const std::string path = document["Path"]; !path.empty()) words.push_back(path);
  for (const Json& word : document["Args"]) words.push_back(word);
  return words;
}

std::string command_text(const Json& document, bool no_trunc) {
  std::string text;
  for (const std::string& word : words_of(document)) text += str(text.empty() ? "" : " ", word);
  if (no_trunc || text.size() <= kShortCommandBytes) return text;
  return str(base::cut_utf8(text, kShortCommandBytes - 1), "…");
}

std::string status_text(const Container& container) {
  const std::string state = state_of(container);
  const driver::TaskStatus& task = container.task;
  if (state == "running") {
    if (!task.started_at) return "Up";
    return "Up " + show_duration(std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now() -
                                                                                  *task.started_at));
  }
  if (state != "exited") return base::ascii_upper(state.substr(0, 1)) + state.substr(1);
  return str("Exited", task.exit ? str(" (", task.exit->exit_code, ")") : "",
             task.completed_at ? " " + age_text(task.completed_at) : "");
}

std::string state_text(const driver::TaskStatus& task) {
  switch (task.state) {
    case driver::TaskState::kRunning:
      return "RUNNING";
    case driver::TaskState::kExited:
      return task.exit ? str("EXITED (", task.exit->exit_code, ")") : "EXITED";
    case driver::TaskState::kUnreadable:
      return "UNREADABLE";
    case driver::TaskState::kUnknown:
      break;
  }
  return "STARTING";
}

std::string age_text(const std::optional<driver::WallTime>& when) {
  if (!when) return "-";
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now() - *when);
  return show_duration(age) + " ago";
}

Json names_of_networks(const Json& document) {
  Json names = Json::array();
  for (const auto& [name, network] : document["NetworkSettings"]["Networks"].items()) names.push_back(name);
  return names;
}

Json destinations_of(const Json& document) {
  Json targets = Json::array();
  for (const Json& mount : document["Mounts"]) targets.push_back(mount["Destination"]);
  return targets;
}

std::string joined(const Json& list) {
  std::string text;
  for (const Json& one : list) text += str(text.empty() ? "" : ",", one.get_ref<const std::string&>());
  return text;
}

}  // namespace
}  // namespace cli
