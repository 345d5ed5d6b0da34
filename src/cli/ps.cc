#include "base/json.h"
#include "cli/verb.h"

namespace cli {

using base::str;

namespace {

std::string state_text(const driver::TaskStatus& task);
std::string time_text(const std::optional<driver::WallTime>& when);
std::string attribute(const driver::TaskStatus& task, const std::string& key);

}  // namespace

int ps_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  if (!parse_flags(self, call, flags, Flags::Stop::kNever, exit_code)) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error());
  const auto tasks = (*session)->driver.list();
  if (!tasks) return fail(call.io, tasks.error());
  if (output == "json") {
    base::Json all = base::Json::array();
    for (const driver::TaskStatus& task : *tasks) all.push_back(json_of(task));
    print_json(call.io, all);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows = {{"CONTAINER", "TASK", "IMAGE", "STATUS", "STARTED"}};
  for (const driver::TaskStatus& task : *tasks) {
    rows.push_back({attribute(task, "container_id"), task.name, attribute(task, "image"), state_text(task),
                    time_text(task.started_at)});
  }
  print_rows(call.io, rows);
  for (const driver::TaskStatus& task : *tasks) {
    if (task.state != driver::TaskState::kUnreadable) continue;
    print_note(call.io, str(attribute(task, "container_id"), ": ", attribute(task, "problem")));
  }
  return kExitOk;
}

namespace {

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

std::string attribute(const driver::TaskStatus& task, const std::string& key) {
  const auto it = task.attributes.find(key);
  return it == task.attributes.end() ? "-" : it->second;
}

}  // namespace

base::Json json_of(const driver::TaskStatus& task) {
  base::Json out = {
      {"id", task.id.text}, {"name", task.name}, {"status", state_text(task)}, {"attributes", task.attributes}};
  const auto unix_seconds = [](driver::WallTime when) {
    return std::chrono::duration_cast<std::chrono::seconds>(when.time_since_epoch()).count();
  };
  if (task.started_at) out["started_at"] = unix_seconds(*task.started_at);
  if (task.completed_at) out["completed_at"] = unix_seconds(*task.completed_at);
  if (task.exit) {
    out["exit_code"] = task.exit->exit_code;
    out["oom_killed"] = task.exit->oom_killed;
  }
  return out;
}

}  // namespace cli
