#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/export_tree.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

int export_root(Call& call, SignalRelay& signals, const FoundTask& found, const std::string& wanted,
                const std::string& output);
void remove_unfinished(int fd, const std::string& path);

}  // namespace

int export_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "FILE", "write to a file (default: standard output)", output);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 1) return misuse(self, call.io, Error::invalid_argument("name one container"));
  if (output.empty() && ::isatty(STDOUT_FILENO) == 1) {
    return misuse(self, call.io,
                  Error::invalid_argument("standard output is a terminal, and a tar is not for reading: use "
                                          "--output FILE, or redirect it"));
  }
  const auto signals = SignalRelay::start();
  if (!signals) return fail(call.io, signals.error(), kExitRunFailure);
  const auto found = find_container(call.globals, args->front());
  if (!found) return fail(call.io, found.error(), kExitRunFailure);
  return export_root(call, **signals, *found, args->front(), output);
}

namespace {

int export_root(Call& call, SignalRelay& signals, const FoundTask& found, const std::string& wanted,
                const std::string& output) {
  const Container container{found.task, found.definition, found.is_created};
  auto root = open_rootfs(*found.session->driver.options(), container);
  if (!root) return fail(call.io, root.error(), kExitRunFailure);
  Fd file;
  if (!output.empty()) {
    auto opened = base::open_file(output, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY, 0600);
    if (!opened) return fail(call.io, std::move(opened).error().wrap("--output"), kExitRunFailure);
    file = *std::move(opened);
  }
  ExportOptions options;
  options.on_skipped = [&](const std::string& path) { print_note(call.io, str(path, " is a socket, and left out")); };
  const int out = output.empty() ? STDOUT_FILENO : file.get();
  const Context ctx = Context::background().with_stop(signals.stop_token());
  auto written = export_tree(ctx, *root, out, options);
  if (written) return kExitOk;
  if (!output.empty()) remove_unfinished(out, output);
  const Error error = std::move(written).error().wrap(str("exporting ", wanted));
  if (output.empty() && error.sys_errno == EPIPE) return fail_lost_output(call.io, error);
  return fail_unless_stopped(call.io, signals, error, kExitRunFailure);
}

// Half a tar must not be taken for one. A pipe or a device is not ours to remove.
void remove_unfinished(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) ::unlink(path.c_str());
}

}  // namespace
}  // namespace cli
