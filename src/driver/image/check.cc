#include "driver/image/check.h"

#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "oci/fsck.h"

namespace driver {

namespace {

// The kernel writes back what is older than 30 seconds; disks' own caches are smaller than what they take in minutes.
constexpr std::chrono::minutes kWindow{5};
constexpr std::size_t kMarkerBytesMax = 8192;  // a path, and the boot's id

oci::GcTime boot_time();

}  // namespace

void check_images_after_boot(const base::Context& ctx, const std::string& data_dir, const std::string& marker,
                             const oci::ListUses& uses) {
  const std::string now = base::str(base::boot_id(), " ", data_dir, "\n");
  const auto checked = base::read_file(marker, kMarkerBytesMax);
  if (checked && *checked == now) return;
  oci::Store store(data_dir);
  oci::FsckRequest request;
  request.repair = true;
  request.recent = {boot_time(), kWindow};
  const auto report = oci::check_store(ctx, store, request, uses);
  if (!report) {
    if (report.error().code == base::Code::kNotFound) return;  // no store yet
    LOG_WARN("cannot verify the image store after the boot, the next start will try again",
             {{"error", report.error().message}});
    return;
  }
  bool all_read = true;
  for (const oci::FsckFinding& finding : report->findings) {
    all_read = all_read && !finding.unreadable;
    LOG_WARN(finding.removed ? "removed damaged content of the image store, it will be pulled again"
                             : "damaged content in the image store",
             {{"path", finding.path}, {"problem", finding.problem}, {"stays", finding.stays}});
  }
  for (const std::string& problem : report->problems) {
    LOG_WARN("cannot repair all of the image store", {{"problem", problem}});
  }
  if (!all_read) return;  // the next start looks again
  LOG_INFO("image store verified after the boot", {{"blobs", report->blobs}, {"layers", report->layers}});
  const auto noted = base::write_file_atomic(marker, now, 0600, base::Durable::kNo);
  if (!noted) LOG_WARN("cannot note that the image store was verified", {{"error", noted.error().message}});
}

namespace {

oci::GcTime boot_time() {
  timespec up{};
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  return std::chrono::system_clock::now() - std::chrono::seconds(up.tv_sec);
}

}  // namespace

}  // namespace driver
