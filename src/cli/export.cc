#include <cerrno>

#include "cli/export_tree.h"
#include "cli/output_file.h"
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
Status write_root(const Context& ctx, const Fd& root, const std::string& output, const ExportOptions& options);

}  // namespace

int export_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "FILE", "write to a file (default: standard output)", output);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 1) return misuse(self, call.io, Error::invalid_argument("name one container"));
  if (is_terminal(output)) {
    return misuse(self, call.io,
                  Error::invalid_argument("the output is a terminal, and a tar is not for reading: use "
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
  ExportOptions options;
  options.on_skipped = [&](const std::string& path) { print_note(call.io, str(path, " is a socket, and left out")); };
  const Context ctx = Context::background().with_stop(signals.stop_token());
  auto written = write_root(ctx, *root, output, options);
  if (written) return kExitOk;
  const Error error = std::move(written).error().wrap(str("exporting ", wanted));
  if (stream_of(output) && error.sys_errno == EPIPE) return fail_lost_output(call.io, error);
  return fail_unless_stopped(call.io, signals, error, kExitRunFailure);
}

// Half a tar must not be taken for one: a file has its name when all of it is written.
Status write_root(const Context& ctx, const Fd& root, const std::string& output, const ExportOptions& options) {
  auto out = OutputFile::open(ctx, output);
  if (!out) return std::move(out).error().wrap("--output");
  TRY_VOID(export_tree(ctx, root, out->fd(), options));
  return out->finish();
}

}  // namespace
}  // namespace cli
