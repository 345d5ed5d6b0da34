#include "oci/fsck.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>
#include <variant>

#include "base/file.h"
#include "oci/hold.h"
#include "oci/image_config.h"
#include "oci/seal.h"

namespace oci {

namespace {

using base::Context;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kReadBytes = 1u << 20;
constexpr char kDamagedIndex[] = "index.json.damaged";

/// One run of check_store().
class Fsck {
 public:
  Fsck(const Context& ctx, Store& store, const FsckRequest& request, const std::function<std::vector<GcUse>()>& uses)
      : ctx_(ctx), store_(store), request_(request), uses_(uses) {}
  Result<FsckReport> run();

 private:
  Status check_blobs();
  Status check_blob(const std::string& name);
  Status check_layers();
  Status check_layer(const std::string& name);
  Status check_leftovers();
  void check_seals();
  Status check_images();
  void check_image(const ImageRecord& record);
  enum class For { kStarts, kOthers };
  void need(const ImageRecord& record, const std::string& path, For what, const std::string& problem = "");
  Status repair();
  Status remove(FsckFinding& finding);
  std::string why_it_stays(const FsckFinding& finding) const;
  bool is_suspicious(const std::string& path) const;
  std::vector<std::string> names(std::string_view folder) const;
  void find(std::string path, std::string problem) { found_[std::move(path)] = {std::move(problem), {}, false}; }

  struct Found {
    std::string problem;
    std::set<std::string> images;
    bool breaks_images = false;
  };
  const Context& ctx_;
  Store& store_;
  const FsckRequest& request_;
  const std::function<std::vector<GcUse>()>& uses_;
  GcTime suspicious_from_ = GcTime::min();
  std::map<std::string, Found> found_;         // by path in the store
  std::map<std::string, std::string> in_use_;  // layers, by path in the store: who needs them
  FsckReport report_;
};

Result<Digest> digest_of_file(const Context& ctx, const base::Fd& fd);
std::optional<GcTime> changed_at(const std::string& path);
bool is_abandoned(const std::string& path);

}  // namespace

bool FsckReport::clean() const {
  return std::all_of(findings.begin(), findings.end(), [](const FsckFinding& finding) { return finding.removed; });
}

Result<FsckReport> check_store(const Context& ctx, Store& store, const FsckRequest& request,
                               const std::function<std::vector<GcUse>()>& uses) {
  return Fsck(ctx, store, request, uses).run();
}

namespace {

Result<FsckReport> Fsck::run() {
  struct stat info {};
  if (::stat(store_.path("oci-layout").c_str(), &info) != 0) {
    return base::Error::from_errno(errno, str("there is no image store, ", store_.path("oci-layout")));
  }
  if (request_.recent) {
    GcTime last = GcTime::min();
    for (const char* folder : {"blobs/sha256", "layers"}) {
      for (const std::string& name : names(folder)) {
        const auto changed = changed_at(store_.path(str(folder, "/", name)));
        if (changed && *changed < request_.recent->before) last = std::max(last, *changed);
      }
    }
    suspicious_from_ = last == GcTime::min() ? GcTime::max() : last - request_.recent->window;
  }
  TRY_VOID(check_blobs());
  TRY_VOID(check_layers());
  TRY_VOID(check_leftovers());
  {
    // What is missing now is not merely on its way in or out.
    TRY(const auto alone, store_.lease(ctx_, Store::Lease::kExclusive));
    TRY_VOID(check_images());
    check_seals();
    for (auto& [path, found] : found_) {
      report_.findings.push_back(
          {path, std::move(found.problem), std::move(found.images), found.breaks_images, false, ""});
    }
    if (request_.repair) TRY_VOID(repair());
  }
  if (request_.repair) TRY_VOID(store_.empty_trash());
  return std::move(report_);
}

Status Fsck::check_blobs() {
  for (const std::string& name : names("blobs/sha256")) {
    if (is_suspicious(str("blobs/sha256/", name))) TRY_VOID(check_blob(name));
  }
  return {};
}

Status Fsck::check_blob(const std::string& name) {
  TRY_VOID(ctx_.check());
  const std::string path = str("blobs/sha256/", name);
  const auto expected = Digest::parse("sha256:" + name);
  const auto fd = base::open_file(store_.path(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!fd && fd.error().code == base::Code::kNotFound) return {};  // collected meanwhile
  struct stat info {};
  if (!expected || !fd || ::fstat(fd->get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    find(path, "is no blob");
    return {};
  }
  ++report_.blobs;
  report_.blob_bytes += static_cast<std::uint64_t>(info.st_size);
  const auto digest = digest_of_file(ctx_, *fd);
  if (!digest) {
    TRY_VOID(ctx_.check());
    find(path, str("cannot be read: ", digest.error().message));
  } else if (*digest != *expected) {
    find(path, str("has ", info.st_size, " bytes with digest ", digest->text()));
  }
  return {};
}

Status Fsck::check_layers() {
  for (const std::string& name : names("layers")) {
    if (is_suspicious(str("layers/", name))) TRY_VOID(check_layer(name));
  }
  return {};
}

Status Fsck::check_layer(const std::string& name) {
  TRY_VOID(ctx_.check());
  const std::string path = str("layers/", name);
  const auto chain_id = Digest::parse("sha256:" + name);
  if (!chain_id || !store_.has_layer(*chain_id)) {
    struct stat info {};
    if (::lstat(store_.path(path).c_str(), &info) == 0) find(path, "is no layer");
    return {};
  }
  ++report_.layers;
  const auto text = base::read_file(store_.seal_path(*chain_id), kSealFileBytesMax);
  const auto expected = text ? decode_seal(*text) : Result<Seal>(text.error());
  if (!expected) {
    ++report_.layers_without_seal;
    return {};
  }
  const auto seal = seal_layer(ctx_, store_.path(path));
  TRY_VOID(ctx_.check());
  if (!store_.has_layer(*chain_id)) return {};  // collected meanwhile
  if (!seal) {
    find(path, str("cannot be read: ", seal.error().message));
  } else if (seal->entries != expected->entries || seal->bytes != expected->bytes) {
    find(path, str("has ", seal->entries, " entries with ", seal->bytes, " bytes instead of ", expected->entries,
                   " with ", expected->bytes));
  } else if (seal->tree != expected->tree) {
    find(path, "has entries whose names, attributes or lengths are not those that were unpacked");
  }
  return {};
}

Status Fsck::check_leftovers() {
  TRY(const auto alone, store_.lock_ingest(ctx_, Store::Lease::kExclusive));
  for (const std::string& name : names("ingest")) {
    const std::string path = str("ingest/", name);
    if (!name.starts_with(kStagingPrefix) && !name.starts_with(kHoldPrefix)) continue;  // a download to go on with
    if (!is_abandoned(store_.path(path))) continue;
    FsckFinding finding{path, "was left by a pull that was cut off", {}, false, false, ""};
    if (request_.repair) {
      TRY_VOID(base::remove_tree(store_.path(path)));
      finding.removed = true;
    }
    report_.findings.push_back(std::move(finding));
  }
  return {};
}

void Fsck::check_seals() {
  for (const std::string& name : names("seals")) {
    const auto chain_id = Digest::parse("sha256:" + name);
    if (chain_id && (store_.has_layer(*chain_id) || found_.contains(str("layers/", name)))) continue;
    find(str("seals/", name), "is the seal of no layer");
  }
}

Status Fsck::check_images() {
  const auto records = store_.records();
  if (!records) {
    find("index.json", str("cannot be read: ", records.error().message));
    return {};
  }
  report_.images = records->size();
  for (const ImageRecord& record : *records) check_image(record);
  return {};
}

// What is damaged was found above; this finds what is missing, and whose all of that is.
void Fsck::check_image(const ImageRecord& record) {
  const auto document = [&](const Digest& digest, std::size_t bytes_max) -> std::optional<std::string> {
    auto text = store_.read_document(digest, bytes_max);
    need(record, str("blobs/sha256/", digest.hex()), For::kStarts, text ? "" : text.error().message);
    if (!text) return std::nullopt;
    return *std::move(text);
  };
  const auto manifest_text = document(record.manifest_digest, kManifestBytesMax);
  if (!manifest_text) return;
  const auto parsed = parse_manifest(*manifest_text, record.media_type, record.reference);
  const auto* manifest = parsed ? std::get_if<Manifest>(&*parsed) : nullptr;
  if (manifest == nullptr)
    return need(record, str("blobs/sha256/", record.manifest_digest.hex()), For::kStarts, "is no manifest");
  // A layer that another image brought in another packing has no blob here.
  for (const Descriptor& layer : manifest->layers) need(record, str("blobs/sha256/", layer.digest.hex()), For::kOthers);
  const auto config_text = document(manifest->config.digest, kConfigBytesMax);
  if (!config_text) return;
  const auto config = parse_config(*config_text, record.reference);
  if (!config) return need(record, str("blobs/sha256/", manifest->config.digest.hex()), For::kStarts, "is no config");
  for (const Digest& chain_id : chain_ids(config->diff_ids)) {
    need(record, str("layers/", chain_id.hex()), For::kStarts, store_.has_layer(chain_id) ? "" : "is missing");
  }
}

void Fsck::need(const ImageRecord& record, const std::string& path, For what, const std::string& problem) {
  if (!problem.empty()) found_.try_emplace(path, Found{problem, {}, false});
  const auto found = found_.find(path);
  if (found == found_.end()) return;
  found->second.images.insert(record.reference);
  found->second.breaks_images |= what == For::kStarts;
}

Status Fsck::repair() {
  const std::string root = store_.path("");
  for (const GcUse& use : uses_now(store_, uses_)) {
    for (const std::string& path : use.paths) {
      if (path.starts_with(root)) in_use_.emplace(path.substr(root.size()), use.user);
    }
  }
  for (FsckFinding& finding : report_.findings) {
    if (!finding.removed) TRY_VOID(remove(finding));
  }
  std::set<std::string> broken;
  for (const FsckFinding& finding : report_.findings) {
    if (finding.removed && finding.breaks_images) broken.insert(finding.images.begin(), finding.images.end());
  }
  return store_.remove_records(ctx_, {broken.begin(), broken.end()});
}

Status Fsck::remove(FsckFinding& finding) {
  const std::string path = store_.path(finding.path);
  finding.stays = why_it_stays(finding);
  if (!finding.stays.empty()) return {};
  if (finding.path == "index.json") {
    // Its names are lost; what they led to is found again by digest when it is pulled.
    if (::rename(path.c_str(), store_.path(kDamagedIndex).c_str()) != 0) return base::Error::from_errno(errno, path);
  } else {
    TRY_VOID(store_.discard(path));
  }
  finding.removed = true;
  return {};
}

// Blobs are not what a container runs on: a new one takes the place of the old one under it.
std::string Fsck::why_it_stays(const FsckFinding& finding) const {
  if (!finding.path.starts_with("layers/")) return "";
  const auto user = in_use_.find(finding.path);
  if (user == in_use_.end()) return "";
  return str(user->second, " uses it: stop that, and repair again");
}

bool Fsck::is_suspicious(const std::string& path) const {
  if (!request_.recent) return true;
  const auto changed = changed_at(store_.path(path));
  return changed && *changed < request_.recent->before && *changed >= suspicious_from_;
}

std::vector<std::string> Fsck::names(std::string_view folder) const {
  std::vector<std::string> out;
  std::error_code error;
  std::filesystem::directory_iterator entries(store_.path(folder), error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    out.push_back(entries->path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<Digest> digest_of_file(const Context& ctx, const base::Fd& fd) {
  Hasher hasher;
  std::string chunk(kReadBytes, '\0');
  for (;;) {
    TRY(const std::size_t size, base::read_some(ctx, fd.get(), chunk));
    if (size == 0) return hasher.finish();
    hasher.update(std::string_view(chunk).substr(0, size));
  }
}

std::optional<GcTime> changed_at(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return std::nullopt;
  return std::chrono::system_clock::from_time_t(info.st_ctim.tv_sec);
}

bool is_abandoned(const std::string& path) {
  const auto fd = base::open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  return fd && ::flock(fd->get(), LOCK_EX | LOCK_NB) == 0;
}

}  // namespace
}  // namespace oci
