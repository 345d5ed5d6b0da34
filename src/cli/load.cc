#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/progress.h"
#include "cli/verb.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

Result<base::Fd> open_archive(const std::string& path);

}  // namespace

int load_command(const Verb& self, Call& call) {
  Flags flags;
  std::string input;
  std::string output;
  flags.value("input", 'i', "FILE", "the archive, or the folder of an OCI layout (default: standard input)", input);
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  if (args->size() > 1) return misuse(self, call.io, Error::invalid_argument("name at most one image"));
  if (input.empty() && ::isatty(STDIN_FILENO) == 1) {
    return misuse(self, call.io, Error::invalid_argument("give an archive with --input, or on standard input"));
  }
  const auto images = open_images(call.globals);
  if (!images) return fail(call.io, images.error(), kExitMisuse);
  const auto archive = open_archive(input);
  if (!archive) return fail(call.io, archive.error(), kExitMisuse);

  const auto loaded = (*images)->load(base::Context::background(), *archive, args->empty() ? "" : args->front(), {});
  if (!loaded)
    return fail(call.io, Error(loaded.error()).wrap(input.empty() ? "loading" : str("loading ", input)), kExitMisuse);
  if (output == "json") {
    base::Json out = {{"references", loaded->references}};
    if (!loaded->left_out.empty()) out["left_out"] = loaded->left_out;
    print_json(call.io, out);
  } else {
    for (const std::string& reference : loaded->references) print_line(call.io, reference);
  }
  if (loaded->left_out.empty()) return kExitOk;
  std::string all;
  for (const std::string& text : loaded->left_out) all += str(all.empty() ? "" : "; ", text);
  return fail(call.io, Error::failed_precondition(str("not loaded: ", all)));
}

namespace {

Result<base::Fd> open_archive(const std::string& path) {
  if (path.empty() || path == "-") return base::Fd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  return base::open_file(path, O_RDONLY);
}

}  // namespace
}  // namespace cli
