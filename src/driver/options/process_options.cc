// The rows of the option table about the task's process and what it is called.
#include <algorithm>
#include <array>

#include "base/json.h"
#include "driver/options/rows.h"
#include "driver/spec/spec.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

using Words = std::optional<std::vector<std::string>>;

Result<Words> decode_entrypoint(const Json& value, const std::string& where);
Status check_hostname(const std::string& where, const std::string& value);
Status check_group(const std::string& where, const std::string& value);
Status check_label_value(const std::string& where, const std::string& value);
Status check_labels(const std::map<std::string, std::string>& labels);
Status check_sysctl(const std::string& key);

constexpr std::int64_t kPidsMax = 4'194'304;  // PID_MAX_LIMIT of 64-bit kernels

}  // namespace

OptionTable<TaskOptions> process_rows() {
  return {
      text("command", &TaskOptions::command,
           {.example = "\"redis-server\"",
            .text = "Replaces the image's CMD; the image's ENTRYPOINT, or `entrypoint`, stays in front of it."}),
      list("args", &TaskOptions::args,
           {.example = "[\"--port\", \"${NOMAD_PORT_db}\"]",
            .text = "Follow `command`. Alone they replace the image's CMD."}),
      any("entrypoint", "string or list(string)", &TaskOptions::entrypoint, decode_entrypoint,
          {.example = "[\"/bin/bash\", \"-c\"]",
           .text =
               "Replaces the image's ENTRYPOINT and drops its CMD; `command` and `args` follow it. `[]` and `[\"\"]` "
               "clear the image's, and `command` and `args` are all that is run, or else the image's CMD."}),
      text("cwd", &TaskOptions::cwd,
           {.example = "\"/srv\"",
            .text = "Working directory. Unset: the image's, else `/`. Created if missing.",
            .aliases = {"work_dir", "working_dir"},
            .check = check_absolute}),
      text("hostname", &TaskOptions::hostname,
           {.example = "\"web-1\"",
            .text = "Host name inside the container. Unset: the group's, else made from task and allocation.",
            .check = check_hostname}),
      list("group_add", &TaskOptions::group_add,
           {.example = "[\"audio\", \"2000\"]",
            .text = "Additional groups of the task's user: names from the image's `/etc/group`, or numbers.",
            .check = check_group}),
      boolean(
          "init", &TaskOptions::init,
          {.example = "true",
           .text = "Run the command under a small init that forwards signals and reaps orphans. A missing command is "
                   "then only noticed when the task runs: exit code 127."}),
      boolean("tty", &TaskOptions::tty,
              {.example = "true", .text = "Give the task a terminal. Its output is then a single stream, stdout."}),
      refused<TaskOptions>(
          "interactive", "bool",
          {.example = "true", .text = "a task has no standard input; for a session use `nomad alloc exec -i -t`"}),
      map("labels", &TaskOptions::labels,
          {.example = "{\n  team = \"storage\"\n}",
           .text = "Names and values that are kept with the container: as annotations of its OCI configuration "
                   "(`containerd-driver.label.<name>`) and as attributes of InspectTask (`label.<name>`). At most "
                   "256 KiB in all.",
           .check = check_label_value}),
      map("sysctl", &TaskOptions::sysctl,
          {.example = "{\n  \"net.core.somaxconn\" = \"16384\"\n}",
           .text = "Kernel parameters of the container's own namespaces: `net.*` (not with `host_network`), "
                   "`kernel.msg*`, `kernel.sem`, `kernel.shm*`, `fs.mqueue.*`, `kernel.domainname`.",
           .check = check_name}),
      number("pids_limit", &TaskOptions::pids_limit, -1, kPidsMax,
             {.example = "512",
              .text = "How many processes and threads the task may have. 0: the node's limit (the plugin's "
                      "`pids_limit`), if it has one; -1: none."}),
  };
}

OptionTable<PluginOptions> process_defaults() {
  return {
      number("pids_limit", &PluginOptions::pids_limit, 0, kPidsMax,
             {.example = "4096",
              .text = "How many processes and threads a task may have: the default, and the most that a job may ask "
                      "for. 0: no limit."}),
      text("init_path", &PluginOptions::init_path,
           {.example = "\"/usr/bin/tini-static\"",
            .text = "The program for tasks with `init = true`: static, called as `init -- command…`. Unset: "
                    "`containerd-driver-init` beside the driver's own binary, else in the libexec folder of the "
                    "installation.",
            .check = check_absolute}),
  };
}

Status check_process_options(const TaskOptions& options) {
  Mistakes wrong;
  for (const auto& [key, value] : options.sysctl) wrong.add(check_sysctl(key));
  wrong.add(check_labels(options.labels));
  return std::move(wrong).status();
}

namespace {

Result<Words> decode_entrypoint(const Json& value, const std::string& where) {
  if (value == "") return Words();
  std::vector<std::string> words;
  if (value.is_string()) {
    TRY(words.emplace_back(), decode_text(value, where, {}));
  } else {
    TRY(words, decode_list(value, where, {}));
  }
  // Docker's way to write that there is none.
  if (words == std::vector<std::string>{""}) words.clear();
  return Words(std::move(words));
}

Status check_hostname(const std::string& where, const std::string& value) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
  if (value.size() > kGivenHostnameBytesMax) {
    return refuse(where, value, str("is too long: a host name has at most ", kGivenHostnameBytesMax, " bytes"));
  }
  if (value.find_first_not_of(kAllowed) != std::string::npos || (!value.empty() && value.front() == '-')) {
    return refuse(where, value,
                  "is not a valid host name: use letters, digits, '-', '.' and '_', and do not begin with '-'");
  }
  return {};
}

Status check_group(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (value.empty() || value.find(':') != std::string::npos) {
    return refuse(where, value, "is not a valid group: give a name or a number");
  }
  return {};
}

Status check_label_value(const std::string& where, const std::string& value) {
  constexpr std::size_t kLabelBytesMax = 4096;
  if (value.size() <= kLabelBytesMax) return {};
  return refuse(where, value, str("has ", value.size(), " bytes, the limit is ", kLabelBytesMax));
}

// They end up in the task's record and in config.json, which have limits of their own: counted as they are written
// there.
Status check_labels(const std::map<std::string, std::string>& labels) {
  for (const auto& [name, value] : labels) {
    if (name.empty()) return Error::invalid_argument("labels: a label has no name");
    TRY_VOID(check_name("labels: the name", name));
  }
  const std::size_t bytes = base::dump_json(labels).size();
  if (bytes <= kLabelsBytesMax) return {};
  return Error::invalid_argument(str("labels have ", bytes, " bytes in all, names and values, and the limit is ",
                                     kLabelsBytesMax, ": keep large texts in a file (template, artifact)"));
}

// spec: runtime-spec config-linux.md "sysctl"; the lists are those of namespaces(7), ipc_namespaces(7). The runtime
// writes any other parameter for the whole host, or fails half-way.
Status check_sysctl(const std::string& key) {
  static constexpr std::array<std::string_view, 9> kNamespaced = {
      "kernel.domainname", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni",         "kernel.sem",
      "kernel.shmall",     "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"};
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/";
  constexpr std::size_t kKeyBytesMax = 256;
  if (key.size() > kKeyBytesMax || key.find_first_not_of(kAllowed) != std::string::npos ||
      key.find("..") != std::string::npos || key.ends_with('.')) {
    return Error::invalid_argument(str("sysctl ", hcl_quote(key.substr(0, kKeyBytesMax)),
                                       " is not a valid kernel parameter name, like net.core.somaxconn"));
  }
  if (key.starts_with("net.") || key.starts_with("fs.mqueue.") ||
      std::find(kNamespaced.begin(), kNamespaced.end(), key) != kNamespaced.end()) {
    return {};
  }
  return Error::invalid_argument(
      str("sysctl ", key,
          " belongs to the whole host, not to a container: only net.*, fs.mqueue.*, kernel.msgmax, kernel.msgmnb, "
          "kernel.msgmni, kernel.sem, kernel.shm* and kernel.domainname can be set"));
}

}  // namespace
}  // namespace driver
