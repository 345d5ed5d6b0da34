#include "oci/fsck.h"

#include "base/json.h"
#include "cli/signals.h"
#include "cli/verb.h"
#include "driver/life/task_store.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

/// An image that was damaged, and how fetching it anew went.
struct Refetched {
  std::string reference;
  std::string error;  ///< "" = it is here again
};

Result<oci::FsckReport> check(const Call& call, const base::Context& ctx, bool repair);
Result<std::vector<Refetched>> refetch(const Call& call, const base::Context& ctx, const oci::FsckReport& report);
void print(Io& io, const oci::FsckReport& report, bool repair);
base::Json json_of(const oci::FsckReport& report, const std::vector<Refetched>& refetched);

}  // namespace

int fsck_command(const Verb& self, Call& call) {
  Flags flags;
  bool repair = false;
  bool pull = false;
  std::string output;
  flags.toggle("repair", 'r', "remove what is damaged, so that the next use pulls it; never what a container runs on",
               repair);
  flags.toggle("pull", 0, "with --repair: pull the damaged images at once, by the reference that they have here", pull);
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  if (pull && !repair) return misuse(self, call.io, Error::invalid_argument("--pull needs --repair"));

  const auto signals = SignalRelay::start();  // before any other thread
  if (!signals) return fail(call.io, signals.error());
  const auto ctx = base::Context::background().with_stop((*signals)->stop_token());
  const auto report = check(call, ctx, repair);
  if (!report) return fail_unless_stopped(call.io, **signals, report.error());
  bool good = report->clean();
  std::vector<Refetched> refetched;
  if (pull) {
    auto fetched = refetch(call, ctx, *report);
    if (!fetched) return fail_unless_stopped(call.io, **signals, fetched.error());
    refetched = *std::move(fetched);
    for (const Refetched& image : refetched) good = good && image.error.empty();
  }
  if (output == "json") {
    print_json(call.io, json_of(*report, refetched));
  } else {
    print(call.io, *report, repair);
    for (const Refetched& image : refetched) {
      print_line(call.io, str(image.reference, ": ", image.error.empty() ? "pulled again" : image.error));
    }
  }
  return good ? kExitOk : kExitFailure;
}

namespace {

Result<oci::FsckReport> check(const Call& call, const base::Context& ctx, bool repair) {
  const auto options = call.globals.options();
  oci::Store store(options.data_dir);
  oci::FsckRequest request;
  request.repair = repair;
  auto report =
      oci::check_store(ctx, store, request, [&options] { return driver::task_store_of(options).images_in_use(); });
  if (!report && report.error().code == base::Code::kNotFound) return oci::FsckReport();  // nothing was pulled yet
  return report;
}

Result<std::vector<Refetched>> refetch(const Call& call, const base::Context& ctx, const oci::FsckReport& report) {
  std::set<std::string> references;
  for (const oci::FsckFinding& finding : report.findings) {
    if (finding.removed) references.insert(finding.images.begin(), finding.images.end());
  }
  std::vector<Refetched> out;
  if (references.empty()) return out;
  TRY(const auto images, open_images(call.globals));
  for (const std::string& reference : references) {
    const auto request = pull_request(ctx, call.globals, reference);
    const auto pulled = request ? images->pull(ctx, *request) : Result<oci::Image>(request.error());
    out.push_back({reference, pulled ? "" : pulled.error().message});
  }
  return out;
}

void print(Io& io, const oci::FsckReport& report, bool repair) {
  std::vector<std::vector<std::string>> rows = {{"PATH", "PROBLEM", "IMAGES", repair ? "DONE" : ""}};
  for (const oci::FsckFinding& finding : report.findings) {
    std::string images;
    for (const std::string& reference : finding.images) images += str(images.empty() ? "" : ", ", reference);
    const std::string done = finding.removed ? "removed" : finding.stays;
    rows.push_back({finding.path, finding.problem, images.empty() ? "-" : images, done});
  }
  if (rows.size() > 1) {
    print_rows(io, rows);
    print_line(io, "");
  }
  print_line(
      io, str("checked ", report.images, " images, ", report.blobs, " blobs (", show_size(report.blob_bytes), "), ",
              report.layers, " unpacked layers",
              report.layers_without_seal > 0 ? str(", of which ", report.layers_without_seal, " have no seal to check")
                                             : "",
              ": ", report.findings.size(), report.findings.size() == 1 ? " problem" : " problems",
              report.findings.empty() || repair ? "" : "; --repair removes what is damaged"));
  for (const std::string& problem : report.problems) print_note(io, problem);
}

base::Json json_of(const oci::FsckReport& report, const std::vector<Refetched>& refetched) {
  base::Json findings = base::Json::array();
  for (const oci::FsckFinding& finding : report.findings) {
    findings.push_back({{"path", finding.path},
                        {"problem", finding.problem},
                        {"images", finding.images},
                        {"breaks_images", finding.breaks_images},
                        {"unreadable", finding.unreadable},
                        {"removed", finding.removed},
                        {"stays", finding.stays}});
  }
  base::Json pulled = base::Json::array();
  for (const Refetched& image : refetched) pulled.push_back({{"reference", image.reference}, {"error", image.error}});
  return {{"findings", std::move(findings)}, {"pulled", std::move(pulled)},
          {"problems", report.problems},     {"images", report.images},
          {"blobs", report.blobs},           {"blob_bytes", report.blob_bytes},
          {"layers", report.layers},         {"layers_without_seal", report.layers_without_seal}};
}

}  // namespace
}  // namespace cli
