#include "base/json.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/verb.h"

namespace cli {

using base::str;

namespace {

base::Result<oci::Image> pull_image(Call& call, SignalRelay& signals, const std::string& reference,
                                    const std::string& platform, Progress& progress);

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
  const auto signals = SignalRelay::start();  // before any other thread
  if (!signals) return fail(call.io, signals.error());
  const bool json = output == "json";
  Progress progress(call.io, json                      ? ProgressStyle::kJsonLines
                             : call.io.err_is_terminal ? ProgressStyle::kBar
                                                       : ProgressStyle::kNone);
  const auto image = pull_image(call, **signals, args->front(), platform, progress);
  progress.finish();
  if (!call.io.out) return kExitFailure;  // main() says why
  if (!image) {
    if (json) print_json_line(call.io, {{"event", "error"}, {"message", image.error().message}});
    return fail_unless_stopped(call.io, **signals, image.error());
  }
  if (json) {
    print_json_line(call.io, {{"event", "done"},
                              {"reference", image->reference},
                              {"digest", image->manifest_digest.text()},
                              {"size_bytes", image->size_bytes},
                              {"layers", image->layer_dirs.size()}});
  } else {
    print_line(call.io, str(image->reference, " ", image->manifest_digest.text(), " (", show_size(image->size_bytes),
                            ", ", image->layer_dirs.size(), image->layer_dirs.size() == 1 ? " layer)" : " layers)"));
  }
  return kExitOk;
}

namespace {

base::Result<oci::Image> pull_image(Call& call, SignalRelay& signals, const std::string& reference,
                                    const std::string& platform, Progress& progress) {
  std::stop_source stop;
  const std::stop_callback on_signal(signals.stop_token(), [&stop] { stop.request_stop(); });
  const auto ctx = base::Context::background().with_stop(stop.get_token());
  TRY(const auto images, open_images(call.globals));
  TRY(auto request, pull_request(ctx, call.globals, reference));
  request.platform = platform;
  request.on_progress = [&](const oci::PullProgress& now) {
    progress.show(now);
    if (!call.io.out) stop.request_stop();  // nobody reads the lines any more
  };
  return images->pull(ctx, request);
}

}  // namespace
}  // namespace cli
