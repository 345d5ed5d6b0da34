#include "base/json.h"
#include "cli/verb.h"
#include "driver/image/collection.h"
#include "driver/life/task_store.h"
#include "driver/values/words.h"
#include "oci/images.h"
#include "oci/reference.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

constexpr std::chrono::minutes kCollectTimeout{10};

void print(Io& io, const oci::GcReport& report, bool dry_run);
base::Json json_of(const oci::GcReport& report);

}  // namespace

int gc_command(const Verb& self, Call& call) {
  Flags flags;
  oci::GcRequest request = driver::gc_request(call.globals.options().image_gc);
  std::string output;
  std::string max_size;
  flags.toggle("dry-run", 'n', "show what would be removed, and why the rest stays", request.dry_run);
  flags.toggle("all", 'a', "remove everything that no container uses", request.all);
  flags.value("max-size", 0, "SIZE",
              "remove least recently used images until the store has at most this size, such as 20GiB", max_size);
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  if (!max_size.empty()) {
    const auto bytes = driver::parse_size(max_size);
    if (!bytes) return misuse(self, call.io, Error(bytes.error()).wrap("--max-size"));
    request.policy.store_bytes_max = *bytes;
  }
  const auto report = collect_images(call.globals, request);
  if (!report) return fail(call.io, report.error());
  if (output == "json") {
    print_json(call.io, json_of(*report));
  } else {
    print(call.io, *report, request.dry_run);
  }
  return tell_problems(call.io, *report);
}

int rmi_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the images to remove"));
  oci::GcRequest request;
  oci::Images images({.data_dir = call.globals.options().data_dir, .helper = ""});
  for (const std::string& arg : *args) {
    // What is not here by that name is said below, beside what became of the others.
    const auto found = find_image(images, arg, OfSeveralNames::kRefused);
    if (!found && found.error().code == base::Code::kInvalidArgument) return misuse(self, call.io, found.error());
    const auto reference = oci::Reference::parse(found ? *found : arg);
    if (!reference) return misuse(self, call.io, reference.error());
    request.references.insert(reference->canonical());
  }
  const auto report = collect_images(call.globals, request);
  if (!report) return fail(call.io, report.error());
  exit_code = tell_problems(call.io, *report);
  for (const std::string& reference : request.references) {
    const oci::GcDecision* decision = nullptr;
    for (const oci::GcDecision& image : report->images) {
      if (image.reference == reference) decision = &image;
    }
    if (decision != nullptr && decision->removed) {
      print_line(call.io, reference);
    } else if (decision == nullptr) {
      exit_code = fail(call.io, Error::not_found(str("image ", reference, " is not on this node")));
    } else {
      exit_code =
          fail(call.io, Error::failed_precondition(str("image ", reference, " was not removed: ", decision->reason)));
    }
  }
  return exit_code;
}

Result<oci::GcReport> collect_images(const Globals& globals, const oci::GcRequest& request) {
  const auto options = globals.options();
  oci::Images images({.data_dir = options.data_dir, .helper = "", .uses = [options] {
                        return driver::task_store_of(options).images_in_use();
                      }});
  auto report = images.collect(base::Context::background().with_timeout(kCollectTimeout), request);
  if (!report && report.error().code == base::Code::kNotFound) return oci::GcReport();  // there is no store
  return report;
}

int tell_problems(Io& io, const oci::GcReport& report) {
  for (const std::string& problem : report.problems) print_note(io, problem);
  return report.problems.empty() ? kExitOk : kExitFailure;
}

namespace {

void print(Io& io, const oci::GcReport& report, bool dry_run) {
  std::vector<std::vector<std::string>> rows = {{"IMAGE", "FREES", "", "REASON"}};
  for (const oci::GcDecision& image : report.images) {
    const char* fate = !image.removed ? "stays" : dry_run ? "would go" : "removed";
    rows.push_back({image.reference, show_size(image.bytes), fate, image.reason});
  }
  if (rows.size() > 1) {
    print_rows(io, rows);
    print_line(io, "");
  }
  if (report.garbage_items > 0) {
    print_line(
        io, str(report.garbage_items, " blobs and layers that belong to no image: ", show_size(report.garbage_bytes)));
  }
  print_line(io, str(dry_run ? "would free " : "freed ", show_size(report.freed_bytes), ", ",
                     show_size(report.store_bytes), dry_run ? " would be left" : " are left"));
}

base::Json json_of(const oci::GcReport& report) {
  base::Json images = base::Json::array();
  for (const oci::GcDecision& image : report.images) {
    images.push_back({{"reference", image.reference},
                      {"digest", image.manifest_digest},
                      {"bytes", image.bytes},
                      {"removed", image.removed},
                      {"reason", image.reason}});
  }
  return {{"images", std::move(images)},           {"garbage_items", report.garbage_items},
          {"garbage_bytes", report.garbage_bytes}, {"freed_bytes", report.freed_bytes},
          {"store_bytes", report.store_bytes},     {"problems", report.problems}};
}

}  // namespace
}  // namespace cli
