// Images as the driver and the command line see them: a reference goes in, an unpacked image comes out. What is not in
// the store yet is fetched and unpacked by the helper program (containerd-driver-image), never in this process.
//
// flow   ensure(ref) → find in the store, else spawn the helper, read its JSON lines, → Image (config, layer folders)
// disk   <data_dir> is an OCI image layout, see store.h; several processes may use it at once
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/digest.h"
#include "oci/gc.h"
#include "oci/image.h"
#include "oci/manifest.h"

namespace oci {

struct Credentials {
  std::string username;  ///< "" with a password: that is an identity token, good for the token server only
  std::string password;
  bool empty() const { return username.empty() && password.empty(); }
};

/// Decides whether an image may be used: asked when it is known what its name leads to, before anything of it but that
/// manifest is fetched.
struct ImageVerifier {
  std::string id;  ///< changes with the verifiers: what others have approved needs their approval, too
  /// The reason for the approval, or the refusal. Any thread, several at a time.
  ///   blocks  until ctx ends
  std::function<base::Result<std::string>(const base::Context& ctx, const std::string& reference,
                                          const Descriptor& image)>
      ask;
};

/// A layer that is being fetched or unpacked.
struct LayerProgress {
  Digest digest;
  std::uint64_t bytes_done = 0;   ///< downloaded; once it is bytes_total, the layer is being unpacked
  std::uint64_t bytes_total = 0;  ///< as the manifest says
  bool operator==(const LayerProgress&) const = default;
};

/// One step of a pull, for task events and progress bars.
struct PullProgress {
  std::uint64_t bytes_done = 0;   ///< downloaded now or already present
  std::uint64_t bytes_total = 0;  ///< 0 until the manifest is known
  int layers_done = 0;            ///< unpacked
  int layers_total = 0;
  std::vector<LayerProgress> under_way = {};
  bool operator==(const PullProgress&) const = default;
};

struct PullRequest {
  std::string reference;  ///< as the job gives it
  Credentials credentials;
  std::string platform = {};  ///< "linux/arm64"; "" = this host's
  std::chrono::milliseconds timeout{std::chrono::minutes(5)};
  /// May be null. Else the image that is returned has its approval, given during this pull.
  std::shared_ptr<const ImageVerifier> verifier = {};
  /// May be empty. Called on another thread, a few times a second at most, never after ensure() or pull() returned.
  std::function<void(const PullProgress&)> on_progress;
  /// May be empty. The same for what a user should know: an unreachable mirror, a repeated download.
  std::function<void(const std::string& text)> on_warning;
  /// May be empty. Called before anything else if this call waits for another caller's pull of the image.
  std::function<void()> on_shared;
};

/// Where hosts.toml files are looked for; containerd's and Docker's places, too, so that their configuration applies.
inline constexpr char kHostsDirDefault[] = "/etc/containerd-driver/certs.d:/etc/containerd/certs.d:/etc/docker/certs.d";

struct ImagesOptions {
  std::string data_dir;
  std::string helper;  ///< absolute path of containerd-driver-image
  ListUses uses = {};  ///< what collect() must keep; without it, collect() refuses
  /// Folders with the mirrors and certificates of registries (fetch/registry/hosts.h), separated by ":".
  std::string hosts_dir = kHostsDirDefault;
};

/// What came of an archive.
struct Loaded {
  std::vector<std::string> references;  ///< canonical, of what is in the store now
  std::vector<std::string> left_out;    ///< for a person: what is not, and why; nothing that was never meant to run
};

/// threads  every method from any thread; concurrent ensure() of one reference shares one helper run
class Images {
 public:
  explicit Images(ImagesOptions options);
  /// Stops what runs; no call may be under way.
  ~Images();
  Images(const Images&) = delete;
  Images& operator=(const Images&) = delete;

  /// The image, from the store if it is complete there, else pulled; what the store has but cannot read now is not
  /// fetched over. Callers that want the same image with the same
  /// credentials share one pull; it goes on for the others when one of them leaves, and is stopped when the last does.
  ///   blocks  network and disk, until ctx ends or request.timeout passes
  ///   errors  kInvalidArgument malformed reference, manifest or layer, or one past a limit · kNotFound no such tag or
  ///           repository · kPermissionDenied with the sentence "pull access denied, repository does not exist or may
  ///           require authorization" · kUnavailable connect, 5xx, 429 · kDeadlineExceeded · kResourceExhausted disk
  ///           full · kDataLoss digest or diffID mismatch (nothing is kept) · kFailedPrecondition wrong platform, no
  ///           image, or no usable helper · kInternal the helper died · the verifier's own
  base::Result<Image> ensure(const base::Context& ctx, const PullRequest& request);

  /// Pulls even if present (resolves the tag anew; content that is there is not fetched again).
  base::Result<Image> pull(const base::Context& ctx, const PullRequest& request);

  /// Asks the registry at `host` ("docker.io", "registry.example.com:5000") whether it accepts the credentials. Nothing
  /// is fetched.
  ///   errors  kPermissionDenied it does not · kInvalidArgument malformed host · kUnavailable · as pull()
  base::Status check_login(const base::Context& ctx, const std::string& host, const Credentials& credentials);

  /// Reads images from an archive (docker save, OCI layout, in a tar or as a folder) behind `fd`, and unpacks them.
  ///   in      name  which of those in it, "" = all
  ///   out     at least one reference
  ///   blocks  disk, until ctx ends
  ///   errors  kInvalidArgument no such archive, or damaged · kNotFound no image of that name in it · as ensure()
  base::Result<Loaded> load(const base::Context& ctx, const base::Fd& fd, const std::string& name,
                            const std::function<void(const PullProgress&)>& on_progress,
                            const ImageVerifier* verifier = nullptr, const std::string& platform = "");

  /// Makes sure that an image of the store has the verifier's approval: the one on record if these verifiers gave it
  /// for this very content, else it is asked for and recorded.
  ///   errors  the verifier's own · kAborted: the image was replaced meanwhile
  base::Result<Verdict> verify(const base::Context& ctx, const Image& image, const ImageVerifier& verifier);

  /// The image if it is complete in the store; kNotFound otherwise. Does not touch the network. Counts as a use.
  base::Result<Image> find(const std::string& reference);
  /// The same, for the image that was pulled for `platform` ("" = this host's): a name holds one platform at a time.
  ///   errors  kInvalidArgument malformed reference or platform
  base::Result<Image> find(const std::string& reference, const std::string& platform);

  /// While it is held nothing is collected: from find() until the record that keeps the image is on disk. Released with
  /// the descriptor.
  base::Result<base::Fd> lease(const base::Context& ctx);
  /// Removes images and garbage, see Collector::run.
  base::Result<GcReport> collect(const base::Context& ctx, const GcRequest& request);
  /// Free bytes of the store's file system; kNotFound without a store.
  base::Result<std::uint64_t> free_bytes() const;

  base::Result<std::vector<ImageSummary>> list();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oci
