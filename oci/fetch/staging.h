// Folders of the store where work is in progress, and the clearing away of what a killed helper left there.
//
// disk   ingest/layers-<pid>-<n>/<number>/   one layer being unpacked; the folder above it is locked (flock) by who has
//                                            it unpacked
//        ingest/layers-<pid>-<n>/<number>    or one file of an archive (import_archive.h)
//        ingest/<hex>                        one blob being downloaded (blob.h)
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/store.h"

namespace oci::fetch {

/// A broken download is kept this long for somebody to go on with it.
constexpr std::chrono::hours kPartialLife{24};

/// A directory of our own, for a folder of each layer or the files of an archive; removed with all that is in it and
/// was not committed.
class Staging {
 public:
  static base::Result<std::unique_ptr<Staging>> create(const base::Context& ctx, const Store& store);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Its name in ingest/.
  const std::string& name() const { return name_; }
  std::string path_of(int number) const { return path_ + "/" + std::to_string(number); }
  /// Makes the folder `number`, which is to become the root directory of a layer.
  base::Status add(int number);
  /// Keeps the seal of the folder `number` beside it, until commit().
  base::Status seal(int number, std::string_view text);
  /// Gives the folder, and then its seal, their final names; if another process has made the same in the meantime, ours
  /// are dropped. The content must be durable by now; the names are once their folders are synced.
  ///   errors  kInternal it is not the folder that add() has made: whoever worked in here was taken over
  base::Status commit(int number, const std::string& target, const std::string& seal_target);

 private:
  Staging(std::string path, std::string name, base::Fd dir)
      : path_(std::move(path)), name_(std::move(name)), dir_(std::move(dir)) {}
  const std::string path_;
  const std::string name_;
  const base::Fd dir_;
  std::map<int, base::Fd> folders_;
};

/// Removes what processes that are gone have left in ingest/: unpacked parts and holds at once, broken downloads
/// after kPartialLife. Best effort: what cannot be removed now is tried again next time.
void remove_leftovers(const base::Context& ctx, const Store& store);

}  // namespace oci::fetch
