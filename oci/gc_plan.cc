#include <algorithm>

#include "base/result.h"
#include "oci/gc.h"

namespace oci {

namespace {

using base::str;

constexpr std::uint64_t kLowOfMaxPercent = 90;  // of store_bytes_max, so that not every pull has to collect
// What a running pull has brought has no entry yet. It has a hold; this is for tools that know nothing of holds.
constexpr std::chrono::hours kGarbageAgeMin{1};

/// A plan in the making: what would be gone so far.
class Planner {
 public:
  Planner(const GcInventory& inventory, const GcRequest& request);
  GcPlan plan();

 private:
  bool is_doubtful() const { return !inventory_.uses.unknown.empty() || unreadable_ != nullptr; }
  void say_doubts();
  std::string why_kept(const GcImage& image) const;
  std::string why_removed(const GcImage& image) const;
  std::string pressure() const;
  std::uint64_t remove(const GcImage& image);
  std::uint64_t would_free(const GcImage& image) const;
  void remove_item(const std::string& path, std::vector<std::string>& items);
  void remove_garbage();
  bool below_low_marks() const;

  const GcInventory& inventory_;
  const GcRequest& request_;
  std::map<std::string, std::size_t> references_;  // of items, by images that stay
  std::map<std::string, std::string> used_items_;   // path to user
  std::map<std::string, std::string> used_images_;  // manifest digest to user
  const GcImage* unreadable_ = nullptr;             // one of those, if any
  GcPlan plan_;
  std::uint64_t store_bytes_ = 0;
  std::uint64_t freed_inodes_ = 0;
  std::string pressure_;  // why space must be freed, "" if it need not
};

std::uint64_t percent_used(std::uint64_t total, std::uint64_t free) {
  return total == 0 ? 0 : (total - std::min(total, free)) * 100 / total;
}

std::string show_bytes(std::uint64_t bytes) {
  return str(bytes / 1'000'000, ".", bytes / 100'000 % 10, " MB");
}

std::string show_time(std::chrono::seconds time) {
  if (time >= std::chrono::hours(48)) return str(time / std::chrono::hours(24), " days");
  if (time >= std::chrono::hours(2)) return str(time / std::chrono::hours(1), " hours");
  if (time >= std::chrono::minutes(2)) return str(time / std::chrono::minutes(1), " minutes");
  return str(time.count(), " seconds");
}

std::chrono::seconds age(GcTime now, GcTime then) {
  return std::chrono::duration_cast<std::chrono::seconds>(std::max(now - then, GcTime::duration(0)));
}

}  // namespace

GcPlan plan_gc(const GcInventory& inventory, const GcRequest& request) {
  return Planner(inventory, request).plan();
}

bool matches_pin(std::string_view pin, std::string_view reference) {
  const auto star = pin.find('*');
  if (star == std::string_view::npos) return pin == reference;
  if (!reference.starts_with(pin.substr(0, star))) return false;
  const std::string_view rest = pin.substr(star + 1);
  for (std::size_t at = star; at <= reference.size(); ++at) {
    if (matches_pin(rest, reference.substr(at))) return true;
  }
  return false;
}

namespace {

Planner::Planner(const GcInventory& inventory, const GcRequest& request) : inventory_(inventory), request_(request) {
  for (const auto& [path, item] : inventory.items) store_bytes_ += item.bytes;
  for (const GcUse& use : inventory.uses.known) {
    for (const std::string& path : use.paths) used_items_.emplace(path, use.user);
    if (!use.manifest_digest.empty()) used_images_.emplace(use.manifest_digest, use.user);
  }
  for (const GcImage& image : inventory.images) {
    for (const std::string& path : image.items) ++references_[path];
    if (!image.unreadable.empty() && unreadable_ == nullptr) unreadable_ = &image;
    // The blobs of an image in use stay with it, or the store would have half of it.
    const auto user = used_images_.find(image.manifest_digest);
    if (user == used_images_.end()) continue;
    for (const std::string& path : image.items) used_items_.emplace(path, user->second);
  }
  pressure_ = pressure();
}

GcPlan Planner::plan() {
  say_doubts();
  if (request_.references.empty()) remove_garbage();
  std::vector<const GcImage*> images;
  for (const GcImage& image : inventory_.images) images.push_back(&image);
  std::stable_sort(images.begin(), images.end(), [](const GcImage* a, const GcImage* b) { return a->used < b->used; });
  for (const GcImage* image : images) {
    GcDecision decision{image->reference, image->manifest_digest, 0, false, why_kept(*image)};
    if (decision.reason.empty()) {
      decision.reason = why_removed(*image);
      decision.removed = !decision.reason.empty();
      if (!decision.removed) decision.reason = "within all limits";
    }
    decision.bytes = decision.removed ? remove(*image) : would_free(*image);
    plan_.report.images.push_back(std::move(decision));
  }
  plan_.report.store_bytes = store_bytes_;
  return std::move(plan_);
}

void Planner::say_doubts() {
  std::vector<std::string>& problems = plan_.report.problems;
  const auto add = [&problems](std::string_view why) {
    problems.push_back(str("no blob and no layer is removed, because it is not known which are needed: ", why));
  };
  for (const std::string& why : inventory_.uses.unknown) add(why);
  if (unreadable_ == nullptr) return;
  const auto others = std::count_if(inventory_.images.begin(), inventory_.images.end(),
                                    [](const GcImage& image) { return !image.unreadable.empty(); }) - 1;
  add(str("image ", unreadable_->reference, " cannot be read: ", unreadable_->unreadable,
          others == 0 ? "" : str("; nor can ", others, " others")));
}

// Reasons that no limit can override. "" = it may go.
std::string Planner::why_kept(const GcImage& image) const {
  if (!request_.references.empty() && !request_.references.contains(image.reference)) return "not requested";
  const auto user = used_images_.find(image.manifest_digest);
  if (user != used_images_.end()) return str("in use: ", user->second);
  if (!inventory_.uses.unknown.empty()) return str("may be in use: ", inventory_.uses.unknown.front());
  // An entry that is named may go, so that an image on a broken disk does not block collection for ever.
  if (!request_.references.empty()) return "";
  if (unreadable_ != nullptr) {
    return str("image ", unreadable_->reference, " cannot be read and might share its layers");
  }
  if (image.pinned) return "pinned";
  for (const std::string& pin : request_.policy.pins) {
    if (matches_pin(pin, image.reference)) return str("pinned by \"", pin, "\"");
  }
  const auto unused = age(inventory_.now, image.used);
  if (!request_.all && unused < request_.policy.keep_at_least) return str("used ", show_time(unused), " ago");
  return "";
}

std::string Planner::why_removed(const GcImage& image) const {
  if (!request_.references.empty()) return "requested";
  if (request_.all) return "removal of all unused images was requested";
  const auto unused = age(inventory_.now, image.used);
  if (request_.policy.unused_max.count() > 0 && unused > request_.policy.unused_max) {
    return str("unused for ", show_time(unused), ", which is more than ", show_time(request_.policy.unused_max));
  }
  if (!pressure_.empty() && !below_low_marks()) return pressure_;
  return "";
}

// Measured at the start, when nothing was removed yet.
std::string Planner::pressure() const {
  const GcPolicy& policy = request_.policy;
  const GcDisk& disk = inventory_.disk;
  if (policy.store_bytes_max > 0 && store_bytes_ + request_.room_bytes > policy.store_bytes_max) {
    const std::string room =
        request_.room_bytes == 0 ? "" : str(", and ", show_bytes(request_.room_bytes), " more are needed");
    return str("the store holds ", show_bytes(store_bytes_), " of ", show_bytes(policy.store_bytes_max), room);
  }
  const auto bytes = percent_used(disk.bytes_total, disk.bytes_free);
  if (bytes > static_cast<std::uint64_t>(policy.high_percent)) return str("the file system is ", bytes, " % full");
  const auto inodes = percent_used(disk.inodes_total, disk.inodes_free);
  if (inodes > static_cast<std::uint64_t>(policy.high_percent)) return str(inodes, " % of all inodes are used");
  if (request_.room_bytes > disk.bytes_free) return str(show_bytes(request_.room_bytes), " of free space are needed");
  return "";
}

bool Planner::below_low_marks() const {
  const GcPolicy& policy = request_.policy;
  const GcDisk& disk = inventory_.disk;
  const auto low = static_cast<std::uint64_t>(policy.low_percent);
  const std::uint64_t bytes_free = disk.bytes_free + plan_.report.freed_bytes;
  if (policy.store_bytes_max > 0 &&
      store_bytes_ + request_.room_bytes > policy.store_bytes_max / 100 * kLowOfMaxPercent) {
    return false;
  }
  if (percent_used(disk.bytes_total, disk.bytes_free) > static_cast<std::uint64_t>(policy.high_percent) &&
      percent_used(disk.bytes_total, bytes_free) > low) {
    return false;
  }
  if (percent_used(disk.inodes_total, disk.inodes_free) > static_cast<std::uint64_t>(policy.high_percent) &&
      percent_used(disk.inodes_total, disk.inodes_free + freed_inodes_) > low) {
    return false;
  }
  return request_.room_bytes <= bytes_free;
}

std::uint64_t Planner::would_free(const GcImage& image) const {
  std::uint64_t bytes = 0;
  for (const std::string& path : image.items) {
    const auto item = inventory_.items.find(path);
    if (item != inventory_.items.end() && references_.at(path) == 1) bytes += item->second.bytes;
  }
  return bytes;
}

std::uint64_t Planner::remove(const GcImage& image) {
  const std::uint64_t before = plan_.report.freed_bytes;
  plan_.references.push_back(image.reference);
  if (is_doubtful()) return 0;
  for (const std::string& path : image.items) {
    if (--references_[path] == 0 && !used_items_.contains(path)) remove_item(path, plan_.items);
  }
  return plan_.report.freed_bytes - before;
}

void Planner::remove_item(const std::string& path, std::vector<std::string>& items) {
  const auto item = inventory_.items.find(path);
  if (item == inventory_.items.end()) return;
  items.push_back(path);
  plan_.report.freed_bytes += item->second.bytes;
  freed_inodes_ += item->second.inodes;
  store_bytes_ -= item->second.bytes;
}

// What no entry leads to: left behind by an interrupted pull, or by a tag that has moved.
void Planner::remove_garbage() {
  if (is_doubtful()) return;
  const auto age_min = std::max<std::chrono::seconds>(request_.policy.keep_at_least, kGarbageAgeMin);
  for (const auto& [path, item] : inventory_.items) {
    if (references_.contains(path) || used_items_.contains(path)) continue;
    if (age(inventory_.now, item.changed) < age_min) continue;
    ++plan_.report.garbage_items;
    plan_.report.garbage_bytes += item.bytes;
    remove_item(path, plan_.garbage);
  }
}

}  // namespace
}  // namespace oci
