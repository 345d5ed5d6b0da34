#include "oci/save.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/file.h"
#include "cli/output_file.h"
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

Status check_save(const SaveFlags& given, const std::vector<std::string>& args);
Result<std::vector<std::string>> names_of(const Globals& globals, const std::vector<std::string>& args);
Status save(const Context& ctx, const Globals& globals, const SaveFlags& given, const std::vector<std::string>& args);
Status save_archive(const Context& ctx, oci::Store& store, const std::vector<std::string>& names,
                    const SaveFlags& given);
Status save_folder(const Context& ctx, oci::Store& store, const std::vector<std::string>& names,
                   const SaveFlags& given);
Status check_free(const std::string& output, const std::filesystem::path& place);

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
  if (given.format == "oci-dir" && stream_of(given.output)) {
    return Error::invalid_argument("name the folder with --output");
  }
  if (is_terminal(given.output)) {
    return Error::invalid_argument("an archive is not for a terminal: name a file with --output, or redirect");
  }
  return {};
}

Status save(const Context& ctx, const Globals& globals, const SaveFlags& given, const std::vector<std::string>& args) {
  TRY(const auto names, names_of(globals, args));
  oci::Store store(globals.options().data_dir);
  if (given.format == "oci-dir") return save_folder(ctx, store, names, given);
  return save_archive(ctx, store, names, given);
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

Status save_archive(const Context& ctx, oci::Store& store, const std::vector<std::string>& names,
                    const SaveFlags& given) {
  TRY(auto out, OutputFile::open(ctx, given.output));
  oci::TarSink tar(ctx, out.fd());
  const auto format = given.format == "oci-archive" ? oci::ArchiveFormat::kOci : oci::ArchiveFormat::kDocker;
  TRY_VOID(oci::save_images(ctx, store, names, format, tar));
  TRY_VOID(tar.finish());
  return out.finish();
}

Status save_folder(const Context& ctx, oci::Store& store, const std::vector<std::string>& names,
                   const SaveFlags& given) {
  TRY(const auto place, behind_links(given.output));
  TRY_VOID(check_free(given.output, place));
  TRY_VOID(base::make_dirs(place.parent_path(), 0755));
  TRY(const auto folder, Unfinished::create(place, Unfinished::Kind::kFolder));
  oci::FolderSink sink(ctx, folder->fd());
  TRY_VOID(oci::save_images(ctx, store, names, oci::ArchiveFormat::kOci, sink));
  TRY_VOID(sink.finish());
  return folder->finish();
}

Status check_free(const std::string& output, const std::filesystem::path& place) {
  std::error_code error;
  const std::filesystem::directory_iterator entries(place, error);
  if (error.value() == ENOENT || (!error && entries == std::filesystem::directory_iterator())) return {};
  if (error && error.value() != ENOTDIR) return Error::from_errno(error.value(), output);
  return Error::already_exists(str(output, " is there and not an empty folder: name another one"));
}

}  // namespace
}  // namespace cli
