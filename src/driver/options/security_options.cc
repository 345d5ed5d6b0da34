// The rows of the option table that decide what a container may do, and what a node lets jobs ask for.
#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/text.h"
#include "driver/options/rows.h"
#include "driver/spec/devices.h"
#include "driver/spec/security.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

Status check_profile(const std::string& where, const std::string& value);
Status check_capability(const std::string& where, const std::string& value);
Status check_mode_name(const std::string& where, const std::string& value);
Status check_program(const std::string& where, const std::string& value);
Status check_userns(const std::string& where, const std::string& value);
Status check_apparmor(const std::string& where, const std::string& value);
OptionTable<VolumesOptions> volumes_table();
Option<TaskOptions> host_mode(const char* name, bool TaskOptions::*member, const char* of_what, RowText row);
Status merge_security_opt(TaskOptions& options, const std::string& entry);
Status merge_value(std::string& member, const std::string& value, std::string_view option, const std::string& entry);
Status merge_flag(std::optional<bool>& member, const std::string& value, const std::string& entry);
Status check_label(const std::string& entry);

}  // namespace

OptionTable<PluginOptions> gate_rows() {
  return {
      text("profile", &PluginOptions::profile,
           {.example = "\"hardened\"",
            .text = "The defaults of the gates below: `default` leaves them open, as the Go driver does; `hardened` "
                    "closes all of them. See security.md.",
            .check = check_profile}),
      boolean("allow_privileged", &PluginOptions::allow_privileged,
              {.example = "false",
               .text = "Whether tasks may set `privileged = true`. Unset: yes; with `profile = \"hardened\"`: no."}),
      list(
          "allow_caps", &PluginOptions::allow_caps,
          {.example = "[\"CHOWN\", \"NET_BIND_SERVICE\"]",
           .text = "The capabilities that tasks may have; the default set is reduced to these. `ALL` allows every one. "
                   "Unset: all; with `profile = \"hardened\"`: the default set. Privileged tasks are a matter of "
                   "`allow_privileged` alone.",
           .check = check_capability}),
      list("allowed_modes", &PluginOptions::allowed_modes,
           {.example = "[\"pid\", \"network\"]",
            .text = "The namespaces of the host that tasks may join: `pid`, `ipc`, `uts`, `cgroup`, `network`. "
                    "Unset: all, but with `allow_privileged = false` only `network`; with `profile = \"hardened\"`: "
                    "none. `none` allows nothing.",
            .check = check_mode_name}),
      list("allow_devices", &PluginOptions::allow_devices,
           {.example = "[\"/dev/fuse\", \"/dev/dri\"]",
            .text = "The device files that `devices` may name, or folders of them; `/dev` allows all. Unset: all; with "
                    "`profile = \"hardened\"`: none. `none` allows nothing. Devices of Nomad's device plugins are "
                    "always allowed.",
            .check = check_name}),
      boolean("require_seccomp", &PluginOptions::require_seccomp,
              {.example = "true",
               .text = "Refuse tasks without the default seccomp filter: `seccomp = false`, or a profile of their own. "
                       "Unset: no; with `profile = \"hardened\"`: yes."}),
      boolean("require_no_new_privileges", &PluginOptions::require_no_new_privileges,
              {.example = "true",
               .text = "Refuse tasks with `no_new_privileges = false`. Unset: no; with `profile = \"hardened\"`: "
                       "yes."}),
      block("volumes", &PluginOptions::volumes, volumes_table(), nullptr,
            {.example = "enabled = false", .text = "Access to the host's files."}),
      map("runtimes", &PluginOptions::runtimes,
          {.example = "{\n  crun = \"/usr/bin/crun\"\n}",
           .text = "OCI runtimes that tasks may choose with `runtime`: name and program, a path or a name that is "
                   "looked up in the usual folders. `runc` and the program of `runtime_binary` need not be listed.",
           .check = check_program}),
      list("allow_runtimes", &PluginOptions::allow_runtimes,
           {.example = "[\"runc\", \"crun\"]",
            .text = "The runtimes that tasks may choose. Unset: those of `runtimes`, `runc`, and the default.",
            .check = check_name}),
  };
}

OptionTable<TaskOptions> security_rows() {
  return {
      list(
          "cap_add", &TaskOptions::cap_add,
          {.example = "[\"NET_ADMIN\"]",
           .text = "Capabilities to add to the default set, with or without `CAP_`, in upper or lower case; `ALL` adds "
                   "all. A task that does not run as root gets them too.",
           .check = check_name}),
      list("cap_drop", &TaskOptions::cap_drop,
           {.example = "[\"ALL\"]",
            .text = "Capabilities to remove, in the same forms. A name in `cap_add` takes precedence over `ALL` here.",
            .check = check_name}),
      boolean("privileged", &TaskOptions::privileged,
              {.example = "true",
               .text = "All capabilities, all devices of the host, no seccomp filter, no masked paths. The node must "
                       "permit it (`allow_privileged`)."}),
      boolean("seccomp", &TaskOptions::seccomp,
              {.example = "false", .text = "Filter system calls: with the default profile, or `seccomp_profile`."}),
      text("seccomp_profile", &TaskOptions::seccomp_profile,
           {.example = "\"/etc/nomad/seccomp.json\"",
            .text = "A seccomp profile on the node, instead of the default one: in OCI's form or in Docker's (with "
                    "`archMap`, `includes` and `excludes`). Also for privileged tasks.",
            .check = check_absolute}),
      text("apparmor_profile", &TaskOptions::apparmor_profile,
           {.example = "\"my-profile\"",
            .text = "An AppArmor profile that is loaded on the node; `unconfined`: no profile.",
            .check = check_apparmor}),
      boolean(
          "no_new_privileges", &TaskOptions::no_new_privileges,
          {.example = "false",
           .text = "Keep setuid programs and file capabilities from granting privileges. `sudo` and `ping` may need "
                   "`false`. Unset: true, but false for privileged tasks."}),
      list("security_opt", &TaskOptions::security_opt,
           {.example = "[\"seccomp=unconfined\", \"no-new-privileges\"]",
            .text = "The same in Docker's syntax: `seccomp=unconfined`, `seccomp=/path`, `apparmor=name`, "
                    "`no-new-privileges[=false]`, `label=disable`.",
            .check = check_name}),
      list("selinux_opts", &TaskOptions::selinux_opts,
           {.example = "[\"disable\"]",
            .text = "As in Podman's driver. Containers have no SELinux label, so only `disable` is accepted.",
            .check = check_name}),
      host_mode(
          "pid_mode", &TaskOptions::host_pid, "pid",
          {.example = "\"host\"", .text = "`host`: see and signal all processes of the host. See `allowed_modes`."}),
      host_mode(
          "ipc_mode", &TaskOptions::host_ipc, "ipc",
          {.example = "\"host\"",
           .text = "`host`: use shared memory, semaphores and message queues of the host, including `/dev/shm`."}),
      host_mode("uts_mode", &TaskOptions::host_uts, "uts",
                {.example = "\"host\"", .text = "`host`: use the host's host name; `hostname` cannot be set then."}),
      host_mode("cgroupns", &TaskOptions::host_cgroup, "cgroup",
                {.example = "\"host\"", .text = "`host`: see the whole cgroup tree, not only the task's own."}),
      text("userns_mode", &TaskOptions::userns_mode,
           {.example = "\"host\"",
            .text = "Containers have no user namespace of their own, so only `host` is accepted.",
            .aliases = {"userns"},
            .check = check_userns}),
      any("devices", "list of strings or blocks", &TaskOptions::devices, decode_devices,
          {.example = "[\n  \"/dev/fuse\",\n  \"/dev/loop0:/dev/xvdc:r\",\n  { host_path = \"/dev/dri\" }\n]",
           .text = "Devices of the host: `host_path`, optionally with `:container_path` and `:cgroup_permissions` (of "
                   "`rwm`), or blocks with these three. A folder stands for every device in it."}),
      text("runtime", &TaskOptions::runtime,
           {.example = "\"crun\"",
            .text = "The OCI runtime that runs the task: a name of the plugin's `runtimes`. Unset: its "
                    "`runtime_binary`.",
            .check = check_name}),
  };
}

Status merge_security_options(TaskOptions& options) {
  Mistakes wrong;
  for (const std::string& entry : options.security_opt) wrong.add(merge_security_opt(options, entry));
  for (const std::string& entry : options.selinux_opts) wrong.add(check_label(entry));
  if (!options.seccomp && !options.seccomp_profile.empty()) {
    wrong.add(Error::invalid_argument("seccomp must be set to true, if using a custom seccomp_profile."));
  }
  if (options.host_uts && !options.hostname.empty()) {
    wrong.add(Error::invalid_argument(str("hostname = ", hcl_quote(options.hostname),
                                          " would rename the host with uts_mode = \"host\": leave one of them out")));
  }
  return std::move(wrong).status();
}

namespace {

// ---- checks ---------------------------------------------------------------------------------------------------------

Status check_profile(const std::string& where, const std::string& value) {
  if (value == "default" || value == "hardened") return {};
  return refuse(where, value, "is not a valid profile: use default or hardened");
}

Status check_capability(const std::string& where, const std::string& value) {
  auto normal = normalize_capability(value);
  if (!normal) return std::move(normal).error().wrap(where);
  return {};
}

Status check_mode_name(const std::string& where, const std::string& value) {
  static constexpr std::array<std::string_view, 6> kNames = {"pid", "ipc", "uts", "cgroup", "network", "none"};
  if (std::find(kNames.begin(), kNames.end(), value) != kNames.end()) return {};
  return refuse(where, value, "is not a valid mode: use pid, ipc, uts, cgroup, network or none");
}

Status check_program(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (value.empty()) return refuse(where, value, "is empty: give the program's name or path");
  if (value.front() != '/' && value.find('/') != std::string::npos) {
    return refuse(where, value, "must be an absolute path, or a name without slashes");
  }
  return {};
}

Status check_userns(const std::string& where, const std::string& value) {
  if (value.empty() || value == "host") return {};
  return refuse(where, value, "is not supported: containers have no user namespace of their own, leave it out");
}

Status check_apparmor(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (value.find_first_of(" \"") == std::string::npos) return {};
  return refuse(where, value,
                "is not a valid profile name: /sys/kernel/security/apparmor/profiles lists those that are loaded");
}

OptionTable<VolumesOptions> volumes_table() {
  return {boolean(
      "enabled", &VolumesOptions::enabled,
      {.example = "false",
       .text = "Whether tasks may mount files, or load image archives, from outside of their allocation. Unset: "
               "yes; with `profile = \"hardened\"`: no. Nomad's own volumes (`volume_mount`) are always "
               "allowed."})};
}

// Docker's other words for a private namespace are accepted; those that join another container have no meaning here.
Option<TaskOptions> host_mode(const char* name, bool TaskOptions::*member, const char* of_what, RowText row) {
  return {make_doc(name, "string", "string", "", row),
          [=](TaskOptions& out, const Json& value, const std::string& where) -> Status {
            TRY(const std::string mode, decode_text(value, where, row));
            const std::string word = base::ascii_lower(mode);
            out.*member = word == "host";
            if (word.empty() || word == "host" || word == "private" || word == "shareable") return {};
            return Error::invalid_argument(str("Invalid ", where, ". Set ", where, "=host to enable host ", of_what,
                                               " namespace. ", show_value(mode), " is neither host nor private."));
          }};
}

// ---- security_opt ---------------------------------------------------------------------------------------------------

// "key=value"; Docker also takes "key:value".
Status merge_security_opt(TaskOptions& options, const std::string& entry) {
  const std::size_t at = entry.find_first_of("=:");
  const std::string key = entry.substr(0, at);
  const std::string value = at == std::string::npos ? "" : entry.substr(at + 1);
  if (key == "no-new-privileges") return merge_flag(options.no_new_privileges, value, entry);
  if (value.empty()) return refuse("security_opt", entry, "has no value: write it as key=value");
  if (key == "seccomp") {
    if (value == "builtin") return {};
    if (value == "unconfined") {
      options.seccomp = false;
      return {};
    }
    TRY_VOID(check_absolute("security_opt: seccomp", value));
    return merge_value(options.seccomp_profile, value, "seccomp_profile", entry);
  }
  if (key == "apparmor") {
    TRY_VOID(check_apparmor("security_opt: apparmor", value));
    return merge_value(options.apparmor_profile, value, "apparmor_profile", entry);
  }
  if (key == "label") return check_label(value);
  return refuse("security_opt", entry, "is not known: use seccomp=, apparmor=, label=disable or no-new-privileges");
}

Status merge_value(std::string& member, const std::string& value, std::string_view option, const std::string& entry) {
  if (!member.empty() && member != value) {
    return refuse("security_opt", entry, str("contradicts ", option, " = ", hcl_quote(member), ": keep one"));
  }
  member = value;
  return {};
}

Status merge_flag(std::optional<bool>& member, const std::string& value, const std::string& entry) {
  if (!value.empty() && value != "true" && value != "false") {
    return refuse("security_opt", entry, "must be no-new-privileges, with =true or =false");
  }
  const bool wanted = value != "false";
  if (member && *member != wanted) {
    return refuse("security_opt", entry, str("contradicts no_new_privileges = ", *member ? "true" : "false"));
  }
  member = wanted;
  return {};
}

Status check_label(const std::string& entry) {
  if (entry == "disable") return {};
  return refuse("SELinux option", entry, "is not supported: containers have no SELinux label, use disable");
}

}  // namespace
}  // namespace driver
