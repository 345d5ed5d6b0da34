// What the node's disk has of this driver's: images by what they share and free, containers by what they have written.
#include "base/json.h"
#include "cli/format.h"
#include "cli/verb.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::str;

namespace {

constexpr int kNeverFullPercent = 100;

struct Share {
  std::string type;
  std::uint64_t total = 0;
  std::uint64_t active = 0;
  std::uint64_t bytes = 0;
  std::uint64_t reclaimable_bytes = 0;
};
struct ContainerSize {
  std::string id;
  std::string name;
  std::string state;
  std::uint64_t bytes = 0;
  std::string problem;  // why that is not known
};
struct DiskUse {
  oci::GcReport images;  // as if all that nobody uses were removed
  std::vector<ContainerSize> containers;
};

Result<DiskUse> measure_use(const Globals& globals);
Result<std::uint64_t> written_by(const std::string& data_dir, const std::string& id);
std::vector<Share> shares_of(const DiskUse& use);
Json json_of_use(const DiskUse& use, const std::vector<Share>& shares);
std::string show_reclaimable(const Share& share);
void print_details(Io& io, const DiskUse& use);
int tell_all_problems(Io& io, const DiskUse& use);

}  // namespace

int df_command(const Verb& self, Call& call) {
  Flags flags;
  bool verbose = false;
  std::string format;
  std::string output;
  flags.toggle("verbose", 'v', "each image and container", verbose);
  flags.value("format", 0, "TEMPLATE", "json, or what a template makes of each: {{.Type}} {{.Size}}", format);
  flags.value("output", 'o', "json", "print JSON: sizes in bytes, each image and container", output);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  const auto use = measure_use(call.globals);
  if (!use) return fail(call.io, use.error(), kExitMisuse);
  const std::vector<Share> shares = shares_of(*use);
  if (output == "json") {
    print_json(call.io, json_of_use(*use, shares));
    return tell_all_problems(call.io, *use);
  }
  if (verbose && format.empty()) {
    print_details(call.io, *use);
    return tell_all_problems(call.io, *use);
  }
  const std::string wanted =
      format.empty() ? "table {{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}" : format;
  std::vector<Json> rows;
  for (const Share& share : shares) {
    rows.push_back({{"Type", share.type},
                    {"Total", share.total},
                    {"Active", share.active},
                    {"Size", show_size(share.bytes)},
                    {"Reclaimable", show_reclaimable(share)}});
  }
  const Json heads = {
      {"Type", "TYPE"}, {"Total", "TOTAL"}, {"Active", "ACTIVE"}, {"Size", "SIZE"}, {"Reclaimable", "RECLAIMABLE"}};
  if (auto printed = print_formatted(call.io, wanted, rows, heads); !printed) {
    return fail(call.io, printed.error(), kExitMisuse);
  }
  return tell_all_problems(call.io, *use);
}

namespace {

Result<DiskUse> measure_use(const Globals& globals) {
  DiskUse use;
  oci::GcRequest request;
  request.all = true;
  request.dry_run = true;
  request.policy.high_percent = kNeverFullPercent;
  TRY(use.images, collect_images(globals, request));
  TRY(const auto session, open_driver(globals));
  TRY(const auto containers, list_containers(session->driver));
  const std::string data_dir = globals.options().data_dir;
  for (const Container& container : containers) {
    const std::string id = container_id_of(container.task);
    ContainerSize size{id, name_of(container), state_of(container), 0, ""};
    if (const auto written = written_by(data_dir, id)) {
      size.bytes = *written;
    } else {
      size.problem = written.error().message;
    }
    use.containers.push_back(std::move(size));
  }
  return use;
}

// Of a run, or kept between two.
Result<std::uint64_t> written_by(const std::string& data_dir, const std::string& id) {
  std::uint64_t bytes = 0;
  for (const char* folder : {"/tasks/", "/tasks/.containers/"}) {
    const auto measured = oci::measure_tree(str(data_dir, folder, id));
    if (measured) {
      bytes += measured->bytes;
    } else if (measured.error().code != base::Code::kNotFound) {
      return measured.error();
    }
  }
  return bytes;
}

std::vector<Share> shares_of(const DiskUse& use) {
  Share images{"Images"};
  images.total = use.images.images.size();
  for (const oci::GcDecision& image : use.images.images) images.active += image.removed ? 0 : 1;
  images.bytes = use.images.store_bytes + use.images.freed_bytes;
  images.reclaimable_bytes = use.images.freed_bytes;
  Share containers{"Containers"};
  containers.total = use.containers.size();
  for (const ContainerSize& container : use.containers) {
    const bool is_active = container.state != "exited" && container.state != "created";
    containers.active += is_active ? 1 : 0;
    containers.bytes += container.bytes;
    containers.reclaimable_bytes += is_active ? 0 : container.bytes;
  }
  return {images, containers};
}

Json json_of_use(const DiskUse& use, const std::vector<Share>& shares) {
  Json out = {{"summary", Json::array()}, {"images", Json::array()}, {"containers", Json::array()}};
  for (const Share& share : shares) {
    out["summary"].push_back({{"type", share.type},
                              {"total", share.total},
                              {"active", share.active},
                              {"bytes", share.bytes},
                              {"reclaimable_bytes", share.reclaimable_bytes}});
  }
  for (const oci::GcDecision& image : use.images.images) {
    out["images"].push_back({{"reference", image.reference},
                             {"digest", image.manifest_digest},
                             {"reclaimable_bytes", image.bytes},
                             {"active", !image.removed}});
  }
  for (const ContainerSize& container : use.containers) {
    out["containers"].push_back({{"id", container.id},
                                 {"name", container.name},
                                 {"state", container.state},
                                 {"bytes", container.problem.empty() ? Json(container.bytes) : Json()}});
  }
  return out;
}

std::string show_reclaimable(const Share& share) {
  const std::uint64_t percent = share.bytes == 0 ? 0 : share.reclaimable_bytes * 100 / share.bytes;
  return str(show_size(share.reclaimable_bytes), " (", percent, "%)");
}

void print_details(Io& io, const DiskUse& use) {
  std::vector<std::vector<std::string>> rows = {{"IMAGE", "FREES", "ACTIVE", "REASON"}};
  for (const oci::GcDecision& image : use.images.images) {
    rows.push_back(
        {image.reference, show_size(image.bytes), image.removed ? "no" : "yes", image.removed ? "" : image.reason});
  }
  print_rows(io, rows);
  print_line(io, "");
  rows = {{"CONTAINER", "SIZE", "STATE"}};
  for (const ContainerSize& container : use.containers) {
    rows.push_back(
        {container.name, container.problem.empty() ? show_size(container.bytes) : "unknown", container.state});
  }
  print_rows(io, rows);
}

int tell_all_problems(Io& io, const DiskUse& use) {
  int exit_code = tell_problems(io, use.images);
  for (const ContainerSize& container : use.containers) {
    if (container.problem.empty()) continue;
    print_note(io, str("the size of container ", container.name, " is not known: ", container.problem));
    exit_code = kExitFailure;
  }
  return exit_code;
}

}  // namespace
}  // namespace cli
