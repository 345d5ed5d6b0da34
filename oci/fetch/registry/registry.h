// One repository on one host, as a client that only pulls sees it. Each call is one try; source.h tries again, and
// other hosts. spec: OCI distribution-spec "Pull"; Docker Registry HTTP API V2 token authentication
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

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

  struct Document {
    std::string media_type;
    Digest digest;
    std::string bytes;
  };
  struct Resolved {
    std::string media_type;            ///< "" if the answer does not say
    std::optional<Digest> digest;      ///< absent: this registry does not say; get the document to know
    std::optional<Document> document;  ///< what it names, if that had to be fetched to know
  };
  /// What the reference names now, without fetching it (rate limits count fetches), unless HEAD is refused.
  ///   errors  as manifest()
  base::Result<Resolved> resolve(const base::Context& ctx, HttpClient& http, Hint& hint);

  /// A manifest or index, by digest or (nullopt) by the reference itself. Its bytes match a digest that was asked for.
  /// An answer whose Content-Type says nothing has the type that the document itself has.
  ///   errors  kNotFound · kPermissionDenied (kPullDenied) · kUnavailable worth another try · kDataLoss wrong
  ///           digest · kInvalidArgument larger than kManifestBytesMax. What the registry gives as its reason is in the
  ///           message, but for secrets.
  base::Result<Document> manifest(const base::Context& ctx, HttpClient& http, const std::optional<Digest>& digest,
                                  Hint& hint);

  /// Whether the host lets in whoever has the credentials: asks for nothing but that.
  ///   errors  kPermissionDenied it does not, or only others · as manifest()
  base::Status check_access(const base::Context& ctx, HttpClient& http, Hint& hint);

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
  std::string reason_of(const std::string& body);
  base::Status choose_scheme(const base::Context& ctx, HttpClient& http);
  const Url& base() const { return *base_.load(); }

  std::string current_authorization();
  base::Result<std::string> authorize(const base::Context& ctx, HttpClient& http, const HttpResponse& denied_answer,
                                      const std::string& used);
  base::Result<bool> authorize_elsewhere(const base::Context& ctx, HttpClient& http, const Answer& answer);
  base::Result<Token> fetch_token(const base::Context& ctx, HttpClient& http, const Challenge& challenge,
                                  const Url& registry, const Credentials& credentials);
  base::Error token_error(const HttpResponse& response, const Url& url, const Credentials& credentials) const;

  const Host host_;
  Transport elsewhere_;  // of what this host redirects to, and of its token server
  const Reference reference_;
  const Credentials credentials_;
  std::string scope_;  // of tokens, where a challenge names none

  std::mutex scheme_mutex_;  // held while it is found out what the host speaks
  bool scheme_known_ = false;
  std::atomic<const Url*> base_{&host_.base};

  std::mutex auth_mutex_;  // held while a token is fetched, so that threads share one
  std::string authorization_;
  base::Deadline authorization_ends_ = base::Deadline::max();
  bool asked_to_authenticate_ = false;
  std::map<std::string, std::string>
      elsewhere_tokens_;             // origin → authorization: anonymous, where we are redirected to
  std::vector<std::string> issued_;  // tokens, which no message may have
};

}  // namespace oci::fetch
