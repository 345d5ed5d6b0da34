#include <set>

#include "base/json.h"
#include "cli/verb.h"

namespace cli {

using base::Result;
using base::str;

namespace {

Result<std::vector<Container>> select(const std::vector<Container>& all, const std::vector<std::string>& wanted);
std::string state_text(const driver::TaskStatus& task);
std::string time_text(const std::optional<driver::WallTime>& when);

}  // namespace

int ps_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  const auto wanted = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!wanted) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error());
  const auto all = list_containers((*session)->driver);
  if (!all) return fail(call.io, all.error());
  const auto selected = select(*all, *wanted);
  if (!selected) return fail(call.io, selected.error());
  if (output == "json") {
    base::Json shown = base::Json::array();
    for (const Container& container : *selected) shown.push_back(json_of_task(container.task));
    print_json(call.io, shown);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows = {{"CONTAINER", "TASK", "IMAGE", "STATUS", "STARTED"}};
  for (const Container& container : *selected) {
    const driver::TaskStatus& task = container.task;
    rows.push_back({attribute(task, "container_id", "-"), task.name, attribute(task, "image", "-"),
                    container.is_created ? "CREATED" : state_text(task), time_text(task.started_at)});
  }
  print_rows(call.io, rows);
  for (const Container& container : *selected) {
    const driver::TaskStatus& task = container.task;
    if (task.state != driver::TaskState::kUnreadable) continue;
    print_note(call.io, str(attribute(task, "container_id", "-"), ": ", attribute(task, "problem", "-")));
  }
  return kExitOk;
}

namespace {

// Each once, in the order of the list.
Result<std::vector<Container>> select(const std::vector<Container>& all, const std::vector<std::string>& wanted) {
  if (wanted.empty()) return all;
  std::set<std::string> ids;
  for (const std::string& name : wanted) {
    const auto named = containers_named(all, name);
    if (named.empty()) return base::Error::not_found(str("there is no container ", name));
    for (const Container& container : named) ids.insert(container.task.id.text);
  }
  std::vector<Container> selected;
  for (const Container& container : all) {
    if (ids.contains(container.task.id.text)) selected.push_back(container);
  }
  return selected;
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

std::string time_text(const std::optional<driver::WallTime>& when) {
  if (!when) return "-";
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now() - *when);
  return show_age(age) + " ago";
}

}  // namespace

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

}  // namespace cli
