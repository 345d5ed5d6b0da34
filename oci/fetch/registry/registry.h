// One repository on one host, as a client that only pulls sees it. Each call is one try; source.h tries again, and
// other hosts. spec: OCI distribution-spec "Pull"; Docker Registry HTTP API V2 token authentication
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "base/context.h"
#include "base/result.h"
#include "oci/fetch/registry/auth.h"
#include "oci/fetch/registry/blob.h"
#include "oci/fetch/registry/hosts.h"
#include "oci/fetch/registry/http.h"
#include "oci/fetch/registry/url.h"
#include "oci/manifest.h"
#include "oci/reference.h"

namespace oci::fetch {

/// The longest wait that a registry may ask for before it is asked again.
inline constexpr std::chrono::seconds kRetryAfterMax{60};

constexpr int kRedirectsMax = 5;
/// What a registry says, word for word, to those whom it does not let in; operators' scripts look for it.
constexpr std::string_view kPullDenied = "pull access denied, repository does not exist or may require authorization";

/// threads: any; each thread brings its own HttpClient.
class Registry {
 public:
  /// The credentials are used if the host is the reference's own.
  Registry(Host host, Reference reference, const Credentials& credentials);

  /// What an answer said about trying again.
  struct Hint {
    std::chrono::seconds retry_after{0};
  };

  struct Resolved {
    std::string media_type;
    std::optional<Digest> digest;  ///< absent: this registry does not say; get the document to know
  };
  /// What the reference names now, without fetching it (rate limits count fetches).
  ///   errors  as manifest()
  base::Result<Resolved> resolve(const base::Context& ctx, HttpClient& http, Hint& hint);

  struct Document {
    std::string media_type;
    Digest digest;
    std::string bytes;
  };
  /// A manifest or index, by digest or (nullopt) by the reference itself. Its bytes match a digest that was asked for.
  ///   errors  kNotFound · kPermissionDenied (kPullDenied) · kUnavailable worth another try · kDataLoss wrong
  ///           digest · kInvalidArgument larger than kManifestBytesMax
  base::Result<Document> manifest(const base::Context& ctx, HttpClient& http, const std::optional<Digest>& digest,
                                  Hint& hint);

  /// Appends to `blob`, from its offset, until it has all its bytes or the answer ends. A broken connection is
  /// kUnavailable, and what came is kept: the next try, with any host, goes on from there.
  ///   errors  as manifest()
  base::Status blob(const base::Context& ctx, HttpClient& http, Blob& blob, std::atomic<std::uint64_t>& received,
                    Hint& hint);

  const Host& host() const { return host_; }

 private:
  struct Answer {
    HttpResponse response;
    Url url;  // after redirects
  };
  base::Result<Url> url_of(std::string_view kind, std::string_view name) const;
  base::Result<HttpResponse> ask(const base::Context& ctx, HttpClient& http, const HttpRequest& request,
                                 const BodySink& sink);
  base::Result<Answer> follow(const base::Context& ctx, HttpClient& http, HttpRequest request, const BodySink& sink);
  const Transport& transport_for(const Url& url) const;
  base::Error error_of(const HttpResponse& response, std::string_view what, Hint& hint);

  std::string current_authorization();
  base::Result<std::string> authorize(const base::Context& ctx, HttpClient& http, const HttpResponse& denied,
                                      const std::string& used);
  base::Result<Token> fetch_token(const base::Context& ctx, HttpClient& http, const Challenge& challenge);

  const Host host_;
  Transport elsewhere_;  // of what this host redirects to, and of its token server
  const Reference reference_;
  const Credentials credentials_;

  std::mutex auth_mutex_;  // held while a token is fetched, so that threads share one
  std::string authorization_;
  base::Deadline authorization_ends_ = base::Deadline::max();
  bool asked_to_authenticate_ = false;
};

}  // namespace oci::fetch
