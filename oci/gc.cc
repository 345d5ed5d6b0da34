#include "oci/gc.h"

#include <ftw.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <filesystem>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "oci/hold.h"

namespace oci {

namespace {

using base::Context;
using base::Result;
using base::Status;
using base::str;

constexpr std::uint64_t kBlockBytes = 512;  // of st_blocks
constexpr int kOpenDirsMax = 32;            // while a layer is measured, however deep it is

Result<GcItem> measure(const std::string& path);
std::vector<std::string> list_paths(const std::string& dir);
GcImage image_of(const Store& store, const ImageRecord& record);
GcTime used_at(const Store& store, const ImageRecord& record);

}  // namespace

Result<GcDisk> measure_disk(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return base::Error::from_errno(errno, path);
  return GcDisk{info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize, info.f_files, info.f_favail};
}

std::vector<GcUse> uses_now(const Store& store, const std::function<std::vector<GcUse>()>& of_tasks) {
  std::vector<GcUse> uses = of_tasks();
  for (HeldPaths& held : read_holds(store)) uses.push_back({std::move(held.paths), "", std::move(held.who)});
  return uses;
}

Result<GcReport> Collector::run(const Context& ctx, const GcRequest& request) {
  TRY(auto items, measure_items(ctx));
  GcPlan plan;
  {
    TRY(const auto alone, store_.lease(ctx, Store::Lease::kExclusive));
    TRY(const GcInventory inventory, take_inventory(std::move(items)));
    plan = plan_gc(inventory, request);
    if (request.dry_run) return std::move(plan.report);
    TRY_VOID(store_.remove_records(ctx, plan.references));
    FAULT_POINT("gc.records");
    for (const std::string& path : plan.items) TRY_VOID(store_.discard(path));
    FAULT_POINT("gc.discarded");
  }
  for (const std::string& path : plan.items) measured_.lock()->erase(path);
  TRY_VOID(store_.empty_trash());
  return std::move(plan.report);
}

// Walking large layers takes long and needs no lock: neither layers nor blobs ever change.
Result<std::map<std::string, GcItem>> Collector::measure_items(const Context& ctx) {
  std::map<std::string, GcItem> items;
  for (const std::string& path : list_paths(store_.path("blobs/sha256"))) {
    if (auto item = measure(path)) items.emplace(path, *item);
  }
  for (const std::string& path : list_paths(store_.path("layers"))) {
    TRY_VOID(ctx.check());
    {
      auto known = measured_.lock();
      if (const auto it = known->find(path); it != known->end()) {
        items.emplace(path, it->second);
        continue;
      }
    }
    auto item = measure(path);
    if (!item) continue;  // gone meanwhile
    measured_.lock()->emplace(path, *item);
    items.emplace(path, *item);
  }
  return items;
}

Result<GcInventory> Collector::take_inventory(std::map<std::string, GcItem> items) {
  GcInventory inventory;
  inventory.items = std::move(items);
  inventory.uses = uses_now(store_, uses_);
  inventory.now = std::chrono::system_clock::now();
  TRY(inventory.disk, measure_disk(store_.path(".")));
  TRY(const auto records, store_.records());
  for (const ImageRecord& record : records) {
    // An image that runs now is used now, however long ago it was started.
    for (const GcUse& use : inventory.uses) {
      if (use.manifest_digest == record.manifest_digest.text()) store_.touch(record);
    }
    inventory.images.push_back(image_of(store_, record));
  }
  return inventory;
}

namespace {

// nftw has no argument for its callback.
thread_local GcItem* measured_tree = nullptr;

int add_file(const char* /*path*/, const struct stat* info, int /*kind*/, struct FTW* /*where*/) {
  measured_tree->bytes += static_cast<std::uint64_t>(info->st_blocks) * kBlockBytes;
  measured_tree->inodes += 1;
  return 0;
}

// Of a file, or of a directory with all that is below it on the same file system; links are not followed.
Result<GcItem> measure(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return base::Error::from_errno(errno, path);
  GcItem sum{0, 0, std::chrono::system_clock::from_time_t(info.st_ctim.tv_sec)};
  measured_tree = &sum;
  if (::nftw(path.c_str(), add_file, kOpenDirsMax, FTW_PHYS | FTW_MOUNT) != 0) {
    return base::Error::from_errno(errno, str("measuring ", path));
  }
  return sum;
}

std::vector<std::string> list_paths(const std::string& dir) {
  std::vector<std::string> paths;
  std::error_code ec;
  for (const auto& entry : std::filesystem::directory_iterator(dir, ec)) paths.push_back(entry.path().string());
  return paths;
}

// An image whose documents cannot be read has no content: its entry can go, and what it led to is garbage.
GcImage image_of(const Store& store, const ImageRecord& record) {
  GcImage image{record.reference, record.manifest_digest.text(), used_at(store, record), {}};
  const auto content = store.content(record);
  if (!content) {
    LOG_WARN("an image in the store is damaged", {{"image", record.reference}, {"error", content.error().message}});
    return image;
  }
  image.items.insert(content->begin(), content->end());
  return image;
}

// Store::touch sets the time of the manifest's file.
GcTime used_at(const Store& store, const ImageRecord& record) {
  struct stat info {};
  const std::int64_t touched =
      ::stat(store.blob_path(record.manifest_digest).c_str(), &info) == 0 ? info.st_mtim.tv_sec : 0;
  return std::chrono::system_clock::from_time_t(std::max(touched, record.pulled_at_unix));
}

}  // namespace
}  // namespace oci
