#include "oci/fetch/pull.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/fault.h"
#include "base/file.h"
#include "base/thread.h"
#include "oci/fetch/import_archive.h"
#include "oci/fetch/registry/source.h"
#include "oci/fetch/staging.h"
#include "oci/hold.h"
#include "oci/manifest.h"
#include "oci/reference.h"
#include "oci/store.h"

namespace oci::fetch {

namespace {

constexpr int kIndexDepthMax = 4;  // an index of indexes of …
constexpr int kDocumentsMax = 64;  // manifests and indexes fetched while looking for one that fits
constexpr int kAttemptsMax = 16;   // each after a blob turned out wrong; Source::reject ends that for one blob
constexpr std::chrono::milliseconds kReportInterval{100};

/// One run of pull_image().
class Pull {
 public:
  Pull(const HelperRequest& request, Reference reference, std::vector<Host> hosts, const UnpackSite& site,
       const EventSink& sink, const Confirm& confirm)
      : reference_(std::move(reference)),
        store_(request.data_dir),
        site_(site),
        sink_(sink),
        confirm_(confirm),
        platform_(request.platform),
        source_(std::move(hosts), reference_, request.credentials, [this](const std::string& text) { warn(text); }) {}
  base::Status run(const base::Context& ctx);
  /// Goes on from an index or manifest.
  base::Status run_from(const base::Context& ctx, Registry::Document root);

 private:
  base::Result<Registry::Document> root_document(const base::Context& ctx, const Registry::Resolved& resolved);
  base::Status confirm(const base::Context& ctx, const Registry::Document& root);
  struct Chosen {
    Registry::Document document;
    Manifest manifest;
  };
  bool is_current(const std::optional<Digest>& resolved);
  base::Result<Registry::Document> document(const base::Context& ctx, const std::optional<Digest>& digest,
                                            std::string_view media_type);
  base::Result<Chosen> choose(const base::Context& ctx, Registry::Document document, int depth);
  base::Result<ConfigDocument> fetch_config(const base::Context& ctx, const Manifest& manifest);
  base::Status fetch_document(const base::Context& ctx, const Descriptor& descriptor);
  base::Status check_config(const ConfigDocument& config, const Manifest& manifest) const;
  base::Result<Platform> platform() const;
  base::Status fetch_layers(const base::Context& ctx, const Manifest& manifest, const ConfigDocument& config);
  void report(const PullProgress& progress);
  void warn(const std::string& text);

  const Reference reference_;
  Store store_;
  const UnpackSite& site_;
  const EventSink& sink_;
  const Confirm& confirm_;
  const std::string platform_;  // as wanted_platform() says it
  std::mutex sink_mutex_;
  Source source_;
  HttpClient http_;
  int documents_ = 0;
};

/// One run of load_archive(): entry by entry. One that is no image, or none for this node, is no reason to fail the
/// rest.
struct ArchiveRun {
  const HelperRequest& request;
  const UnpackSite& site;
  const EventSink& sink;
  const Confirm& confirm;
  HelperDone done;
  std::string offered;
  std::optional<base::Error> failure;  // the first

  /// Errors end the whole run.
  base::Status load(const base::Context& ctx, const ArchivedImage& image);
  void leave_out(const std::string& name, base::Error error);
  HelperDone finish();

  struct Stored {
    std::optional<int> fit;  // of the platform that the entry named
  };
  std::map<std::string, Stored> stored = {};
  std::map<std::string, std::string> left_out = {};  // name → why
};

base::Result<Reference> reference_in_archive(const ArchivedImage& image);
base::Status check_own_digest(const ArchivedImage& image, const Reference& reference);
std::vector<Digest> blobs_of(const Digest& manifest_digest, const Manifest& manifest);
bool is_called(const ArchivedImage& image, const Reference& reference, const std::string& name);

}  // namespace

base::Status pull_image(const base::Context& ctx, const HelperRequest& request, std::vector<Host> hosts,
                        const UnpackSite& site, const EventSink& sink, const Confirm& confirm) {
  TRY(auto reference, Reference::parse(request.reference));
  return Pull(request, std::move(reference), std::move(hosts), site, sink, confirm).run(ctx);
}

base::Result<HelperDone> load_archive(const base::Context& ctx, const HelperRequest& request, const UnpackSite& site,
                                      const EventSink& sink, const Confirm& confirm) {
  const Store store(request.data_dir);
  TRY_VOID(store.create());
  remove_leftovers(ctx, store);
  TRY(const auto hold, Hold::create(ctx, store, "a load from an archive"));
  TRY(const auto images, import_archive(ctx, store, *hold, kArchiveFd));
  ArchiveRun run{request, site, sink, confirm, {}, {}, {}};
  for (const ArchivedImage& image : images) TRY_VOID(run.load(ctx, image));
  if (!run.done.references.empty()) return run.finish();
  if (run.failure) return *run.failure;
  return base::Error::not_found(base::str("the archive holds no image ", request.reference, ", only ", run.offered));
}

namespace {

/// Whether this says something about an entry, and nothing about the next.
bool is_of_entry(const base::Error& error) {
  switch (error.code) {
    case base::Code::kInvalidArgument:
    case base::Code::kFailedPrecondition:
    case base::Code::kNotFound:
    case base::Code::kDataLoss:
      return true;
    default:
      return false;
  }
}

base::Status ArchiveRun::load(const base::Context& ctx, const ArchivedImage& image) {
  if (image.is_attestation && (image.problem || request.reference.empty())) return {};  // was never meant to run
  const auto reference = reference_in_archive(image);
  const std::string name = reference ? reference->canonical() : image.name;
  offered += base::str(offered.empty() ? "" : ", ", name);
  if (!request.reference.empty() && !(reference && is_called(image, *reference, request.reference))) return {};
  if (image.problem) return leave_out(name, *image.problem), base::Status();
  if (!reference) return leave_out(name, reference.error()), base::Status();
  if (auto own = check_own_digest(image, *reference); !own) return leave_out(name, own.error()), base::Status();
  TRY(const Platform wanted,
      request.platform.empty() ? base::Result<Platform>(host_platform()) : parse_platform(request.platform));
  const auto fits = image.platform ? fit(*image.platform, wanted) : std::nullopt;
  if (const auto other = stored.find(name); other != stored.end() && other->second.fit && fits >= other->second.fit) {
    return {};  // the same for a platform that fits no better
  }
  if (image.platform && !fits) {
    leave_out(name, base::Error::failed_precondition(
                        base::str(name, " is for ", to_string(*image.platform), ", not for ", to_string(wanted))));
    return {};
  }
  Pull pull(request, *reference, {}, site, sink, confirm);
  auto loaded = pull.run_from(ctx, {image.media_type, image.digest, image.document});
  if (!loaded && !is_of_entry(loaded.error())) return loaded;
  if (!loaded) return leave_out(name, std::move(loaded).error()), base::Status();
  if (!stored.contains(name)) done.references.push_back(name);
  stored[name] = {fits};
  return {};
}

void ArchiveRun::leave_out(const std::string& name, base::Error error) {
  left_out.emplace(name, error.message);
  if (!failure) failure = std::move(error);
}

/// What is there under its name, from another entry, is not left out.
HelperDone ArchiveRun::finish() {
  for (const auto& [name, why] : left_out) {
    if (stored.contains(name)) continue;
    done.left_out.push_back(name.empty() ? why : why.starts_with(name) ? why : base::str(name, ": ", why));
  }
  return std::move(done);
}

// What has no name, or only a tag, still needs one in the store.
base::Result<Reference> reference_in_archive(const ArchivedImage& image) {
  if (image.name.empty()) return Reference::parse(base::str("localhost/archive@", image.digest.text()));
  auto reference = Reference::parse(image.only_tag ? base::str("localhost/archive:", image.name) : image.name);
  if (!reference) return std::move(reference).error().wrap("a name in the archive");
  return reference;
}

// Whoever asks for an image by its digest must get that one, whatever a file calls itself.
base::Status check_own_digest(const ArchivedImage& image, const Reference& reference) {
  if (!reference.digest() || *reference.digest() == image.digest) return {};
  return base::Error::invalid_argument(base::str("the archive calls an image ", reference.canonical(),
                                                 ", but its digest is ", image.digest.text(),
                                                 "; name it by a tag, or save it again"));
}

bool is_called(const ArchivedImage& image, const Reference& reference, const std::string& name) {
  if (image.name == name) return true;
  const auto wanted = Reference::parse(name);
  return wanted && wanted->canonical() == reference.canonical();
}

base::Status Pull::run(const base::Context& ctx) {
  TRY_VOID(store_.create());
  remove_leftovers(ctx, store_);
  TRY(const auto resolved, source_.resolve(ctx, http_));
  const bool current = is_current(resolved.digest);
  if (current && !confirm_) return {};

  TRY(auto root, root_document(ctx, resolved));
  if (current) return confirm(ctx, root);
  return run_from(ctx, std::move(root));
}

// What HEAD says of its type is only good for comparing: the document is what GET says, and what it says itself.
base::Result<Registry::Document> Pull::root_document(const base::Context& ctx, const Registry::Resolved& resolved) {
  if (resolved.document) return *resolved.document;
  auto root = document(ctx, resolved.digest, "");
  const bool has_other_name = resolved.digest && !reference_.digest();
  if (root || root.error().code != base::Code::kNotFound || !has_other_name) return root;
  return document(ctx, std::nullopt, "");  // some have manifests by their tag only
}

base::Status Pull::confirm(const base::Context& ctx, const Registry::Document& root) {
  if (!confirm_) return {};
  return confirm_(ctx, {reference_.canonical(), {root.media_type, root.digest, root.bytes.size(), {}, false}});
}

base::Status Pull::run_from(const base::Context& ctx, Registry::Document root) {
  TRY_VOID(confirm(ctx, root));
  const Digest resolved_digest = root.digest;
  const std::string resolved_media_type = root.media_type;
  const std::uint64_t resolved_bytes = root.bytes.size();
  TRY(const auto chosen, choose(ctx, std::move(root), 0));
  TRY(const auto hold, Hold::create(ctx, store_, base::str("a pull of ", reference_.canonical())));
  TRY_VOID(hold->add_blobs(ctx, blobs_of(chosen.document.digest, chosen.manifest)));
  TRY(const auto config, fetch_config(ctx, chosen.manifest));
  TRY_VOID(check_config(config, chosen.manifest));
  TRY_VOID(hold->add_layers(ctx, chain_ids(config.diff_ids)));
  TRY_VOID(fetch_layers(ctx, chosen.manifest, config));

  FAULT_POINT("layer.committed");
  TRY_VOID(put_document(store_, chosen.document.digest, chosen.document.bytes));
  const ImageRecord record{reference_.canonical(),
                           chosen.manifest.media_type,
                           chosen.document.digest,
                           chosen.document.bytes.size(),
                           resolved_digest,
                           config.config.architecture,
                           static_cast<std::int64_t>(std::time(nullptr)),
                           resolved_media_type,
                           resolved_bytes,
                           {},
                           platform_};
  return store_.put_record(ctx, record);
}

std::vector<Digest> blobs_of(const Digest& manifest_digest, const Manifest& manifest) {
  std::vector<Digest> digests = {manifest_digest, manifest.config.digest};
  for (const Descriptor& layer : manifest.layers) digests.push_back(layer.digest);
  return digests;
}

// The tag still names what we have, and all of it is there.
bool Pull::is_current(const std::optional<Digest>& resolved) {
  if (!resolved) return false;
  const auto record = store_.record(reference_.canonical());
  if (!record || record->platform != platform_) return false;
  if (record->resolved_digest != *resolved && record->manifest_digest != *resolved) return false;
  const auto image = store_.load(*record);
  if (!image) return false;
  const auto layers = static_cast<int>(image->layer_dirs.size());
  report({image->size_bytes, image->size_bytes, layers, layers});
  return true;
}

// From the store if it is there (a good copy, by its digest), else from the registry.
base::Result<Registry::Document> Pull::document(const base::Context& ctx, const std::optional<Digest>& digest,
                                                std::string_view media_type) {
  if (++documents_ > kDocumentsMax) {
    return base::Error::invalid_argument(base::str("the index refers to more than ", kDocumentsMax, " documents"));
  }
  if (digest) {
    if (auto bytes = store_.read_document(*digest, kManifestBytesMax)) {
      return Registry::Document{media_type.empty() ? media_type_in(*bytes) : std::string(media_type), *digest,
                                *std::move(bytes)};
    }
  }
  TRY(auto document, source_.manifest(ctx, http_, digest));
  if (!media_type.empty()) document.media_type = media_type;
  return document;
}

base::Result<Pull::Chosen> Pull::choose(const base::Context& ctx, Registry::Document document, int depth) {
  const std::string what = base::str(depth == 0 ? reference_.canonical() : "manifest " + document.digest.text());
  TRY(auto parsed, parse_manifest(document.bytes, document.media_type, what));
  if (auto* manifest = std::get_if<Manifest>(&parsed)) return Chosen{std::move(document), std::move(*manifest)};
  if (depth == kIndexDepthMax) {
    return base::Error::invalid_argument(base::str(what, ": indexes are nested more than ", kIndexDepthMax, " deep"));
  }
  TRY(const Platform wanted, platform());
  TRY(const auto entries, candidates(std::get<Index>(parsed), wanted, what));
  base::Error last = base::Error::internal("no candidate");
  for (const Descriptor& entry : entries) {
    TRY(auto next, this->document(ctx, entry.digest, entry.media_type));
    if (next.bytes.size() != entry.size) {
      return base::Error::data_loss(base::str("manifest ", entry.digest.text(), " has ", next.bytes.size(),
                                              " bytes, but the index says ", entry.size));
    }
    auto chosen = choose(ctx, std::move(next), depth + 1);
    // A nested index may have nothing for us, and an entry without a platform may be for another: try the next.
    if (chosen && !entry.platform) {
      TRY(const auto config, fetch_config(ctx, chosen->manifest));
      if (auto fits = check_config(config, chosen->manifest); !fits) chosen = std::move(fits).error();
    }
    if (chosen || chosen.error().code != base::Code::kFailedPrecondition) return chosen;
    last = std::move(chosen).error();
  }
  return last;
}

base::Result<ConfigDocument> Pull::fetch_config(const base::Context& ctx, const Manifest& manifest) {
  const Digest& digest = manifest.config.digest;
  const std::string what = base::str("config ", digest.text());
  auto text = store_.read_document(digest, kConfigBytesMax);
  if (!text) {
    TRY_VOID(fetch_document(ctx, manifest.config));
    text = store_.read_document(digest, kConfigBytesMax);
  }
  if (!text) return std::move(text).error();
  return parse_config(*text, what);
}

base::Status Pull::fetch_document(const base::Context& ctx, const Descriptor& descriptor) {
  for (;;) {
    TRY_VOID(ctx.check());
    Blob blob(store_, descriptor);
    TRY(const auto begin, blob.begin(ctx));
    if (begin == Blob::Begin::kPresent) {
      // Another pull has stored it meanwhile, or it has the right size, yet is not what its name says.
      TRY(const bool damaged, blob.remove_if_damaged());
      if (damaged) continue;
      return {};
    }
    std::atomic<std::uint64_t> received{0};
    if (auto fetched = source_.blob(ctx, http_, blob, received); !fetched) {
      blob.fail(false);
      return fetched;
    }
    auto stored = blob.commit();
    if (stored || stored.error().code != base::Code::kDataLoss) return stored;
    if (auto final = source_.reject(blob, stored.error())) return *std::move(final);
  }
}

base::Status Pull::check_config(const ConfigDocument& config, const Manifest& manifest) const {
  const std::string name = reference_.canonical();
  if (config.diff_ids.size() != manifest.layers.size()) {
    return base::Error::invalid_argument(base::str(name, " has ", manifest.layers.size(),
                                                   " layers, but its config has ", config.diff_ids.size(),
                                                   " diff ids; push the image again"));
  }
  const auto& image = config.config;
  TRY(const Platform wanted, platform());
  Platform built_for{image.os, image.architecture, image.variant, {}};
  if (image.architecture.empty()) {  // old tools did not say
    built_for.architecture = wanted.architecture;
    built_for.variant = wanted.variant;
  }
  if (fit(built_for, wanted)) return {};
  return base::Error::failed_precondition(base::str(name, " is for ", to_string(built_for), ", and ",
                                                    platform_.empty() ? "this host is " : "platform is ",
                                                    to_string(wanted), "; use an image for this platform"));
}

base::Result<Platform> Pull::platform() const {
  if (platform_.empty()) return host_platform();
  return parse_platform(platform_);
}

PullProgress progress_of(const std::vector<Descriptor>& layers, const std::vector<LayerCounter>& counters) {
  PullProgress progress;
  progress.layers_total = static_cast<int>(layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::uint64_t done = std::min<std::uint64_t>(counters[i].bytes_done, layers[i].size);
    progress.bytes_done += done;
    progress.bytes_total += layers[i].size;
    if (counters[i].unpacked) {
      ++progress.layers_done;
    } else if (counters[i].begun) {
      progress.under_way.push_back({layers[i].digest, done, layers[i].size});
    }
  }
  return progress;
}

base::Status Pull::fetch_layers(const base::Context& ctx, const Manifest& manifest, const ConfigDocument& config) {
  for (int attempt = 0;; ++attempt) {
    std::vector<LayerCounter> counters(manifest.layers.size());
    Layers layers(store_, source_, site_, manifest.layers, config.diff_ids, counters,
                  [this](const std::string& text) { warn(text); });
    base::Status status;
    {
      TRY(const std::jthread reporter, base::start_thread("progress", [&](const std::stop_token& stop) {
            do report(progress_of(manifest.layers, counters));
            while (base::Context::background().with_stop(stop).sleep(kReportInterval));
            report(progress_of(manifest.layers, counters));
          }));
      status = layers.run(ctx);
    }
    // A blob of ours was bad, or a host's, and is gone now: once more, from the registry, or from the next host.
    if (status || attempt == kAttemptsMax || !layers.worth_another_run()) return status;
  }
}

void Pull::report(const PullProgress& progress) {
  const std::lock_guard lock(sink_mutex_);
  sink_(progress);
}

void Pull::warn(const std::string& text) {
  const std::lock_guard lock(sink_mutex_);
  sink_(HelperWarning{text});
}

}  // namespace

}  // namespace oci::fetch
