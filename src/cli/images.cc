#include "oci/images.h"

#include "base/json.h"
#include "cli/verb.h"
#include "driver/host/programs.h"

namespace cli {

namespace {

constexpr std::size_t kShortDigestHex = 12;

std::string pulled_text(std::int64_t pulled_at_unix) {
  if (pulled_at_unix == 0) return "-";
  const auto age = std::chrono::system_clock::now().time_since_epoch() - std::chrono::seconds(pulled_at_unix);
  return show_age(std::chrono::duration_cast<std::chrono::seconds>(age)) + " ago";
}

}  // namespace

int images_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());

  oci::Images images({.data_dir = call.globals.options().data_dir, .helper = ""});  // listing needs no helper
  const auto list = images.list();
  if (!list) return fail(call.io, list.error());
  if (output == "json") {
    base::Json all = base::Json::array();
    for (const oci::ImageSummary& image : *list) {
      all.push_back({{"reference", image.reference},
                     {"digest", image.manifest_digest.text()},
                     {"resolved_digest", image.resolved_digest.text()},
                     {"size_bytes", image.size_bytes},
                     {"architecture", image.architecture},
                     {"pulled_at", json_time(image.pulled_at_unix)}});
      if (image.verdict) all.back()["verified"] = image.verdict->word;
      if (!image.problem.empty()) all.back()["problem"] = image.problem;
    }
    print_json(call.io, all);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows = {{"IMAGE", "DIGEST", "SIZE", "ARCH", "PULLED"}};
  for (const oci::ImageSummary& image : *list) {
    rows.push_back({image.reference, std::string(image.manifest_digest.hex().substr(0, kShortDigestHex)),
                    image.problem.empty() ? show_size(image.size_bytes) : "-", image.architecture,
                    pulled_text(image.pulled_at_unix)});
  }
  print_rows(call.io, rows);
  for (const oci::ImageSummary& image : *list) {
    if (!image.problem.empty()) print_note(call.io, base::str("image ", image.reference, ": ", image.problem));
  }
  return kExitOk;
}

}  // namespace cli
