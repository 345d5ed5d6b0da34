#include "oci/gc.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/dir.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "oci/hold.h"

namespace oci {

namespace {

using base::Context;
using base::Result;
using base::Status;
using base::str;

constexpr std::uint64_t kBlockBytes = 512;     // of st_blocks
constexpr std::size_t kMeasureDepthMax = 500;  // folders; each keeps a descriptor while what is below is measured

Result<std::vector<std::string>> list_paths(const std::string& dir);
Result<GcTime> used_at(const Store& store, const ImageRecord& record);

}  // namespace

Result<GcDisk> measure_disk(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return base::Error::from_errno(errno, path);
  return GcDisk{info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize, info.f_files, info.f_favail};
}

namespace {

// What a container writes changes meanwhile: what is gone, or no folder any more, is passed over.
bool is_gone(int error) {
  return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

Status add_below(base::Fd folder, const std::string& path, dev_t device, std::size_t depth, GcItem& sum) {
  if (depth >= kMeasureDepthMax) {
    return base::Error::resource_exhausted(
        str("it has folders more than ", kMeasureDepthMax, " deep, and that is the limit"));
  }
  TRY(base::Dir dir, base::Dir::read(std::move(folder), path));
  for (;;) {
    TRY(const dirent* const entry, dir.next());
    if (entry == nullptr) return {};
    const std::string name = entry->d_name;
    struct stat info {};
    if (::fstatat(dir.fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) {
      if (is_gone(errno)) continue;
      return base::Error::from_errno(errno, name);
    }
    if (info.st_dev != device) continue;
    sum.bytes += static_cast<std::uint64_t>(info.st_blocks) * kBlockBytes;
    sum.inodes += 1;
    if (!S_ISDIR(info.st_mode)) continue;
    auto inner = base::open_at(dir.fd(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (inner) {
      TRY_VOID(add_below(*std::move(inner), name, device, depth + 1, sum));
    } else if (!is_gone(inner.error().sys_errno)) {
      return std::move(inner).error();
    }
  }
}

}  // namespace

Result<GcItem> measure_tree(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return base::Error::from_errno(errno, path);
  GcItem sum{static_cast<std::uint64_t>(info.st_blocks) * kBlockBytes, 1,
             std::chrono::system_clock::from_time_t(info.st_ctim.tv_sec)};
  if (!S_ISDIR(info.st_mode)) return sum;
  TRY(base::Fd folder, base::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  auto measured = add_below(std::move(folder), path, info.st_dev, 0, sum);
  if (!measured) return std::move(measured).error().wrap(str("measuring ", path));
  return sum;
}

GcUses uses_now(const Store& store, const ListUses& of_tasks) {
  GcUses uses = of_tasks();
  HeldPaths held = read_holds(store);
  for (Holder& holder : held.holders) uses.known.push_back({std::move(holder.paths), "", std::move(holder.who)});
  for (std::string& problem : held.unreadable) uses.unknown.push_back(std::move(problem));
  return uses;
}

Result<GcReport> Collector::run(const Context& ctx, const GcRequest& request) {
  TRY(auto measured, measure_items(ctx));
  {
    // Thousands of images are thousands of files to read: before starts have to wait, not while they do.
    TRY(const auto records, store_.records());
    for (const ImageRecord& record : records) {
      TRY_VOID(ctx.check());
      [[maybe_unused]] const auto known_from_now_on = content_of(record);
    }
  }
  GcReport report;
  {
    TRY(const auto alone, store_.lease(ctx, Store::Lease::kExclusive));
    TRY(const GcInventory inventory, take_inventory(std::move(measured.items)));
    GcPlan plan = plan_gc(inventory, request);
    report = std::move(plan.report);
    std::move(measured.problems.begin(), measured.problems.end(), std::back_inserter(report.problems));
    if (request.dry_run) return report;
    discard(plan.garbage, inventory, report);
    const auto removed = remove_entries(ctx, plan.references, report);
    FAULT_POINT("gc.records");
    // An image whose entry is still there keeps its content.
    if (removed) discard(plan.items, inventory, report);
    FAULT_POINT("gc.discarded");
    forget_all_but(inventory);
  }
  empty_trash(report);
  return report;
}

// Walking large layers takes long and needs no lock: neither layers nor blobs ever change.
Result<Collector::Measured> Collector::measure_items(const Context& ctx) {
  Measured out;
  const auto add = [&out](const std::string& path, Result<GcItem> item) {
    if (item) {
      out.items.emplace(path, *item);
    } else if (item.error().code != base::Code::kNotFound) {  // that one is gone meanwhile
      out.problems.push_back(std::move(item).error().message);
    }
  };
  TRY(const auto blobs, list_paths(store_.path("blobs/sha256")));
  for (const std::string& path : blobs) add(path, measure_tree(path));
  TRY(const auto layers, list_paths(store_.path("layers")));
  for (const std::string& path : layers) {
    TRY_VOID(ctx.check());
    add(path, measure_layer(path));
  }
  return out;
}

Result<GcItem> Collector::measure_layer(const std::string& path) {
  {
    auto known = measured_.lock();
    if (const auto it = known->find(path); it != known->end()) return it->second;
  }
  TRY(const GcItem item, measure_tree(path));
  measured_.lock()->emplace(path, item);
  return item;
}

Result<Collector::Paths> Collector::content_of(const ImageRecord& record) {
  {
    auto known = contents_.lock();
    if (const auto it = known->find(record.manifest_digest); it != known->end()) return it->second;
  }
  TRY(Paths paths, store_.content(record));
  contents_.lock()->emplace(record.manifest_digest, paths);
  return paths;
}

Result<GcInventory> Collector::take_inventory(std::map<std::string, GcItem> items) {
  GcInventory inventory;
  inventory.items = std::move(items);
  inventory.uses = uses_now(store_, uses_);
  inventory.now = std::chrono::system_clock::now();
  TRY(inventory.disk, measure_disk(store_.path(".")));
  std::set<std::string> used_digests;
  for (const GcUse& use : inventory.uses.known) used_digests.insert(use.manifest_digest);
  TRY(const auto records, store_.records());
  for (const ImageRecord& record : records) {
    // An image that runs now is used now, however long ago it was started.
    if (used_digests.contains(record.manifest_digest.text())) store_.touch(record);
    TRY(GcImage image, image_of(record));
    inventory.images.push_back(std::move(image));
  }
  return inventory;
}

// An image whose documents are missing or damaged has no content: its entry can go, and what it led to is garbage. One
// whose documents cannot be read now might have any.
Result<GcImage> Collector::image_of(const ImageRecord& record) {
  GcImage image{record.reference, record.manifest_digest.text(), {}, {}};
  image.pinned = record.pinned;
  const auto used = used_at(store_, record);
  if (used) image.used = *used;
  const auto content = content_of(record);
  if (content) image.items.insert(content->begin(), content->end());
  const base::Error* error = !content ? &content.error() : !used ? &used.error() : nullptr;
  if (error == nullptr) return image;
  if (is_unreadable(*error)) {
    image.unreadable = error->message;
  } else {
    LOG_WARN("an image in the store is damaged", {{"image", record.reference}, {"error", error->message}});
  }
  return image;
}

// On a full disk even a shorter index.json finds no room until what was discarded so far is gone.
Status Collector::remove_entries(const Context& ctx, const Paths& references, GcReport& report) {
  auto removed = store_.remove_records(ctx, references);
  if (!removed && removed.error().code == base::Code::kResourceExhausted) {
    empty_trash(report);
    removed = store_.remove_records(ctx, references);
  }
  if (removed) return removed;
  for (GcDecision& decision : report.images) {
    if (!decision.removed) continue;
    report.freed_bytes -= decision.bytes;
    report.store_bytes += decision.bytes;
    decision.removed = false;
    decision.reason = "index.json cannot be replaced";
  }
  report.problems.push_back(str("taking images out of index.json: ", removed.error().message));
  return removed;
}

void Collector::discard(const Paths& paths, const GcInventory& inventory, GcReport& report) {
  for (const std::string& path : paths) {
    const auto discarded = store_.discard(path);
    if (discarded) continue;
    const std::uint64_t bytes = inventory.items.at(path).bytes;
    report.freed_bytes -= bytes;
    report.store_bytes += bytes;
    report.problems.push_back(discarded.error().message);
  }
}

void Collector::empty_trash(GcReport& report) {
  for (base::Error& error : store_.empty_trash()) report.problems.push_back(std::move(error.message));
}

void Collector::forget_all_but(const GcInventory& inventory) {
  std::erase_if(*measured_.lock(), [&](const auto& known) { return !inventory.items.contains(known.first); });
  std::set<std::string> digests;
  for (const GcImage& image : inventory.images) digests.insert(image.manifest_digest);
  std::erase_if(*contents_.lock(), [&](const auto& known) { return !digests.contains(known.first.text()); });
}

namespace {

// None if there is no such folder: then there is no store yet.
Result<std::vector<std::string>> list_paths(const std::string& dir) {
  auto names = base::list_dir(dir);
  if (!names && names.error().code == base::Code::kNotFound) return std::vector<std::string>();
  if (!names) return std::move(names).error();
  for (std::string& name : *names) name.insert(0, dir + "/");
  return names;
}

// Store::touch sets the time of the manifest's file.
Result<GcTime> used_at(const Store& store, const ImageRecord& record) {
  const std::string path = store.blob_path(record.manifest_digest);
  struct stat info {};
  std::int64_t touched = 0;
  if (::lstat(path.c_str(), &info) == 0) {
    touched = info.st_mtim.tv_sec;
  } else if (errno != ENOENT) {
    return base::Error::from_errno(errno, path);
  }
  return std::chrono::system_clock::from_time_t(std::max(touched, record.pulled_at_unix));
}

}  // namespace
}  // namespace oci
