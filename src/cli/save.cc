#include "oci/save.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/file.h"
#include "cli/signals.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::string_view kFormats[] = {"docker-archive", "oci-archive", "oci-dir"};

struct SaveFlags {
  std::string output;
  std::string format = "docker-archive";
  bool several = false;
  bool quiet = false;
  void declare(Flags& flags);
};

/// What is being written, under a name beside its own until it is whole. Removed if it never is.
class Unfinished {
 public:
  explicit Unfinished(std::filesystem::path target)
      : target_(std::move(target)),
        path_(target_.parent_path() / str(base::kTempPrefix, target_.filename().native(), "-", ::getpid())) {}
  ~Unfinished();
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  const std::filesystem::path& path() const { return path_; }
  Status finish();

 private:
  const std::filesystem::path target_;
  const std::filesystem::path path_;
  bool finished_ = false;
};

Status check_save(const SaveFlags& given, const std::vector<std::string>& args);
Result<std::vector<std::string>> names_of(const Globals& globals, const std::vector<std::string>& args);
Status save(const Context& ctx, const Globals& globals, const SaveFlags& given, const std::vector<std::string>& args);
Status save_stream(const Context& ctx, oci::Store& store, const std::vector<std::string>& names, const SaveFlags& given,
                   int fd);
Status save_file(const Context& ctx, oci::Store& store, const std::vector<std::string>& names, const SaveFlags& given);
Status save_folder(const Context& ctx, oci::Store& store, const std::vector<std::string>& names,
                   const SaveFlags& given);
Result<std::filesystem::path> place_of(const std::string& output);

}  // namespace

int save_command(const Verb& self, Call& call) {
  Flags flags;
  SaveFlags given;
  given.declare(flags);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (auto valid = check_save(given, *args); !valid) return misuse(self, call.io, valid.error());
  const auto signals = SignalRelay::start();  // before any other thread
  if (!signals) return fail(call.io, signals.error(), kExitMisuse);
  const auto ctx = Context::background().with_stop((*signals)->stop_token());
  const auto saved = save(ctx, call.globals, given, *args);
  if (saved) return kExitOk;
  return fail_unless_stopped(call.io, **signals, Error(saved.error()).wrap("saving"), kExitMisuse);
}

namespace {

void SaveFlags::declare(Flags& flags) {
  flags.value("output", 'o', "FILE", "the archive, or the folder for oci-dir (default: standard output)", output);
  flags.value("format", 0, "FORMAT", "docker-archive (also an OCI layout), oci-archive or oci-dir", format);
  flags.toggle("multi-image-archive", 'm', "several images in one archive (always)", several);
  flags.toggle("quiet", 'q', "say nothing (always)", quiet);
}

Status check_save(const SaveFlags& given, const std::vector<std::string>& args) {
  if (args.empty()) return Error::invalid_argument("name the images to save");
  if (std::find(std::begin(kFormats), std::end(kFormats), given.format) == std::end(kFormats)) {
    return Error::invalid_argument(
        str("--format ", given.format, " is not an archive's format: use docker-archive, oci-archive or oci-dir"));
  }
  const bool is_stream = given.output.empty() || given.output == "-";
  if (is_stream && given.format == "oci-dir") return Error::invalid_argument("name the folder with --output");
  if (is_stream && ::isatty(STDOUT_FILENO) == 1) {
    return Error::invalid_argument("an archive is not for a terminal: name a file with --output, or redirect");
  }
  return {};
}

Status save(const Context& ctx, const Globals& globals, const SaveFlags& given, const std::vector<std::string>& args) {
  TRY(const auto names, names_of(globals, args));
  oci::Store store(globals.options().data_dir);
  if (given.format == "oci-dir") return save_folder(ctx, store, names, given);
  if (given.output.empty() || given.output == "-") return save_stream(ctx, store, names, given, STDOUT_FILENO);
  return save_file(ctx, store, names, given);
}

Result<std::vector<std::string>> names_of(const Globals& globals, const std::vector<std::string>& args) {
  oci::Images images({.data_dir = globals.options().data_dir, .helper = ""});
  std::vector<std::string> names;
  for (const std::string& arg : args) {
    TRY(std::string name, find_image(images, arg));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

Status save_stream(const Context& ctx, oci::Store& store, const std::vector<std::string>& names, const SaveFlags& given,
                   int fd) {
  oci::TarSink tar(ctx, fd);
  const auto format = given.format == "oci-archive" ? oci::ArchiveFormat::kOci : oci::ArchiveFormat::kDocker;
  TRY_VOID(oci::save_images(ctx, store, names, format, tar));
  return tar.finish();
}

// A device, a pipe or a socket is written into; a file is replaced when all of the new one is on disk.
Status save_file(const Context& ctx, oci::Store& store, const std::vector<std::string>& names, const SaveFlags& given) {
  TRY(const auto place, place_of(given.output));
  struct stat info {};
  if (::stat(place.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    if (S_ISDIR(info.st_mode)) return Error::invalid_argument(str(given.output, " is a folder: name a file in it"));
    TRY(const auto fd, base::open_file(place, O_WRONLY));
    return save_stream(ctx, store, names, given, fd.get());
  }
  Unfinished file(place);
  TRY(const auto fd, base::open_file(file.path(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY_VOID(save_stream(ctx, store, names, given, fd.get()));
  if (::fdatasync(fd.get()) != 0) return Error::from_errno(errno, str("writing ", given.output));
  return file.finish();
}

Status save_folder(const Context& ctx, oci::Store& store, const std::vector<std::string>& names,
                   const SaveFlags& given) {
  TRY(const auto place, place_of(given.output));
  std::error_code error;
  if (std::filesystem::exists(place, error) && !std::filesystem::is_empty(place, error)) {
    return Error::already_exists(str(given.output, " is there and not an empty folder: name another one"));
  }
  Unfinished folder(place);
  TRY_VOID(base::make_dirs(folder.path(), 0755));
  oci::FolderSink sink(ctx, folder.path());
  TRY_VOID(oci::save_images(ctx, store, names, oci::ArchiveFormat::kOci, sink));
  TRY_VOID(sink.finish());
  return folder.finish();
}

// Behind symbolic links, so that what they lead to is replaced and not they.
Result<std::filesystem::path> place_of(const std::string& output) {
  TRY(const std::string absolute, base::absolute_path(output));
  std::error_code error;
  const auto place = std::filesystem::weakly_canonical(absolute, error);
  if (error) return Error::from_errno(error.value(), output);
  return place;
}

Unfinished::~Unfinished() {
  if (finished_) return;
  if (auto removed = base::remove_tree(path_); !removed) return;  // its name says what it is
}

Status Unfinished::finish() {
  if (::rename(path_.c_str(), target_.c_str()) != 0) return Error::from_errno(errno, str("renaming ", path_.native()));
  finished_ = true;
  return base::sync_dir(target_.parent_path());
}

}  // namespace
}  // namespace cli
