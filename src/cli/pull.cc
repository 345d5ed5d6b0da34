#include "base/json.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/verb.h"

namespace cli {

using base::str;

namespace {

base::Result<oci::Image> pull_image(const Globals& globals, const std::string& reference, const std::string& platform,
                                    Progress& progress);

}  // namespace

int pull_command(const Verb& self, Call& call) {
  Flags flags;
  std::string platform;
  std::string output;
  flags.value("platform", 0, "OS/ARCH", "platform of the image, if not this host's", platform);
  flags.value("output", 'o', "json", "print JSON lines: progress, then the result", output);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  if (args->size() != 1) {
    return misuse(self, call.io,
                  base::Error::invalid_argument(args->empty() ? "name the image to pull" : "name one image at a time"));
  }
  const bool json = output == "json";
  Progress progress(call.io, json                      ? ProgressStyle::kJsonLines
                             : call.io.err_is_terminal ? ProgressStyle::kBar
                                                       : ProgressStyle::kNone);
  const auto image = pull_image(call.globals, args->front(), platform, progress);
  progress.finish();
  if (!image) {
    if (json) call.io.out << base::dump_json({{"event", "error"}, {"message", image.error().message}}) << std::endl;
    return fail(call.io, image.error());
  }
  if (json) {
    call.io.out << base::dump_json({{"event", "done"},
                                    {"reference", image->reference},
                                    {"digest", image->manifest_digest.text()},
                                    {"size_bytes", image->size_bytes},
                                    {"layers", image->layer_dirs.size()}})
                << std::endl;
  } else {
    call.io.out << image->reference << " " << image->manifest_digest.text() << " (" << show_size(image->size_bytes)
                << ", " << image->layer_dirs.size() << (image->layer_dirs.size() == 1 ? " layer)\n" : " layers)\n");
  }
  return kExitOk;
}

namespace {

base::Result<oci::Image> pull_image(const Globals& globals, const std::string& reference, const std::string& platform,
                                    Progress& progress) {
  SignalRelay signals;  // before any thread
  const auto ctx = base::Context::background().with_stop(signals.stop_token());
  TRY(const auto images, open_images(globals));
  TRY(auto request, pull_request(ctx, globals, reference));
  request.platform = platform;
  request.on_progress = [&](const oci::PullProgress& now) { progress.show(now); };
  return images->pull(ctx, request);
}

}  // namespace
}  // namespace cli
