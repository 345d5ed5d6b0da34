// The tasks of a node on disk: one folder each, with its record and its writable layer, and the trash for both.
//
// disk     <data_dir>/tasks/<container id>/record.json (docs/state.md); upper/ and work/ of its overlay lie beside it.
//          The image helper never sees <data_dir>/tasks (docs/security.md).
// rule     A record that cannot be read is in use. Whoever removes, kills, collects or replaces something asks here,
// and
//          keeps away from a task that is Unreadable: only a person may remove it (`rm --force`).
// crash    Not fsynced: a killed process loses nothing that was written, and after a power cut everything that a record
//          speaks of is gone but the folder it lies in.
// threads  any; writers of one record are serialised by its Task
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "driver/life/record.h"
#include "oci/gc.h"

namespace driver {

/// No record, and nothing that one would speak of: the start that made the folder, if there is one, has not come to its
/// first side effect.
struct NotWritten {};

/// There is something that could not be read, or is not believed. In use, untouched.
struct Unreadable {
  base::Error why;  ///< one sentence that names the file
};

using TaskOnDisk = std::variant<Record, NotWritten, Unreadable>;

struct TaskFolder {
  std::string container_id;
  TaskOnDisk task;
};

class TaskStore {
 public:
  /// Reads a whole file beneath an open folder; replaced by tests that let it fail.
  using ReadFile = std::function<base::Result<std::string>(int folder_fd, const std::string& name, std::size_t max)>;

  /// `programs` are those that the node's configuration names: a record that has another one, which somebody else than
  /// root could replace, is not believed.
  explicit TaskStore(Roots roots, std::vector<std::string> programs = {}, ReadFile read = {});

  const Roots& roots() const { return roots_; }

  TaskOnDisk find(const std::string& container_id) const;

  /// Every task, by container id. What lies there under a name that is no container id is not ours, and left alone.
  ///   errors  by errno: the folder of tasks cannot be listed, so that nothing is known of any. Missing: there are none
  base::Result<std::vector<TaskFolder>> list() const;

  /// Replaces the record in its folder as a whole.
  ///   errors  as encode_record · by errno; kNotFound: the folder is gone, and with it the task
  static base::Status write(const Record& record);

  /// Moves a folder to the trash, record and writable layer in one rename, and removes it there. Absent = OK.
  ///   errors  by errno; what could not be removed stays in the trash for empty_trash()
  base::Status discard(const std::string& container_id) const;

  /// Removes what discard() had moved to the trash before it was cut off. Absent = OK.
  base::Status discard_trashed(const std::string& container_id) const;

  /// Removes a folder without a record, if nobody has touched it for `age`: a start may be about to write one.
  base::Status discard_unwritten(const std::string& container_id, std::chrono::seconds age) const;

  /// Removes what is in the trash, all of it that can be removed.
  ///   errors  the first
  base::Status empty_trash() const;

  /// What tasks run on, by their records: those of this process, of another plugin, of the command line.
  oci::GcUses images_in_use() const;

 private:
  TaskOnDisk read(int folder_fd, const std::string& container_id) const;
  TaskOnDisk without_record(const std::string& container_id, const std::string& what) const;
  base::Status check_program(const std::string& program) const;

  Roots roots_;
  std::vector<std::string> programs_;
  ReadFile read_;
};

/// The store of the tasks that a node of this configuration has.
TaskStore task_store_of(const PluginOptions& options);

}  // namespace driver
