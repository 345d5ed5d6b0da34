#include "driver/life/record.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/json.h"
#include "oci/digest.h"

namespace driver {

namespace {
using base::Json;
using base::Result;
using base::str;

constexpr std::size_t kContainerIdBytesMax = 40;
constexpr std::size_t kTaskNameBytesMax = 20;  // 20 + "-" + 16 hex: far below the shim's 76 and a hostname's 63
constexpr std::string_view kCgroupMount = "/sys/fs/cgroup";

std::string sanitized(std::string_view name);
std::string cgroup_path_of(const TaskSpec& spec, const std::string& container_id);
Json to_json(const Record& record);
Result<Record> from_json(const Json& json, const std::string& container_id, const Roots& roots);
std::string own_cgroup(const std::string& container_id);
bool is_plain(const std::string& path);
}  // namespace

std::string container_id_of(const TaskId& id) {
  // "<alloc>/<task>/<random>": people want to see the task; the hash makes it unique.
  std::string_view task = id.text;
  if (const auto first = task.find('/'); first != std::string_view::npos) {
    task.remove_prefix(first + 1);
    task = task.substr(0, task.find('/'));
  }
  const std::string hash(oci::Digest::of_bytes(id.text).hex().substr(0, kIdHashBytes));
  const std::string name = sanitized(task);
  return name.empty() ? hash : str(name, "-", hash);
}

bool is_container_id(std::string_view name) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return name.size() >= kIdHashBytes && name.size() <= kContainerIdBytesMax &&
         std::all_of(name.begin(), name.end(), allowed);
}

TaskNames plan_names(const TaskSpec& spec, const Roots& roots) {
  TaskNames names = names_of(container_id_of(spec.id), roots);
  names.cgroup_path = cgroup_path_of(spec, names.container_id);
  return names;
}

TaskNames names_of(const std::string& container_id, const Roots& roots) {
  CHECK(is_container_id(container_id));
  TaskNames names;
  names.container_id = container_id;
  names.task_dir = str(roots.data_dir, "/tasks/", names.container_id);
  names.upper_dir = str(names.task_dir, "/upper");
  names.work_dir = str(names.task_dir, "/work");
  names.bundle_dir = str(roots.state_dir, "/bundles/", names.container_id);
  names.rootfs_dir = str(names.bundle_dir, "/rootfs");
  names.netns = str(roots.state_dir, "/netns/", names.container_id);
  names.etc_dir = str(names.bundle_dir, "/etc");
  names.shim_socket = str(roots.state_dir, "/s/", names.container_id.substr(names.container_id.size() - kIdHashBytes));
  names.shim_cgroup = str("containerd-driver/shims/", names.container_id);
  names.cgroup_path = own_cgroup(names.container_id);
  return names;
}

shim::ShimOptions Record::shim_options() const {
  shim::ShimOptions options;
  options.shim_binary = shim_binary;
  options.runtime_binary = runtime_binary;
  options.runtime_root = state_dir + "/runtime";
  // Only the plugin listens there. A command's tasks tell nobody: its end comes by Wait, and OOM kills are counted
  // then.
  if (!from_command_line) options.events_socket = state_dir + "/events";
  return options;
}

Result<std::string> encode_record(const Record& record) {
  std::string text = base::dump_json(to_json(record));
  if (text.size() <= kRecordBytesMax) return text;
  return base::Error::invalid_argument(str("the record of task ", record.id.text, " would have ", text.size(),
                                           " bytes, the limit is ", kRecordBytesMax,
                                           ": give the job fewer or shorter labels"));
}

Result<Record> decode_record(std::string_view text, const std::string& container_id, const Roots& roots) {
  const auto json = base::parse_json(text, "record");
  if (!json) return base::Error::data_loss(json.error().message);
  return from_json(*json, container_id, roots);
}

namespace {

std::string sanitized(std::string_view name) {
  std::string out;
  for (const char c : name.substr(0, kTaskNameBytesMax)) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 && byte < 0x80) {
      out += static_cast<char>(std::tolower(byte));
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out;
}

// Where the agent polices the task. On v2 that is the path it sent; on v1 (and hybrid) it only sends the cpuset folder
// that all tasks share, and looks for the processes in /nomad/<alloc>.<task> of the freezer.
std::string cgroup_path_of(const TaskSpec& spec, const std::string& container_id) {
  const std::string& sent = spec.resources.cpuset_cgroup;
  if (sent.empty() || spec.alloc_id.empty()) return own_cgroup(container_id);
  const std::string_view cpuset = "/sys/fs/cgroup/cpuset/";
  if (sent.starts_with(cpuset)) return str("/nomad/", spec.alloc_id, ".", spec.name);
  if (sent.starts_with(kCgroupMount) && sent.ends_with(".scope")) return sent.substr(kCgroupMount.size());
  return own_cgroup(container_id);
}

std::string own_cgroup(const std::string& container_id) {
  return str("/containerd-driver/containers/", container_id);
}

std::int64_t to_micros(WallTime time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

Json process_json(const base::ProcessId& id) {
  return {{"pid", id.pid}, {"start_ticks", id.start_ticks}};
}

std::string_view phase_name(Phase phase) {
  switch (phase) {
    case Phase::kStarting:
      return "starting";
    case Phase::kRunning:
      return "running";
    case Phase::kExited:
      return "exited";
  }
  return "";
}

Json to_json(const Record& r) {
  Json json = {{"version", Record::kVersion},
               {"id", r.id.text},
               {"name", r.name},
               {"alloc_id", r.alloc_id},
               {"alloc_dir", r.alloc_dir},
               {"cgroup_path", r.names.cgroup_path},
               {"boot_id", r.boot_id},
               {"phase", phase_name(r.phase)},
               {"from_command_line", r.from_command_line},
               {"remove_on_exit", r.remove_on_exit},
               {"owner", process_json(r.owner)},
               {"image_reference", r.image_reference},
               {"image_digest", r.image_digest},
               {"image",
                {{"resolved_digest", r.image.resolved_digest},
                 {"platform", r.image.platform},
                 {"size_bytes", r.image.size_bytes},
                 {"pulled_at", r.image.pulled_at_unix},
                 {"verified", r.image.verified}}},
               {"layer_dirs", r.layer_dirs},
               {"stop_signal", r.stop_signal},
               {"shim_binary", r.shim_binary},
               {"runtime_binary", r.runtime_binary},
               {"state_dir", r.state_dir},
               {"shim", process_json(r.shim)},
               {"init", process_json(r.init)},
               {"privileged", r.privileged},
               {"seccomp", r.seccomp},
               {"labels", r.labels}};
  if (r.started_at) json["started_at_us"] = to_micros(*r.started_at);
  if (r.exited_at) json["exited_at_us"] = to_micros(*r.exited_at);
  if (r.exit) {
    json["exit"] = {{"code", r.exit->exit_code},
                    {"signal", r.exit->signal},
                    {"oom_killed", r.exit->oom_killed},
                    {"error", r.exit->error}};
  }
  return json;
}

// Reads members one after the other and remembers the first that is missing or wrong, so that a record reads as a list
// of fields.
class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  void read(std::string_view key, std::string& out) { take(key, base::get_string(json_, key), out); }
  void read(std::string_view key, bool& out) { take(key, base::get_bool(json_, key), out); }
  void read(std::string_view key, std::vector<std::string>& out) { take(key, base::get_string_list(json_, key), out); }
  void read(std::string_view key, int& out) {
    std::int64_t wide = 0;
    take(key, base::get_int(json_, key), wide);
    out = static_cast<int>(wide);
  }
  void read(std::string_view key, std::int64_t& out) { take(key, base::get_int(json_, key), out); }
  void read(std::string_view key, base::ProcessId& out) {
    const auto object = child(key);
    if (!object) return;
    Reader inner(*object);
    int pid = 0;
    std::int64_t ticks = 0;
    inner.read("pid", pid);
    inner.take("start_ticks", base::get_int(*object, "start_ticks"), ticks);
    out = {pid, static_cast<std::uint64_t>(ticks)};
    absorb(inner);
  }
  void read(std::string_view key, std::optional<WallTime>& out) {
    auto micros = base::get_int(json_, key);
    if (micros && *micros) out = WallTime(std::chrono::microseconds(**micros));
  }
  const Json* child(std::string_view key) {
    auto object = base::get_object(json_, key);
    if (object && *object != nullptr) return *object;
    fail(str("\"", key, "\" is missing"));
    return nullptr;
  }
  void absorb(const Reader& inner) {
    if (inner.error_) fail(inner.error_->message);
  }
  void fail(std::string what) {
    if (!error_) error_ = base::Error::data_loss(std::move(what));
  }
  const std::optional<base::Error>& error() const { return error_; }

 private:
  template <typename T>
  void take(std::string_view key, Result<std::optional<T>> value, T& out) {
    if (!value) return fail(value.error().message);
    if (!*value) return fail(str("\"", key, "\" is missing"));
    out = std::move(**value);
  }
  const Json& json_;
  std::optional<base::Error> error_;
};

// Version 1 had all names in the file. Of these only two say something that does not follow from the id.
void read_version_1(Reader& reader, const std::string& container_id, Record& r) {
  const Json* object = reader.child("names");
  if (object == nullptr) return;
  Reader inner(*object);
  std::string bundle_dir;
  inner.read("cgroup_path", r.names.cgroup_path);
  inner.read("bundle_dir", bundle_dir);
  reader.absorb(inner);
  const std::string tail = str("/bundles/", container_id);
  if (bundle_dir.ends_with(tail)) {
    r.state_dir = bundle_dir.substr(0, bundle_dir.size() - tail.size());
  } else {
    reader.fail(str("its bundle would be ", bundle_dir));
  }
}

// The container's control group is killed with all that is in it: nobody else's may stand here.
bool is_cgroup_of(const Record& r, const std::string& container_id) {
  const std::string& path = r.names.cgroup_path;
  const std::string task = str(r.alloc_id, ".", r.name);
  if (path == own_cgroup(container_id)) return true;
  if (r.alloc_id.empty()) return false;
  return path == str("/nomad/", task) || (is_plain(path) && path.ends_with(str("/", task, ".scope")));
}

// Absolute, and without anything that leads up again.
bool is_plain(const std::string& path) {
  const std::filesystem::path parts(path);
  return path.starts_with('/') && std::find(parts.begin(), parts.end(), "..") == parts.end();
}

// Not there in records of earlier builds.
void read_labels(Reader& reader, const Json& json, Record& r) {
  if (!json.contains("labels")) return;
  const Json* object = reader.child("labels");
  if (object == nullptr) return;
  Reader inner(*object);
  for (const auto& [name, ignored] : object->items()) inner.read(name, r.labels[name]);
  reader.absorb(inner);
}

void read_exit(Reader& reader, const Json& json, Record& r) {
  if (!json.contains("exit")) return;
  const Json* object = reader.child("exit");
  if (object == nullptr) return;
  Reader inner(*object);
  ExitResult exit;
  inner.read("code", exit.exit_code);
  inner.read("signal", exit.signal);
  inner.read("oom_killed", exit.oom_killed);
  inner.read("error", exit.error);
  reader.absorb(inner);
  r.exit = exit;
}

// Records of older versions have none.
void read_image(Reader& reader, const Json& json, Record& r) {
  if (!json.contains("image")) return;
  const Json* object = reader.child("image");
  if (object == nullptr) return;
  Reader inner(*object);
  std::int64_t size_bytes = 0;
  inner.read("resolved_digest", r.image.resolved_digest);
  inner.read("platform", r.image.platform);
  inner.read("size_bytes", size_bytes);
  inner.read("pulled_at", r.image.pulled_at_unix);
  inner.read("verified", r.image.verified);
  reader.absorb(inner);
  r.image.size_bytes = static_cast<std::uint64_t>(size_bytes);
}

void check_believable(Reader& reader, const std::string& container_id, const Record& r) {
  if (reader.error()) return;
  if (container_id_of(r.id) != container_id) reader.fail(str("it is of another task, ", r.id.text));
  if (!is_cgroup_of(r, container_id)) reader.fail(str("\"cgroup_path\" is \"", r.names.cgroup_path, "\""));
  for (const std::string* path : {&r.state_dir, &r.shim_binary, &r.runtime_binary}) {
    if (!is_plain(*path)) reader.fail(str("\"", *path, "\" is not an absolute path"));
  }
}

Result<Record> from_json(const Json& json, const std::string& container_id, const Roots& roots) {
  Record r;
  Reader reader(json);
  int version = 0;
  reader.read("version", version);
  if (version > Record::kVersion) {
    return base::Error::failed_precondition(
        str("written by a newer version (", version, "): run that version again, or remove the task with it"));
  }
  std::string phase;
  reader.read("id", r.id.text);
  reader.read("name", r.name);
  reader.read("alloc_id", r.alloc_id);
  reader.read("alloc_dir", r.alloc_dir);
  reader.read("boot_id", r.boot_id);
  reader.read("phase", phase);
  reader.read("from_command_line", r.from_command_line);
  reader.read("remove_on_exit", r.remove_on_exit);
  reader.read("owner", r.owner);
  reader.read("image_reference", r.image_reference);
  reader.read("image_digest", r.image_digest);
  read_image(reader, json, r);
  reader.read("layer_dirs", r.layer_dirs);
  reader.read("stop_signal", r.stop_signal);
  reader.read("shim_binary", r.shim_binary);
  reader.read("runtime_binary", r.runtime_binary);
  reader.read("shim", r.shim);
  reader.read("init", r.init);
  reader.read("privileged", r.privileged);
  reader.read("seccomp", r.seccomp);
  reader.read("started_at_us", r.started_at);
  reader.read("exited_at_us", r.exited_at);
  read_labels(reader, json, r);
  read_exit(reader, json, r);
  if (phase == "running") {
    r.phase = Phase::kRunning;
  } else if (phase == "exited") {
    r.phase = Phase::kExited;
  } else if (phase != "starting") {
    reader.fail(str("\"phase\" is \"", phase, "\""));
  }
  if (version == 1) {
    read_version_1(reader, container_id, r);
  } else {
    reader.read("cgroup_path", r.names.cgroup_path);
    reader.read("state_dir", r.state_dir);
  }
  check_believable(reader, container_id, r);
  if (reader.error()) return *reader.error();
  const std::string cgroup_path = r.names.cgroup_path;
  r.names = names_of(container_id, Roots{roots.data_dir, r.state_dir});
  r.names.cgroup_path = cgroup_path;
  return r;
}

}  // namespace
}  // namespace driver
