// Images as the driver and the command line see them: a reference goes in, an unpacked image comes out. What is not in
// the store yet is fetched and unpacked by the helper program (containerd-driver-image), never in this process.
//
// flow   ensure(ref) → find in the store, else spawn the helper, read its JSON lines, → Image (config, layer folders)
// disk   <data_dir> is an OCI image layout (oci-layout, index.json, blobs/sha256) plus ingest/, layers/<chain id>/, trash/
//        and lock; several processes may use it at once (flock).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/digest.h"

namespace oci {

/// The part of an image's config that a container is made from. All of it is the image author's word: hostile.
/// spec: image-spec config.md
struct ImageConfig {
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string working_dir;
  std::string user;
  std::string stop_signal;
  std::vector<std::string> volumes;
  std::map<std::string, std::string> labels;
  std::string os;
  std::string architecture;
  std::string variant;
};

/// A complete image in the store: every layer is unpacked.
struct Image {
  std::string reference;       ///< canonical: "docker.io/library/redis:7"
  Digest manifest_digest;      ///< of the platform's manifest
  Digest resolved_digest;      ///< what the tag resolved to (an index's digest, or manifest_digest)
  ImageConfig config;
  std::vector<std::string> layer_dirs;  ///< absolute paths of unpacked layers, bottom first; never empty
  std::uint64_t size_bytes = 0;         ///< compressed layers + config + manifest
};

struct Credentials {
  std::string username;
  std::string password;
  bool empty() const { return username.empty() && password.empty(); }
};

/// One step of a pull, for task events and progress bars.
struct PullProgress {
  std::uint64_t bytes_done = 0;    ///< downloaded now or already present
  std::uint64_t bytes_total = 0;   ///< 0 until the manifest is known
  int layers_done = 0;             ///< unpacked
  int layers_total = 0;
};

struct PullRequest {
  std::string reference;  ///< as the job gives it
  Credentials credentials;
  std::chrono::milliseconds timeout{std::chrono::minutes(5)};
  std::function<void(const PullProgress&)> on_progress;  ///< may be empty; called on the pulling thread
};

struct ImageSummary {
  std::string reference;
  Digest manifest_digest;
  std::uint64_t size_bytes = 0;
  std::string architecture;
  std::int64_t pulled_at_unix = 0;  ///< 0 if unknown
};

struct ImagesOptions {
  std::string data_dir;
  std::string helper;  ///< absolute path of containerd-driver-image
};

/// threads  every method from any thread; concurrent ensure() of one reference shares one helper run
class Images {
 public:
  explicit Images(ImagesOptions options);
  ~Images();
  Images(const Images&) = delete;
  Images& operator=(const Images&) = delete;

  /// The image, from the store if it is complete there, else pulled.
  ///   blocks  network and disk, until ctx ends or request.timeout passes
  ///   errors  kInvalidArgument malformed reference · kNotFound no such tag or repository · kPermissionDenied with the
  ///           sentence "pull access denied, repository does not exist or may require authorization" ·
  ///           kUnavailable connect, 5xx, 429 · kDeadlineExceeded · kResourceExhausted disk full, limits ·
  ///           kDataLoss digest or diffID mismatch (nothing is kept) · kFailedPrecondition wrong platform
  ///           kInternal the helper died
  base::Result<Image> ensure(const base::Context& ctx, const PullRequest& request);

  /// Pulls even if present (resolves the tag anew; content that is there is not fetched again).
  base::Result<Image> pull(const base::Context& ctx, const PullRequest& request);

  /// The image if it is complete in the store; kNotFound otherwise. Does not touch the network.
  base::Result<Image> find(const std::string& reference);

  base::Result<std::vector<ImageSummary>> list();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oci
