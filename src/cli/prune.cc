// image prune: `gc` by hand, in the form of docker and podman.
#include <unistd.h>

#include "base/json.h"
#include "cli/verb.h"

namespace cli {

using base::Error;
using base::str;

namespace {

constexpr int kNoPressurePercent = 100;  // a disk is never fuller

bool is_meant(Io& io, bool all);

}  // namespace

int image_prune_command(const Verb& self, Call& call) {
  Flags flags;
  bool all = false;
  bool force = false;
  flags.toggle("all", 'a', "also all images that no container uses, but those that are pinned", all);
  flags.toggle("force", 'f', "do not ask", force);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (!force && ::isatty(STDIN_FILENO) != 1) {
    return misuse(self, call.io, Error::invalid_argument("there is no terminal to ask on: give --force"));
  }
  if (!force && !is_meant(call.io, all)) return kExitOk;
  oci::GcRequest request;
  request.all = all;
  request.policy.high_percent = kNoPressurePercent;
  const auto report = collect_images(call.globals, request);
  if (!report) return fail(call.io, report.error(), kExitMisuse);
  for (const oci::GcDecision& image : report->images) {
    if (image.removed) print_line(call.io, image.reference);
  }
  print_line(call.io, str("Total reclaimed space: ", show_size(report->freed_bytes)));
  return tell_problems(call.io, *report);
}

namespace {

bool is_meant(Io& io, bool all) {
  io.err << (all ? "This removes all images that no container uses." : "This removes what belongs to no image.")
         << " Go on? [y/N] " << std::flush;
  char answer[16] = {};
  const ssize_t size = ::read(STDIN_FILENO, answer, sizeof answer);
  return size > 0 && (answer[0] == 'y' || answer[0] == 'Y');
}

}  // namespace
}  // namespace cli
