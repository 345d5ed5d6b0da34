// Where the archives of `export` and `save` go: to a stream, or into a file that gets its name when it is whole.
//
// rule     What is unfinished has a name that nobody can guess, and is made anew: what a stranger has put into a folder
//          that is not ours alone is neither written into nor removed.
// threads  one at a time
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace cli {

/// Where symbolic links lead from `path`, absolute: the last one may lead to nothing. Whoever replaces what is there
/// leaves the links as they are.
///   errors  kNotFound the working directory was removed · by errno, ELOOP after 40 links
base::Result<std::filesystem::path> behind_links(const std::string& path);

/// A file or a folder that is being written, beside its target. The destructor removes what never was finished.
class Unfinished {
 public:
  enum class Kind { kFile, kFolder };
  /// For nobody but its owner until it is finished.
  ///   in      target: absolute, behind links
  ///   errors  by errno: nothing was made
  static base::Result<std::unique_ptr<Unfinished>> create(const std::filesystem::path& target, Kind kind);
  ~Unfinished();
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;

  int fd() const { return fd_.get(); }
  /// Gives it its name, durably, in place of the file or the empty folder that had it. A folder is for all to read.
  base::Status finish();

 private:
  Unfinished(base::Fd parent, std::string name, std::string temp_name, Kind kind);

  const base::Fd parent_;
  const std::string name_;
  const std::string temp_name_;
  const Kind kind_;
  base::Fd fd_;
  bool is_ours_ = false;  // made, and without its name as yet
};

/// The descriptor, which is not ours to close, if `output` names one: "" and "-" (standard output), /dev/stdout,
/// /dev/stderr, /dev/fd/N.
std::optional<int> stream_of(const std::string& output);
/// True if that is a terminal, for which an archive is not.
bool is_terminal(const std::string& output);

/// What `--output` names.
class OutputFile {
 public:
  /// A stream is used as it is; a FIFO or a device that is there is opened; anything else is a file to be replaced.
  ///   blocks  until a FIFO has a reader, or ctx ends
  ///   errors  kInvalidArgument a folder, a socket, or a descriptor that nobody gave us · by errno
  static base::Result<OutputFile> open(const base::Context& ctx, const std::string& output);

  int fd() const { return file_ ? file_->fd() : opened_ ? opened_.get() : stream_; }
  /// All was written: only now a file has its name.
  base::Status finish() { return file_ ? file_->finish() : base::Status(); }

 private:
  std::unique_ptr<Unfinished> file_;
  base::Fd opened_;
  int stream_ = -1;
};

}  // namespace cli
