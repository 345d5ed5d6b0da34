#include "oci/fetch/layers.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/fault.h"
#include "base/file.h"
#include "oci/fetch/decompress.h"
#include "oci/fetch/settle.h"

namespace oci::fetch {

/// A layer that is visible already has no blob; one that is not gets a staging folder when it is unpacked.
struct Layers::Layer {
  Digest digest;
  Digest diff_id;
  Digest chain_id;
  std::shared_ptr<Blob> blob;
  std::unique_ptr<Staging> staging;
  std::unique_ptr<Rootfs> rootfs;
  LayerTodo todo;
};

namespace {

/// The end of a run that was stopped by another thread's failure is no news.
bool is_resumable(const base::Error& error) {
  return error.code == base::Code::kUnavailable || error.code == base::Code::kCancelled ||
         error.code == base::Code::kDeadlineExceeded;
}

}  // namespace

Layers::Layers(const Store& store, Source& source, const std::vector<Descriptor>& descriptors,
               const std::vector<Digest>& diff_ids, LayerCounters& counters, Warn warn)
    : store_(store), source_(source), counters_(counters), warn_(std::move(warn)) {
  CHECK(descriptors.size() == diff_ids.size());
  const auto chain = chain_ids(diff_ids);
  std::map<Digest, std::shared_ptr<Blob>> by_digest;
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    auto layer = std::make_unique<Layer>(Layer{descriptors[i].digest, diff_ids[i], chain[i], {}, {}, {}, {}});
    if (store.has_layer(layer->chain_id)) {
      counters_.bytes_done += descriptors[i].size;
      ++counters_.layers_done;
    } else {
      auto& blob = by_digest[layer->digest];
      if (!blob) blobs_.push_back(blob = std::make_shared<Blob>(store, descriptors[i]));
      layer->blob = blob;
    }
    layers_.push_back(std::move(layer));
  }
}

Layers::~Layers() = default;

base::Status Layers::run(const base::Context& outer) {
  const std::stop_callback forward(outer.stop(), [this] { stop_.request_stop(); });
  const auto ctx = outer.with_stop(stop_.get_token());
  {
    std::vector<std::jthread> threads;
    const auto start = [&](std::size_t count, void (Layers::*work)(const base::Context&)) {
      for (std::size_t i = 0; i < count; ++i) threads.emplace_back([this, &ctx, work] { (this->*work)(ctx); });
    };
    const std::size_t cpus = std::max(1U, std::thread::hardware_concurrency());
    start(std::min<std::size_t>(blobs_.size(), kFetchesMax), &Layers::fetch_all);
    start(std::min({layers_.size(), cpus, std::size_t{kUnpacksMax}}), &Layers::unpack_all);
  }
  auto status = error_ ? base::Status(*error_) : base::Status();
  if (status) status = settle(ctx);
  if (status) status = commit();
  if (status) return status;
  for (auto& layer : layers_) layer->staging.reset();  // removed before the caller hears of it
  if (status.error().code == base::Code::kResourceExhausted) {
    remove_what_we_stored();
    return std::move(status).error().wrap(base::str("the image does not fit, free space below ", store_.path("")));
  }
  return status;
}

void Layers::fetch_all(const base::Context& ctx) {
  HttpClient http;
  for (std::size_t i = next_blob_++; i < blobs_.size(); i = next_blob_++) {
    auto status = fetch(ctx, http, *blobs_[i]);
    if (status) continue;
    fail(status.error());
    const std::lock_guard lock(error_mutex_);
    // Room is what is missing: nothing is kept for a later attempt.
    blobs_[i]->fail(status.error(), is_resumable(status.error()) && error_->code != base::Code::kResourceExhausted);
  }
}

base::Status Layers::fetch(const base::Context& ctx, HttpClient& http, Blob& blob) {
  TRY_VOID(ctx.check());
  TRY(const auto begin, blob.begin(ctx));
  counters_.bytes_done += blob.offset();
  if (begin == Blob::Begin::kPresent) return {};
  TRY_VOID(source_.blob(ctx, http, blob, counters_.bytes_done));
  FAULT_POINT("blob.mid");
  TRY_VOID(blob.commit());
  FAULT_POINT("blob.renamed");
  const std::lock_guard lock(stored_mutex_);
  stored_.push_back(blob.descriptor().digest);
  return {};
}

void Layers::unpack_all(const base::Context& ctx) {
  for (std::size_t i = next_layer_++; i < layers_.size(); i = next_layer_++) {
    Layer& layer = *layers_[i];
    if (!layer.blob) continue;
    if (auto status = unpack(ctx, layer); !status) fail(std::move(status).error());
  }
}

base::Status Layers::unpack(const base::Context& ctx, Layer& layer) {
  const std::string what = base::str("layer ", layer.digest.text());
  Blob& blob = *layer.blob;
  std::uint64_t taken = 0;
  TRY(auto decompressor, open_decompressor(
                             [&](std::span<char> out) -> base::Result<std::size_t> {
                               TRY(const std::size_t size, blob.read(ctx, taken, out));
                               taken += size;
                               return size;
                             },
                             what));
  Hasher hasher;
  std::uint64_t made = 0;
  const ReadTar read = [&]() -> base::Result<std::string_view> {
    TRY(const auto piece, decompressor->next());
    hasher.update(piece);
    made += piece.size();
    if (made > kExpansionFreeBytes && made / kExpansionMax > taken) {
      return base::Error::invalid_argument(base::str("it unpacks to more than ", kExpansionMax, " times its size"));
    }
    return piece;
  };
  TRY(layer.staging, Staging::create(ctx, store_));
  FAULT_POINT("layer.staging");
  layer.rootfs = std::make_unique<Rootfs>(layer.staging->fd(), [this](const std::string& text) {
    const std::lock_guard lock(warn_mutex_);
    warn_(text);
  });
  auto todo = unpack_layer(ctx, read, *layer.rootfs, UnpackLimits());
  if (todo) {
    if (const Digest digest = hasher.finish(); digest != layer.diff_id) {
      todo = base::Error::data_loss(
          base::str("its content has diff id ", digest.text(), ", but the image's config says ", layer.diff_id.text()));
    }
  }
  if (!todo) {
    if (todo.error().code == base::Code::kDataLoss && blob.remove_if_damaged().value_or(false)) {
      damaged_blob_removed_ = true;
    }
    auto error = std::move(todo).error();
    return error.message.starts_with(what) ? std::move(error) : std::move(error).wrap(what);
  }
  layer.todo = *std::move(todo);
  FAULT_POINT("layer.done");
  ++counters_.layers_done;
  return {};
}

// Bottom to top: each layer is fitted onto the finished ones below it.
base::Status Layers::settle(const base::Context& ctx) {
  LowerView lower;
  for (auto& layer : layers_) {
    if (layer->staging) {
      auto settled = settle_layer(ctx, *layer->rootfs, layer->todo, lower);
      if (!settled) return std::move(settled).error().wrap(base::str("layer ", layer->digest.text()));
    }
    TRY_VOID(lower.add(layer->staging ? layer->staging->path() : store_.layer_path(layer->chain_id)));
  }
  return {};
}

// One syncfs for all that the image has brought, instead of one a layer; then the names, then the folders of the names.
base::Status Layers::commit() {
  const bool any =
      std::any_of(layers_.begin(), layers_.end(), [](const auto& layer) { return layer->staging != nullptr; });
  if (!any) return {};
  TRY(const auto folder, base::open_file(store_.path("layers"), O_RDONLY | O_DIRECTORY));
  if (::syncfs(folder.get()) != 0) return base::Error::from_errno(errno, "making the layers durable");
  FAULT_POINT("layer.synced");
  for (auto& layer : layers_) {
    if (layer->staging) TRY_VOID(layer->staging->commit(store_.layer_path(layer->chain_id)));
  }
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
