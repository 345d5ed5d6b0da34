#include "oci/fsck.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "base/dir.h"
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
  Fsck(const Context& ctx, Store& store, const FsckRequest& request, const ListUses& uses)
      : ctx_(ctx), store_(store), request_(request), uses_(uses) {}
  Result<FsckReport> run();

 private:
  Status find_recent();
  Status check_blobs();
  Status check_blob(const std::string& name);
  Status check_layers();
  Status check_layer(const std::string& name);
  Status check_leftovers();
  Status check_seals();
  Status check_images();
  void check_image(const ImageRecord& record);
  enum class For { kStarts, kOthers };
  struct Problem {
    Problem(std::string what) : text(std::move(what)) {}
    Problem(const char* what) : text(what) {}
    Problem(const base::Error& error);
    std::string text;
    bool unreadable = false;
  };
  void need(const ImageRecord& record, const std::string& path, For what, std::optional<Problem> problem = {});
  void repair();
  void remove(FsckFinding& finding);
  std::string why_it_stays(const FsckFinding& finding) const;
  bool is_suspicious(const std::string& path) const;
  Result<std::vector<std::string>> names(std::string_view folder) const;
  void find(std::string path, Problem problem) { found_.try_emplace(std::move(path), Found{std::move(problem), {}}); }

  struct Found {
    Problem problem;
    std::set<std::string> images;
    bool breaks_images = false;
  };
  const Context& ctx_;
  Store& store_;
  const FsckRequest& request_;
  const ListUses& uses_;
  GcTime suspicious_from_ = GcTime::min();
  std::map<std::string, Found> found_;         // by path in the store
  std::map<std::string, std::string> in_use_;  // layers, by path in the store: who needs them
  std::string unknown_use_;                    // "" = there is none besides
  FsckReport report_;
};

/// Digest and length of a file.
struct Hashed {
  Digest digest;
  std::uint64_t bytes = 0;
};
Result<Hashed> hash_file(const Context& ctx, const base::Fd& fd);
Result<std::optional<GcTime>> changed_at(const std::string& path);
bool is_abandoned(const std::string& path, bool is_dir);
bool is_being_written(const std::string& path, std::string_view name);

}  // namespace

bool FsckReport::clean() const {
  return problems.empty() &&
         std::all_of(findings.begin(), findings.end(), [](const FsckFinding& finding) { return finding.removed; });
}

Result<FsckReport> check_store(const Context& ctx, Store& store, const FsckRequest& request, const ListUses& uses) {
  return Fsck(ctx, store, request, uses).run();
}

namespace {

Result<FsckReport> Fsck::run() {
  struct stat info {};
  if (::stat(store_.path("oci-layout").c_str(), &info) != 0) {
    return base::Error::from_errno(errno, str("there is no image store, ", store_.path("oci-layout")));
  }
  if (request_.recent) TRY_VOID(find_recent());
  TRY_VOID(check_blobs());
  TRY_VOID(check_layers());
  {
    // With the lease: what is missing now is not merely on its way in or out.
    TRY(const auto alone, store_.lease(ctx_, Store::Lease::kExclusive));
    TRY_VOID(check_images());
    TRY_VOID(check_seals());
    for (auto& [path, found] : found_) {
      report_.findings.push_back({path, std::move(found.problem.text), std::move(found.images), found.breaks_images,
                                  found.problem.unreadable, false, ""});
    }
    if (request_.repair) repair();
  }
  TRY_VOID(check_leftovers());
  if (!request_.repair) return std::move(report_);
  for (base::Error& error : store_.empty_trash()) report_.problems.push_back(std::move(error.message));
  return std::move(report_);
}

Status Fsck::find_recent() {
  GcTime last = GcTime::min();
  for (const char* folder : {"blobs/sha256", "layers"}) {
    TRY(const auto all, names(folder));
    for (const std::string& name : all) {
      TRY(const auto changed, changed_at(store_.path(str(folder, "/", name))));
      if (changed && *changed < request_.recent->before) last = std::max(last, *changed);
    }
  }
  suspicious_from_ = last == GcTime::min() ? GcTime::max() : last - request_.recent->window;
  return {};
}

Status Fsck::check_blobs() {
  TRY(const auto all, names("blobs/sha256"));
  for (const std::string& name : all) {
    if (is_suspicious(str("blobs/sha256/", name))) TRY_VOID(check_blob(name));
  }
  return {};
}

Status Fsck::check_blob(const std::string& name) {
  TRY_VOID(ctx_.check());
  const std::string path = str("blobs/sha256/", name);
  if (is_being_written(store_.path(path), name)) return {};
  const auto expected = Digest::parse("sha256:" + name);
  const auto fd = open_stored_file(store_.path(path), O_RDONLY);
  if (!fd && fd.error().code == base::Code::kNotFound) return {};  // collected meanwhile
  struct stat info {};
  if (!fd && is_unreadable(fd.error())) {
    find(path, fd.error());
  } else if (fd && ::fstat(fd->get(), &info) != 0) {
    find(path, base::Error::from_errno(errno, "looking at it"));
  } else if (!expected || !fd) {
    find(path, "is not a blob");
  } else {
    ++report_.blobs;
    report_.blob_bytes += static_cast<std::uint64_t>(info.st_size);
    const auto hashed = hash_file(ctx_, *fd);
    TRY_VOID(ctx_.check());
    if (!hashed) {
      find(path, hashed.error());
    } else if (hashed->bytes < static_cast<std::uint64_t>(info.st_size)) {
      find(path, base::Error::from_errno(EIO, str("only ", hashed->bytes, " of ", info.st_size, " bytes")));
    } else if (hashed->digest != *expected) {
      find(path, str("has ", info.st_size, " bytes with digest ", hashed->digest.text()));
    }
  }
  return {};
}

Status Fsck::check_layers() {
  TRY(const auto all, names("layers"));
  for (const std::string& name : all) {
    if (is_suspicious(str("layers/", name))) TRY_VOID(check_layer(name));
  }
  return {};
}

Status Fsck::check_layer(const std::string& name) {
  TRY_VOID(ctx_.check());
  const std::string path = str("layers/", name);
  struct stat info {};
  if (::lstat(store_.path(path).c_str(), &info) != 0) {
    if (errno != ENOENT) find(path, base::Error::from_errno(errno, "looking at it"));
    return {};
  }
  const auto chain_id = Digest::parse("sha256:" + name);
  if (!chain_id || !S_ISDIR(info.st_mode)) {
    find(path, "is not a layer");
    return {};
  }
  ++report_.layers;
  const auto text = read_stored_file(store_.seal_path(*chain_id), kSealFileBytesMax, "the seal");
  if (!text && is_unreadable(text.error())) {
    find(str("seals/", name), text.error());
    return {};
  }
  const auto expected = text ? decode_seal(*text) : Result<Seal>(text.error());
  if (!expected) {
    ++report_.layers_without_seal;
    return {};
  }
  const auto seal = seal_layer(ctx_, store_.path(path));
  TRY_VOID(ctx_.check());
  const auto present = store_.has_layer(*chain_id);
  if (present && !*present) return {};  // collected meanwhile
  if (!seal) {
    find(path, seal.error());
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
  TRY(const auto all, names("ingest"));
  for (const std::string& name : all) {
    const std::string path = str("ingest/", name);
    if (!name.starts_with(kStagingPrefix) && !name.starts_with(kHoldPrefix)) continue;  // a download to go on with
    if (!is_abandoned(store_.path(path), name.starts_with(kStagingPrefix))) continue;
    FsckFinding finding{path, "was left behind by an interrupted pull", {}, false, false, false, ""};
    if (request_.repair) {
      const auto removed = base::remove_tree_at(alone.get(), name);
      finding.removed = removed.has_value();
      if (!removed) finding.stays = removed.error().message;
    }
    report_.findings.push_back(std::move(finding));
  }
  return {};
}

Status Fsck::check_seals() {
  TRY(const auto all, names("seals"));
  for (const std::string& name : all) {
    const auto chain_id = Digest::parse("sha256:" + name);
    if (chain_id) {
      const auto present = store_.has_layer(*chain_id);
      if (!present || *present || found_.contains(str("layers/", name))) continue;
    }
    find(str("seals/", name), "is the seal of no layer");
  }
  return {};
}

Status Fsck::check_images() {
  const auto records = store_.records();
  if (!records) {
    if (is_unreadable(records.error())) return records.error();
    find("index.json", records.error());
    return {};
  }
  report_.images = records->size();
  for (const ImageRecord& record : *records) check_image(record);
  return {};
}

// What is damaged is known by now; this finds what is missing, and which images need any of it.
void Fsck::check_image(const ImageRecord& record) {
  const auto document = [&](const Digest& digest, std::size_t bytes_max) -> std::optional<std::string> {
    auto text = store_.read_document(digest, bytes_max);
    need(record, str("blobs/sha256/", digest.hex()), For::kStarts,
         text ? std::nullopt : std::optional<Problem>(text.error()));
    if (!text) return std::nullopt;
    return *std::move(text);
  };
  const auto manifest_text = document(record.manifest_digest, kManifestBytesMax);
  if (!manifest_text) return;
  const auto parsed = parse_manifest(*manifest_text, record.media_type, record.reference);
  const auto* manifest = parsed ? std::get_if<Manifest>(&*parsed) : nullptr;
  if (manifest == nullptr) {
    return need(record, str("blobs/sha256/", record.manifest_digest.hex()), For::kStarts, "is not a manifest");
  }
  // A layer that came with another image, compressed differently, has no blob of this digest.
  for (const Descriptor& layer : manifest->layers) need(record, str("blobs/sha256/", layer.digest.hex()), For::kOthers);
  const auto config_text = document(manifest->config.digest, kConfigBytesMax);
  if (!config_text) return;
  const auto config = parse_config(*config_text, record.reference);
  if (!config) {
    return need(record, str("blobs/sha256/", manifest->config.digest.hex()), For::kStarts, "is not a config");
  }
  for (const Digest& chain_id : chain_ids(config->diff_ids)) {
    const std::string path = str("layers/", chain_id.hex());
    const auto present = store_.has_layer(chain_id);
    if (!present) {
      need(record, path, For::kStarts, present.error());
    } else {
      need(record, path, For::kStarts, *present ? std::nullopt : std::optional<Problem>("is missing"));
    }
  }
}

void Fsck::need(const ImageRecord& record, const std::string& path, For what, std::optional<Problem> problem) {
  if (problem) find(path, *std::move(problem));
  const auto found = found_.find(path);
  if (found == found_.end()) return;
  found->second.images.insert(record.reference);
  found->second.breaks_images |= what == For::kStarts;
}

// What cannot be removed stops nothing else.
void Fsck::repair() {
  const std::string root = store_.path("");
  const GcUses uses = uses_now(store_, uses_);
  for (const GcUse& use : uses.known) {
    for (const std::string& path : use.paths) {
      if (path.starts_with(root)) in_use_.emplace(path.substr(root.size()), use.user);
    }
  }
  if (!uses.unknown.empty()) unknown_use_ = uses.unknown.front();
  for (FsckFinding& finding : report_.findings) remove(finding);
  std::set<std::string> broken;
  for (const FsckFinding& finding : report_.findings) {
    if (finding.removed && finding.breaks_images) broken.insert(finding.images.begin(), finding.images.end());
  }
  const auto removed = store_.remove_records(ctx_, {broken.begin(), broken.end()});
  if (!removed) report_.problems.push_back(str("taking damaged images out of index.json: ", removed.error().message));
}

void Fsck::remove(FsckFinding& finding) {
  finding.stays = why_it_stays(finding);
  if (!finding.stays.empty()) return;
  const std::string path = store_.path(finding.path);
  Status removed;
  if (finding.path != "index.json") {
    removed = store_.discard(path);
  } else if (::rename(path.c_str(), store_.path(kDamagedIndex).c_str()) != 0) {
    // The names are lost; their content is found again by digest when they are pulled.
    removed = base::Error::from_errno(errno, str("renaming ", path, " to ", kDamagedIndex));
  }
  finding.removed = removed.has_value();
  if (!removed) finding.stays = removed.error().message;
}

// Containers run on layers, not on blobs: a blob can be replaced under them.
std::string Fsck::why_it_stays(const FsckFinding& finding) const {
  if (finding.unreadable) {
    return "it may be intact: repair again, or, if the disk is at fault, remove the image and pull it again";
  }
  if (!finding.path.starts_with("layers/")) return "";
  const auto user = in_use_.find(finding.path);
  if (user != in_use_.end()) return str(user->second, " uses it; stop it and repair again");
  return unknown_use_.empty() ? "" : str("may be in use: ", unknown_use_);
}

// If its age cannot be told, it is checked.
bool Fsck::is_suspicious(const std::string& path) const {
  if (!request_.recent) return true;
  const auto changed = changed_at(store_.path(path));
  if (!changed) return true;
  return *changed && **changed < request_.recent->before && **changed >= suspicious_from_;
}

Result<std::vector<std::string>> Fsck::names(std::string_view folder) const {
  auto all = base::list_dir(store_.path(folder));
  if (!all && all.error().code == base::Code::kNotFound) return std::vector<std::string>();
  return all;
}

Fsck::Problem::Problem(const base::Error& error) : text(error.message), unreadable(is_unreadable(error)) {
  if (unreadable) text.insert(0, "cannot be read: ");
}

Result<Hashed> hash_file(const Context& ctx, const base::Fd& fd) {
  Hasher hasher;
  std::uint64_t bytes = 0;
  std::string chunk(kReadBytes, '\0');
  for (;;) {
    TRY(const std::size_t size, base::read_some(ctx, fd.get(), chunk));
    if (size == 0) return Hashed{hasher.finish(), bytes};
    hasher.update(std::string_view(chunk).substr(0, size));
    bytes += size;
  }
}

// nullopt: it is gone.
Result<std::optional<GcTime>> changed_at(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) {
    return std::optional(std::chrono::system_clock::from_time_t(info.st_ctim.tv_sec));
  }
  if (errno == ENOENT) return std::optional<GcTime>();
  return base::Error::from_errno(errno, path);
}

bool is_abandoned(const std::string& path, bool is_dir) {
  const auto fd =
      is_dir ? base::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) : open_stored_file(path, O_RDONLY);
  return fd && ::flock(fd->get(), LOCK_EX | LOCK_NB) == 0;
}

// A document on its way to its name (base::write_file_atomic). After an hour it was left by a process that is gone.
bool is_being_written(const std::string& path, std::string_view name) {
  if (!name.starts_with(base::kTempPrefix)) return false;
  const auto changed = changed_at(path);
  return !changed || !*changed || std::chrono::system_clock::now() - **changed < std::chrono::hours(1);
}

}  // namespace
}  // namespace oci
