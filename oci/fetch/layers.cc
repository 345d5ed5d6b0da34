#include "oci/fetch/layers.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "base/fault.h"
#include "base/file.h"
#include "base/thread.h"
#include "oci/seal.h"

namespace oci::fetch {

/// One that is visible in the store already has no blob.
struct Layers::Layer {
  Digest digest;
  Digest diff_id;
  Digest chain_id;
  std::shared_ptr<Blob> blob;
  bool unpacked = false;
};

namespace {

/// The end of a run that was stopped by another thread's failure is no news.
bool is_resumable(const base::Error& error) {
  return error.code == base::Code::kUnavailable || error.code == base::Code::kCancelled ||
         error.code == base::Code::kDeadlineExceeded;
}

std::string name_of(const Digest& digest) {
  return base::str("layer ", digest.text());
}

}  // namespace

Layers::Layers(const Store& store, Source& source, const UnpackSite& site, const std::vector<Descriptor>& descriptors,
               const std::vector<Digest>& diff_ids, std::vector<LayerCounter>& counters,
               std::function<void(const std::string&)> warn)
    : store_(store), source_(source), site_(site), counters_(counters), warn_(std::move(warn)) {
  CHECK(descriptors.size() == diff_ids.size() && descriptors.size() == counters.size());
  const auto chain = chain_ids(diff_ids);
  std::map<Digest, std::shared_ptr<Blob>> by_digest;
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    Layer layer{descriptors[i].digest, diff_ids[i], chain[i], {}, false};
    // One that cannot be looked at is unpacked again, and then found in its place, or not.
    if (store.has_layer(layer.chain_id).value_or(false)) {
      counters_[i].bytes_done = descriptors[i].size;
      counters_[i].unpacked = true;
    } else {
      auto& blob = by_digest[layer.digest];
      if (!blob) blobs_.push_back(blob = std::make_shared<Blob>(store, descriptors[i]));
      layer.blob = blob;
    }
    layers_.push_back(std::move(layer));
  }
}

Layers::~Layers() = default;

base::Status Layers::run(const base::Context& ctx) {
  if (blobs_.empty()) return {};
  auto status = work(ctx);
  unpacker_.reset();
  staging_.reset();  // removed before the caller hears of it
  if (status) return status;
  if (status.error().code == base::Code::kResourceExhausted) {
    remove_what_we_stored();
    return std::move(status).error().wrap(base::str("the image does not fit, free space below ", store_.path("")));
  }
  return status;
}

base::Status Layers::work(const base::Context& ctx) {
  TRY(staging_, Staging::create(ctx, store_));
  FAULT_POINT("layer.staging");
  TRY_VOID(start_unpacker(ctx));
  TRY_VOID(fetch_and_unpack(ctx));
  TRY_VOID(settle(ctx));
  unpacker_->stop();  // nobody but us is in the staging folder any more
  TRY_VOID(seal(ctx));
  return commit();
}

base::Status Layers::start_unpacker(const base::Context& ctx) {
  StartUnpack request{staging_->name(), {}};
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].blob) {
      TRY_VOID(staging_->add(static_cast<int>(i)));
    } else {
      request.layers.emplace_back(layers_[i].chain_id.hex());
    }
  }
  TRY(unpacker_, site_.starter.start_unpack(ctx, request));
  return {};
}

base::Status Layers::fetch_and_unpack(const base::Context& outer) {
  const std::stop_callback forward(outer.stop(), [this] { stop_.request_stop(); });
  const auto ctx = outer.with_stop(stop_.get_token());
  {
    std::vector<std::jthread> threads;
    const std::size_t fetches = std::min<std::size_t>(blobs_.size(), kFetchesMax);
    while (threads.size() < fetches) {
      auto thread = base::start_thread("fetch", [this, &ctx] { fetch_all(ctx); });
      if (!thread && threads.empty()) fail(std::move(thread).error());
      if (!thread) break;  // fewer at once
      threads.push_back(*std::move(thread));
    }
    if (auto followed = follow(ctx); !followed) fail(std::move(followed).error());
  }
  return error_ ? base::Status(*error_) : base::Status();
}

void Layers::fetch_all(const base::Context& ctx) {
  HttpClient http;
  for (std::size_t i = next_blob_++; i < blobs_.size(); i = next_blob_++) {
    auto status = fetch(ctx, http, *blobs_[i]);
    if (status) continue;
    fail(status.error());
    const std::lock_guard lock(error_mutex_);
    // Nothing is kept for a later attempt at what cannot be unpacked, or if the disk is full.
    blobs_[i]->fail(is_resumable(status.error()) && !refused_ && error_->code != base::Code::kResourceExhausted);
  }
}

base::Status Layers::fetch(const base::Context& ctx, HttpClient& http, Blob& blob) {
  TRY_VOID(ctx.check());
  TRY(const auto begin, blob.begin(ctx));
  if (begin == Blob::Begin::kMissing && source_.has_several_origins(blob)) {
    const std::lock_guard lock(error_mutex_);
    arriving_.insert(&blob);
  }
  LayerCounter& counter = counter_of(blob);
  counter.bytes_done = blob.offset();
  counter.begun = true;
  TRY_VOID(hand_over(ctx, blob));
  if (begin == Blob::Begin::kPresent) return {};
  TRY_VOID(source_.blob(ctx, http, blob, counter.bytes_done));
  FAULT_POINT("blob.mid");
  TRY_VOID(store(blob));
  FAULT_POINT("blob.renamed");
  std::optional<UnpackFailed> unreadable;
  {
    const std::lock_guard lock(error_mutex_);
    arriving_.erase(&blob);
    if (const auto found = unreadable_.find(&blob); found != unreadable_.end()) unreadable = found->second;
  }
  if (unreadable) return explain(*std::move(unreadable));
  return {};
}

/// Whole, and what its digest says; else another of its origins may do better.
base::Status Layers::store(Blob& blob) {
  auto stored = blob.commit();
  if (stored) {
    const std::lock_guard lock(stored_mutex_);
    stored_.push_back(blob.descriptor().digest);
    return {};
  }
  if (stored.error().code != base::Code::kDataLoss) return stored;
  if (auto final = source_.reject(blob, stored.error())) return *std::move(final);
  worth_another_run_ = true;
  return stored;
}

/// An image may have the same content twice: it is counted for the lowest layer, until the others are unpacked.
LayerCounter& Layers::counter_of(const Blob& blob) {
  const auto layer =
      std::find_if(layers_.begin(), layers_.end(), [&](const Layer& l) { return l.blob.get() == &blob; });
  CHECK(layer != layers_.end());
  return counters_[static_cast<std::size_t>(layer - layers_.begin())];
}

/// To each layer that has this content: an image may have the same one twice.
base::Status Layers::hand_over(const base::Context& ctx, Blob& blob) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].blob.get() != &blob) continue;
    TRY(const auto fds, blob.open_for_reader(site_.store_view.get()));
    const UnpackLayer layer{static_cast<int>(i), name_of(layers_[i].digest), blob.descriptor().size};
    TRY_VOID(unpacker_->unpack(ctx, layer, fds));
  }
  return {};
}

/// Until all layers are unpacked, or one of them cannot be.
base::Status Layers::follow(const base::Context& ctx) {
  const auto is_done = [](const Layer& layer) { return !layer.blob || layer.unpacked; };
  while (!std::all_of(layers_.begin(), layers_.end(), is_done)) {
    TRY(auto message, unpacker_->next(ctx));
    if (const auto* unpacked = std::get_if<LayerUnpacked>(&message)) {
      TRY_VOID(check(*unpacked));
    } else if (auto* failed = std::get_if<UnpackFailed>(&message)) {
      TRY_VOID(judge(std::move(*failed)));
    } else if (const auto* warning = std::get_if<UnpackWarning>(&message)) {
      warn_(warning->text);
    } else {
      return base::Error::internal("the unpack stage sent an unexpected message");
    }
  }
  return {};
}

base::Status Layers::check(const LayerUnpacked& unpacked) {
  const auto number = static_cast<std::size_t>(unpacked.number);
  if (number >= layers_.size() || !layers_[number].blob || std::exchange(layers_[number].unpacked, true)) {
    return base::Error::internal("the unpack stage reported a layer that it was not given");
  }
  const Layer& layer = layers_[number];
  if (unpacked.diff_id != layer.diff_id) {
    return judge({unpacked.number, base::Error::data_loss(base::str(
                                       name_of(layer.digest), ": its content has diff id ", unpacked.diff_id.text(),
                                       ", but the image's config says ", layer.diff_id.text()))});
  }
  FAULT_POINT("layer.done");
  counters_[number].bytes_done = layer.blob->descriptor().size;
  counters_[number].unpacked = true;
  return {};
}

/// What cannot be unpacked while it arrives may be a host's fault, which shows when it is whole: fetch() tells then.
base::Status Layers::judge(UnpackFailed failed) {
  const auto number = static_cast<std::size_t>(failed.number);
  if (number < layers_.size()) {
    const std::lock_guard lock(error_mutex_);
    const Blob* blob = layers_[number].blob.get();
    if (arriving_.contains(blob)) {
      unreadable_.emplace(blob, std::move(failed));
      return {};
    }
  }
  return explain(std::move(failed));
}

/// What cannot be unpacked may be a blob of ours that was damaged on the disk: then it is removed. Else it is the
/// image.
base::Error Layers::explain(UnpackFailed failed) {
  const auto number = static_cast<std::size_t>(failed.number);
  const base::Code code = failed.error.code;
  if (code == base::Code::kDataLoss && number < layers_.size() && layers_[number].blob &&
      layers_[number].blob->remove_if_damaged().value_or(false)) {
    worth_another_run_ = true;
  } else {
    refused_ = code == base::Code::kDataLoss || code == base::Code::kInvalidArgument;
  }
  return std::move(failed.error);
}

base::Status Layers::settle(const base::Context& ctx) {
  SettleLayers request;
  for (const Layer& layer : layers_) request.from.push_back(layer.blob ? LayerFrom::kStaged : LayerFrom::kStored);
  TRY_VOID(unpacker_->settle(ctx, request));
  for (;;) {
    TRY(auto message, unpacker_->next(ctx));
    if (std::holds_alternative<LayersSettled>(message)) return {};
    if (auto* failed = std::get_if<UnpackFailed>(&message)) return std::move(failed->error);
    if (const auto* warning = std::get_if<UnpackWarning>(&message)) warn_(warning->text);
  }
}

// What is there now is right: diff ids have been compared, and nobody works in the folders any more.
base::Status Layers::seal(const base::Context& ctx) {
  TRY_VOID(base::make_dirs(store_.path("seals"), 0700));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].blob) continue;
    const int number = static_cast<int>(i);
    TRY(const Seal seal, seal_layer(ctx, staging_->path_of(number)));
    TRY_VOID(staging_->seal(number, encode(seal)));
  }
  return {};
}

// One syncfs for all that the image has brought, instead of one a layer; then the names, then the folders of the names.
base::Status Layers::commit() {
  TRY(const auto folder, base::open_file(store_.path("layers"), O_RDONLY | O_DIRECTORY));
  if (::syncfs(folder.get()) != 0) return base::Error::from_errno(errno, "making the layers durable");
  FAULT_POINT("layer.synced");
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].blob) continue;
    const Digest& chain_id = layers_[i].chain_id;
    TRY_VOID(staging_->commit(static_cast<int>(i), store_.layer_path(chain_id), store_.seal_path(chain_id)));
  }
  TRY_VOID(base::sync_dir(store_.path("seals")));
  TRY_VOID(base::sync_dir(store_.path("layers")));
  return base::sync_dir(store_.path("blobs/sha256"));
}

void Layers::fail(base::Error error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::move(error);
  }
  stop_.request_stop();
}

void Layers::remove_what_we_stored() {
  for (const Digest& digest : stored_) ::unlink(store_.blob_path(digest).c_str());
}

}  // namespace oci::fetch
