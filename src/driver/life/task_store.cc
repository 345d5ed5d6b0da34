#include "driver/life/task_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/dir.h"
#include "base/fault.h"
#include "base/file.h"
#include "driver/host/programs.h"

namespace driver {

namespace {
using base::Error;
using base::Result;
using base::Status;
using base::str;

constexpr char kRecordName[] = "record.json";
constexpr char kTrashName[] = ".trash";  // in the folder of tasks, so that one rename gets there
constexpr int kTrashNamesMax = 1000;     // of one container, whose earlier ones could not be removed

std::string tasks_dir(const Roots& roots) {
  return roots.data_dir + "/tasks";
}

Result<std::vector<std::string>> names_in(const std::string& dir);
Status empty_folder(const std::string& dir, std::string_view prefix);
Status remove_trashed(const std::string& trash, const std::string& target);
}  // namespace

TaskStore::TaskStore(Roots roots, std::vector<std::string> programs, ReadFile read)
    : roots_(std::move(roots)),
      programs_(std::move(programs)),
      read_(read ? std::move(read) : ReadFile(base::read_file_at)) {}

TaskOnDisk TaskStore::find(const std::string& container_id) const {
  const std::string dir = str(tasks_dir(roots_), "/", container_id);
  auto folder = base::open_file(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (folder) return read(folder->get(), container_id);
  if (folder.error().code == base::Code::kNotFound) return without_record(container_id, dir);
  return Unreadable{std::move(folder).error()};
}

Result<std::vector<TaskFolder>> TaskStore::list() const {
  auto names = names_in(tasks_dir(roots_));
  if (!names) return std::move(names).error().wrap("listing the tasks of this node");
  std::vector<TaskFolder> all;
  for (std::string& name : *names) {
    if (!is_container_id(name)) continue;
    TaskOnDisk task = find(name);
    all.push_back({std::move(name), std::move(task)});
  }
  return all;
}

Status TaskStore::write(const Record& record) {
  TRY(const std::string text, encode_record(record));
  auto written = base::write_file_atomic(str(record.names.task_dir, "/", kRecordName), text, 0600, base::Durable::kNo);
  if (!written) return std::move(written).error().wrap("writing the task's record");
  return {};
}

Status TaskStore::discard(const std::string& container_id) const {
  CHECK(is_container_id(container_id));
  const std::string dir = str(tasks_dir(roots_), "/", container_id);
  const std::string trash = str(tasks_dir(roots_), "/", kTrashName);
  std::string target = str(trash, "/", container_id);
  for (int n = 1; ::renameat2(AT_FDCWD, dir.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) != 0; ++n) {
    const int error = errno;
    if (error == ENOENT && ::access(dir.c_str(), F_OK) != 0 && errno == ENOENT) return discard_trashed(container_id);
    if ((error != EEXIST && error != ENOENT) || n > kTrashNamesMax) {
      return Error::from_errno(error, str("moving ", dir, " to the trash"));
    }
    // There is no trash while there is nothing in it.
    if (error == ENOENT) TRY_VOID(base::make_dirs(trash, 0700));
    // An earlier folder of that name that could not be removed must not keep this one.
    if (error == EEXIST) target = str(trash, "/", container_id, ".", n);
  }
  FAULT_POINT("teardown.trashed");
  return remove_trashed(trash, target);
}

Status TaskStore::discard_trashed(const std::string& container_id) const {
  CHECK(is_container_id(container_id));
  const std::string trash = str(tasks_dir(roots_), "/", kTrashName);
  return remove_trashed(trash, str(trash, "/", container_id));
}

Status TaskStore::discard_unwritten(const std::string& container_id, std::chrono::seconds age) const {
  struct stat info {};
  const std::string dir = str(tasks_dir(roots_), "/", container_id);
  if (::lstat(dir.c_str(), &info) != 0) {
    return errno == ENOENT ? Status() : Status(Error::from_errno(errno, dir));
  }
  const auto touched = std::chrono::system_clock::from_time_t(info.st_mtim.tv_sec);
  if (std::chrono::system_clock::now() - touched < age) return {};
  return discard(container_id);
}

Status TaskStore::empty_trash() const {
  const std::string trash = str(tasks_dir(roots_), "/", kTrashName);
  const Status ours = empty_folder(trash, "");
  ::rmdir(trash.c_str());
  const Status older = empty_folder(roots_.data_dir + "/trash", "task-");  // where earlier versions had it
  return ours ? older : ours;
}

oci::GcUses TaskStore::images_in_use() const {
  oci::GcUses uses;
  auto folders = list();
  if (!folders) {
    uses.unknown.push_back(std::move(folders).error().message);
    return uses;
  }
  for (const TaskFolder& folder : *folders) {
    if (const auto* unreadable = std::get_if<Unreadable>(&folder.task)) {
      uses.unknown.push_back(
          str("what container ", folder.container_id, " runs on is not known: ", unreadable->why.message));
    } else if (const auto* record = std::get_if<Record>(&folder.task); record && !record->layer_dirs.empty()) {
      uses.known.push_back({{record->layer_dirs.begin(), record->layer_dirs.end()},
                            record->image_digest,
                            str("container ", folder.container_id)});
    }
  }
  return uses;
}

TaskOnDisk TaskStore::read(int folder_fd, const std::string& container_id) const {
  auto text = read_(folder_fd, kRecordName, kRecordBytesMax);
  const std::string path = str(tasks_dir(roots_), "/", container_id, "/", kRecordName);
  if (!text && text.error().code == base::Code::kNotFound) return without_record(container_id, path);
  if (!text) return Unreadable{std::move(text).error().wrap(str("reading ", path))};
  // A rename that a power cut left without the file's content.
  if (text->empty()) return without_record(container_id, path);
  auto record = decode_record(*text, container_id, roots_);
  if (!record) return Unreadable{std::move(record).error().wrap(str("reading ", path))};
  for (const std::string* program : {&record->shim_binary, &record->runtime_binary}) {
    if (auto safe = check_program(*program); !safe) return Unreadable{std::move(safe).error().wrap(path)};
  }
  return *std::move(record);
}

// A start writes its record before it makes anything else, and a teardown removes it after all else: where a bundle is,
// there was one.
TaskOnDisk TaskStore::without_record(const std::string& container_id, const std::string& what) const {
  const std::string bundle = names_of(container_id, roots_).bundle_dir;
  struct stat info {};
  if (::lstat(bundle.c_str(), &info) == 0) {
    return Unreadable{Error::data_loss(str(what, " is missing or empty, and ", bundle, " is there"))};
  }
  if (errno == ENOENT || errno == ENOTDIR) return NotWritten{};
  return Unreadable{Error::from_errno(errno, bundle)};
}

Status TaskStore::check_program(const std::string& program) const {
  if (std::find(programs_.begin(), programs_.end(), program) != programs_.end()) return {};
  if (program.starts_with(roots_.data_dir + "/")) {
    return Error::failed_precondition(str("it was started with ", program, ", which lies in data_dir and is not run"));
  }
  auto writable = writable_by_others(program);
  if (!writable && writable.error().code == base::Code::kNotFound) return {};  // removed: nothing of it can run
  if (!writable) return std::move(writable).error();
  if (writable->empty()) return {};
  return Error::failed_precondition(str("it was started with ", program, ", and ", *writable,
                                        " can be written to by others than root, so that it is not run: chown "
                                        "root:root and chmod go-w it"));
}

TaskStore task_store_of(const PluginOptions& options) {
  std::vector<std::string> programs;
  const auto add = [&programs](const std::string& name) {
    if (auto found = find_program(name, "")) programs.push_back(*std::move(found));
  };
  add(options.shim);
  add(options.runtime_binary);
  for (const auto& [name, program] : options.runtimes) add(program);
  return TaskStore({options.data_dir, options.state_dir}, std::move(programs));
}

namespace {

Result<std::vector<std::string>> names_in(const std::string& dir) {
  auto open = base::open_file(dir, O_RDONLY | O_DIRECTORY);
  if (open) return base::list_dir(open->get(), dir);
  if (open.error().code == base::Code::kNotFound) return std::vector<std::string>();
  return std::move(open).error();
}

// The trash goes with the last that was in it.
Status remove_trashed(const std::string& trash, const std::string& target) {
  Status removed = base::remove_tree(target);
  ::rmdir(trash.c_str());
  return removed;
}

Status empty_folder(const std::string& dir, std::string_view prefix) {
  TRY(const auto names, names_in(dir));
  Status first;
  for (const std::string& name : names) {
    if (!name.starts_with(prefix)) continue;
    Status removed = base::remove_tree(str(dir, "/", name));
    if (!removed && first) first = std::move(removed);
  }
  return first;
}

}  // namespace
}  // namespace driver
