#include "driver/life/record.h"

#include <algorithm>
#include <cctype>

#include "base/file.h"
#include "base/json.h"
#include "oci/digest.h"

namespace driver {

namespace {
using base::Json;
using base::Result;
using base::str;

constexpr std::size_t kRecordBytesMax = 1u << 20;
constexpr std::size_t kTaskNameBytesMax = 20;  // 20 + "-" + 16 hex: far below the shim's 76 and a hostname's 63
constexpr std::string_view kCgroupMount = "/sys/fs/cgroup";

std::string sanitized(std::string_view name);
std::string cgroup_path_of(const TaskSpec& spec, const std::string& container_id);
Json to_json(const Record& record);
Result<Record> from_json(const Json& json);
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

TaskNames plan_names(const TaskSpec& spec, const Roots& roots) {
  TaskNames names;
  names.container_id = container_id_of(spec.id);
  names.task_dir = str(roots.data_dir, "/tasks/", names.container_id);
  names.upper_dir = str(names.task_dir, "/upper");
  names.work_dir = str(names.task_dir, "/work");
  names.bundle_dir = str(roots.state_dir, "/bundles/", names.container_id);
  names.rootfs_dir = str(names.bundle_dir, "/rootfs");
  names.etc_dir = str(names.bundle_dir, "/etc");
  names.shim_socket = str(roots.state_dir, "/s/", names.container_id.substr(names.container_id.size() - kIdHashBytes));
  names.shim_cgroup = str("containerd-driver/shims/", names.container_id);
  names.cgroup_path = cgroup_path_of(spec, names.container_id);
  return names;
}

shim::ShimOptions Record::shim_options() const {
  shim::ShimOptions options;
  options.shim_binary = shim_binary;
  options.runtime_binary = runtime_binary;
  options.runtime_root = runtime_root;
  options.events_socket = events_socket;
  return options;
}

base::Status write_record(const Record& record) {
  auto written = base::write_file_atomic(record.names.task_dir + "/record.json", base::dump_json(to_json(record)), 0600,
                                         base::Durable::kNo);
  if (!written) return std::move(written).error().wrap("writing the task's record");
  return {};
}

Result<Record> read_record(const std::string& task_dir) {
  TRY(const std::string text, base::read_file(task_dir + "/record.json", kRecordBytesMax));
  auto json = base::parse_json(text, "record");
  if (!json) return base::Error::data_loss(str("cannot read ", task_dir, "/record.json: ", json.error().message));
  auto record = from_json(*json);
  if (!record) return std::move(record).error().wrap(str("reading ", task_dir, "/record.json"));
  return record;
}

std::vector<std::string> list_task_dirs(const std::string& data_dir) {
  std::vector<std::string> dirs;
  std::error_code ec;
  for (const auto& entry : std::filesystem::directory_iterator(data_dir + "/tasks", ec)) {
    dirs.push_back(entry.path().string());
  }
  std::sort(dirs.begin(), dirs.end());
  return dirs;
}

oci::GcUses images_in_use(const std::string& data_dir) {
  oci::GcUses uses;
  for (const std::string& dir : list_task_dirs(data_dir)) {
    const auto record = read_record(dir);
    if (!record && record.error().code == base::Code::kNotFound) continue;  // not written yet: its start has the lease
    if (!record) {
      uses.unknown.push_back(base::str("the record in ", dir, " cannot be read: ", record.error().message));
    } else if (!record->layer_dirs.empty()) {
      uses.known.push_back({{record->layer_dirs.begin(), record->layer_dirs.end()},
                            record->image_digest,
                            base::str("container ", record->names.container_id)});
    }
  }
  return uses;
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
  if (sent.empty() || spec.alloc_id.empty()) return str("/containerd-driver/containers/", container_id);
  const std::string_view cpuset = "/sys/fs/cgroup/cpuset/";
  if (sent.starts_with(cpuset)) return str("/nomad/", spec.alloc_id, ".", spec.name);
  if (sent.starts_with(kCgroupMount) && sent.ends_with(".scope")) return sent.substr(kCgroupMount.size());
  return str("/containerd-driver/containers/", container_id);
}

std::int64_t to_micros(WallTime time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

Json process_json(const base::ProcessId& id) {
  return {{"pid", id.pid}, {"start_ticks", id.start_ticks}};
}

Json names_json(const TaskNames& n) {
  return {{"container_id", n.container_id}, {"task_dir", n.task_dir},       {"upper_dir", n.upper_dir},
          {"work_dir", n.work_dir},         {"bundle_dir", n.bundle_dir},   {"rootfs_dir", n.rootfs_dir},
          {"etc_dir", n.etc_dir},           {"shim_socket", n.shim_socket}, {"shim_cgroup", n.shim_cgroup},
          {"cgroup_path", n.cgroup_path}};
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
               {"names", names_json(r.names)},
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
               {"runtime_root", r.runtime_root},
               {"events_socket", r.events_socket},
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

void read_names(Reader& reader, TaskNames& n) {
  const Json* object = reader.child("names");
  if (object == nullptr) return;
  Reader inner(*object);
  inner.read("container_id", n.container_id);
  inner.read("task_dir", n.task_dir);
  inner.read("upper_dir", n.upper_dir);
  inner.read("work_dir", n.work_dir);
  inner.read("bundle_dir", n.bundle_dir);
  inner.read("rootfs_dir", n.rootfs_dir);
  inner.read("etc_dir", n.etc_dir);
  inner.read("shim_socket", n.shim_socket);
  inner.read("shim_cgroup", n.shim_cgroup);
  inner.read("cgroup_path", n.cgroup_path);
  reader.absorb(inner);
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

Result<Record> from_json(const Json& json) {
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
  read_names(reader, r.names);
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
  reader.read("runtime_root", r.runtime_root);
  reader.read("events_socket", r.events_socket);
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
  if (reader.error()) return *reader.error();
  return r;
}

}  // namespace
}  // namespace driver
