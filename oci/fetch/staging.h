// Folders of the store where work is in progress, and the clearing away of what a killed helper left there.
//
// disk   ingest/layer-<pid>-<n>/   one layer being unpacked, locked (flock) by who unpacks it
//        ingest/<hex>              one blob being downloaded (blob.h)
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/store.h"

namespace oci::fetch {

/// A broken download is kept this long for somebody to go on with it.
constexpr std::chrono::hours kPartialLife{24};

/// An empty directory of our own, removed with all that is in it unless it was committed.
class Staging {
 public:
  static base::Result<std::unique_ptr<Staging>> create(const base::Context& ctx, const Store& store);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  int fd() const { return dir_.get(); }
  const std::string& path() const { return path_; }
  /// Gives it its final name; if another process has made the same in the meantime, ours is dropped. The content must
  /// be durable by now; the name is once its folder is synced.
  base::Status commit(const std::string& target);

 private:
  Staging(std::string path, base::Fd dir) : path_(std::move(path)), dir_(std::move(dir)) {}
  std::string path_;
  base::Fd dir_;
};

/// Removes what processes that are gone have left in ingest/: unpacked parts at once, broken downloads after
/// kPartialLife. Best effort: what cannot be removed now is tried again next time.
void remove_leftovers(const base::Context& ctx, const Store& store);

}  // namespace oci::fetch
