#include "oci/fetch/registry/registry.h"

#include <strings.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "oci/fetch/registry/answer.h"

namespace oci::fetch {

namespace {

// All four, always: some registries answer 404 for a kind that is not listed, even with "*/*" at the end.
constexpr std::string_view kAcceptManifests =
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kAuthorization = "Authorization: ";

base::Status discard(const HttpResponse&, std::string_view) {
  return {};
}
bool is_authorization(const std::string& header) {
  return ::strncasecmp(header.c_str(), kAuthorization.data(), kAuthorization.size() - 1) == 0;
}
bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}
std::string origin_of(const Url& url) {
  return base::str(url.scheme, "://", url.host, ":", url.port);
}
/// "Bearer x" → "x".
std::string secret_of(std::string_view authorization) {
  return std::string(authorization.substr(std::min(authorization.find(' ') + 1, authorization.size())));
}
base::Error denied(std::string_view reason);
const Challenge* choose_from(const HttpResponse& response, std::vector<Challenge>& challenges);
base::Status check_redirect(const Url& from, const Url& to, const Url& registry, const PlainHosts& plain);

}  // namespace

Registry::Registry(Host host, Reference reference, const Credentials& credentials)
    : host_(std::move(host)),
      reference_(std::move(reference)),
      credentials_(host_.own ? credentials : Credentials{}),
      scope_(base::str("repository:", reference_.repository(), ":pull")) {
  // An object store behind a private registry often has a certificate of the same CA. Nothing else holds for others.
  elsewhere_.ca_pem = host_.transport.ca_pem;
  elsewhere_.connect_timeout = host_.transport.connect_timeout;
}

base::Result<Registry::Resolved> Registry::resolve(const base::Context& ctx, HttpClient& http, Hint& hint) {
  TRY_VOID(choose_scheme(ctx, http));
  TRY(auto url, url_of("manifests", reference_.tag_or_digest()));
  TRY(const auto response,
      ask(ctx, http, {Method::kHead, std::move(url), {std::string(kAcceptManifests)}}, BodySink(discard)));
  if (!response.ok()) {
    // Some know no HEAD, or refuse it, each with a status of its own; others have a reason, and an answer to HEAD has
    // no room for it.
    TRY(auto document, manifest(ctx, http, std::nullopt, hint));
    return Resolved{document.media_type, document.digest, std::move(document)};
  }
  Resolved out{announced_type(response.header("content-type")), reference_.digest(), {}};
  const auto stated = Digest::parse(response.header("docker-content-digest"));
  if (!stated) return out;  // absent, or of another algorithm: the document itself will tell
  if (out.digest && *out.digest != *stated) {
    return base::Error::data_loss(
        base::str("the registry answers with ", stated->text(), " when asked for ", reference_.canonical()));
  }
  out.digest = *stated;
  return out;
}

base::Result<Registry::Document> Registry::manifest(const base::Context& ctx, HttpClient& http,
                                                    const std::optional<Digest>& digest, Hint& hint) {
  TRY_VOID(choose_scheme(ctx, http));
  const std::string name = digest ? digest->text() : reference_.tag_or_digest();
  const std::string what = base::str("manifest ", name, " of ", reference_.canonical());
  TRY(auto url, url_of("manifests", name));
  std::string bytes;
  const BodySink keep = keep_in(bytes, kManifestBytesMax, what);
  const BodySink checked = [&keep](const HttpResponse& head, std::string_view piece) -> base::Status {
    TRY_VOID(check_encoding(head));
    return keep(head, piece);
  };
  TRY(const auto response, ask(ctx, http, {Method::kGet, std::move(url), {std::string(kAcceptManifests)}}, checked));
  if (!response.ok()) return error_of(response, digest ? what : reference_.canonical(), hint);
  Document out{announced_type(response.header("content-type")), Digest::of_bytes(bytes), std::move(bytes)};
  const auto& expected = digest ? digest : reference_.digest();
  if (expected && *expected != out.digest) {
    return base::Error::data_loss(base::str(what, " arrived damaged: its digest is ", out.digest.text()));
  }
  if (out.media_type.empty()) out.media_type = media_type_in(out.bytes);
  return out;
}

// spec: distribution-spec "Determining Support": GET /v2/ needs the rights of whoever may do anything at all.
base::Status Registry::check_access(const base::Context& ctx, HttpClient& http, Hint& hint) {
  TRY_VOID(choose_scheme(ctx, http));
  scope_.clear();  // there is no repository to have a right for
  TRY(auto url, parse_url(base::str(base().text, host_.query.empty() ? "" : "?", host_.query)));
  TRY(const auto response,
      ask(ctx, http, {Method::kGet, std::move(url), {"Accept: application/json"}}, BodySink(discard)));
  if (!response.ok()) return error_of(response, "/v2/", hint);
  return {};
}

base::Status Registry::blob(const base::Context& ctx, HttpClient& http, Blob& blob,
                            std::atomic<std::uint64_t>& received, Hint& hint) {
  TRY_VOID(choose_scheme(ctx, http));
  const std::string what = base::str("blob ", blob.descriptor().digest.text(), " of ", reference_.canonical());
  TRY(auto url, url_of("blobs", blob.descriptor().digest.text()));
  HttpRequest request{Method::kGet, std::move(url), {"Accept: */*", "Accept-Encoding: identity"}};
  const std::uint64_t start = blob.offset();
  if (start > 0) request.headers.push_back(base::str("Range: bytes=", start, "-"));

  bool first = true;
  std::uint64_t skip = 0;  // of an answer that starts over
  const BodySink sink = [&](const HttpResponse& head, std::string_view piece) -> base::Status {
    if (std::exchange(first, false)) {
      TRY_VOID(check_encoding(head));
      const auto answer_start = range_start(head, start, blob.descriptor().size);
      if (!answer_start) return base::Error(answer_start.error()).wrap(what);
      skip = start - *answer_start;
    }
    const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(skip, piece.size()));
    skip -= skipped;
    piece.remove_prefix(skipped);
    received += piece.size();
    return blob.append(piece);
  };
  TRY(const auto response, ask(ctx, http, request, sink));
  if (!response.ok()) return error_of(response, what, hint);
  return {};
}

/// A registry on loopback that nothing is configured for speaks TLS or not: what it does is found out once.
base::Status Registry::choose_scheme(const base::Context& ctx, HttpClient& http) {
  if (!host_.plain) return {};
  const std::lock_guard lock(scheme_mutex_);
  if (scheme_known_) return {};
  TRY(const auto speech, http.find_speech(ctx, host_.base, host_.transport));
  base_ = speech == Speech::kTls ? &host_.base : &*host_.plain;
  // Who is not there yet may say something else when asked again.
  scheme_known_ = speech != Speech::kNothing;
  return {};
}

base::Result<Url> Registry::url_of(std::string_view kind, std::string_view name) const {
  const std::string query = host_.query.empty() ? "" : "?" + host_.query;
  return parse_url(base::str(base().text, reference_.repository(), "/", kind, "/", name, query));
}

// At most one round of authentication a request: a registry that is never satisfied must not keep us busy for ever.
base::Result<HttpResponse> Registry::ask(const base::Context& ctx, HttpClient& http, const HttpRequest& request,
                                         const BodySink& sink) {
  const auto with = [&](const std::string& authorization) {
    HttpRequest out = request;
    for (const std::string& header : host_.headers) {
      // A token that the host has given is worth more than what the operator has written down.
      if (authorization.empty() || !is_authorization(header)) out.headers.push_back(header);
    }
    if (!authorization.empty()) out.headers.push_back(base::str(kAuthorization, authorization));
    return out;
  };
  const std::string used = current_authorization();
  TRY(auto answer, follow(ctx, http, with(used), sink));
  if (answer.response.status == 401 && same_origin(answer.url, base())) {
    TRY(const auto authorization, authorize(ctx, http, answer.response, used));
    TRY(answer, follow(ctx, http, with(authorization), sink));
  }
  // A challenge of wherever we were redirected to is not the registry's: nothing of ours is for it, but a token that
  // anybody may have.
  if (answer.response.status == 401 && !same_origin(answer.url, base())) {
    TRY(const bool has_token, authorize_elsewhere(ctx, http, answer));
    if (!has_token) return std::move(answer.response);
    TRY(answer, follow(ctx, http, with(current_authorization()), sink));
  }
  return std::move(answer.response);
}

base::Result<Registry::Answer> Registry::follow(const base::Context& ctx, HttpClient& http, HttpRequest request,
                                                const BodySink& sink) {
  for (int hops = 0; hops <= kRedirectsMax; ++hops) {
    request.transport = &transport_for(request.url);
    TRY(auto response, http.send(ctx, request, sink));
    if (!is_redirect(response.status)) return Answer{std::move(response), std::move(request.url)};
    TRY(auto next, resolve_url(request.url, response.header("location")));
    TRY_VOID(check_redirect(request.url, next, base(), host_.plain_hosts));
    if (!same_origin(request.url, next)) {
      std::erase_if(request.headers, [this](const std::string& header) {
        return is_authorization(header) ||
               std::find(host_.headers.begin(), host_.headers.end(), header) != host_.headers.end();
      });
      const std::lock_guard lock(auth_mutex_);
      const auto anonymous = elsewhere_tokens_.find(origin_of(next));
      if (anonymous != elsewhere_tokens_.end() && !same_origin(next, base())) {
        request.headers.push_back(base::str(kAuthorization, anonymous->second));
      }
    }
    request.url = std::move(next);
  }
  return base::Error::failed_precondition(
      base::str(base().host, " redirects more than ", kRedirectsMax, " times for ", reference_.canonical()));
}

const Transport& Registry::transport_for(const Url& url) const {
  return same_origin(url, base()) ? host_.transport : elsewhere_;
}

base::Error Registry::error_of(const HttpResponse& response, std::string_view what, Hint& hint) {
  const int status = response.status;
  const std::string reason = reason_of(response.body);
  if (status == 401) return denied("");
  if (status == 403) return denied(reason);
  if (status == 404) {
    // Registries that hide what exists say the same 404 to those who may not know.
    const std::lock_guard lock(auth_mutex_);
    if (asked_to_authenticate_ && credentials_.empty()) return denied("");
    return base::Error::not_found(base::str(what, " not found: ", host_.own ? reference_.host() : host_.name(),
                                            " has no such repository, tag or digest",
                                            reason.empty() ? "" : base::str(" (it says: ", reason, ")")));
  }
  const std::string message =
      base::str(what, ": ", base().host, " answers ", status, reason.empty() ? "" : ": ", reason);
  if (status == 408 || status == 429 || status >= 500) {
    hint.retry_after = parse_retry_after(response.header("retry-after"));
    return base::Error::unavailable(message);
  }
  if (status == 416) return base::Error::unavailable(message);  // our offset is not theirs: start over
  return base::Error::failed_precondition(message);
}

std::string Registry::reason_of(const std::string& body) {
  std::vector<std::string> secrets = {credentials_.password, percent_encode(credentials_.password)};
  if (!credentials_.empty()) secrets.push_back(secret_of(basic_authorization(credentials_)));
  for (const std::string& header : host_.headers) {
    const std::string value = header.substr(std::min(header.find(": ") + 2, header.size()));
    secrets.insert(secrets.end(), {value, secret_of(value)});
  }
  {
    const std::lock_guard lock(auth_mutex_);
    secrets.insert(secrets.end(), issued_.begin(), issued_.end());
  }
  // The longest first: of one in another, nothing may be left.
  std::sort(secrets.begin(), secrets.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  return reason_in(body, secrets);
}

std::string Registry::current_authorization() {
  const std::lock_guard lock(auth_mutex_);
  if (base::Clock::now() >= authorization_ends_) authorization_.clear();
  return authorization_;
}

base::Result<std::string> Registry::authorize(const base::Context& ctx, HttpClient& http,
                                              const HttpResponse& denied_answer, const std::string& used) {
  const std::lock_guard lock(auth_mutex_);
  asked_to_authenticate_ = true;
  if (!authorization_.empty() && authorization_ != used) return authorization_;  // another thread was first
  std::vector<Challenge> challenges;
  const Challenge* challenge = choose_from(denied_answer, challenges);
  if (challenge == nullptr) return denied("");
  if (challenge->scheme == "basic") {
    if (credentials_.username.empty() || used.starts_with("Basic ")) return denied("");
    authorization_ = basic_authorization(credentials_);
    authorization_ends_ = base::Deadline::max();
    return authorization_;
  }
  TRY(const auto token, fetch_token(ctx, http, *challenge, base(), credentials_));
  issued_.push_back(token.text);
  authorization_ = base::str("Bearer ", token.text);
  authorization_ends_ = base::Clock::now() + token.life * 9 / 10;
  return authorization_;
}

/// False if there is nothing to be had there.
base::Result<bool> Registry::authorize_elsewhere(const base::Context& ctx, HttpClient& http, const Answer& answer) {
  const std::lock_guard lock(auth_mutex_);
  std::vector<Challenge> challenges;
  const Challenge* challenge = choose_from(answer.response, challenges);
  const bool wants_password = std::any_of(challenges.begin(), challenges.end(),
                                          [](const Challenge& offered) { return offered.scheme == "basic"; });
  if (challenge == nullptr || challenge->scheme != "bearer" || wants_password) return false;
  TRY(const auto token, fetch_token(ctx, http, *challenge, answer.url, Credentials()));
  issued_.push_back(token.text);
  elsewhere_tokens_[origin_of(answer.url)] = base::str("Bearer ", token.text);
  return true;
}

/// A token for what `registry` serves. With auth_mutex_ held.
base::Result<Token> Registry::fetch_token(const base::Context& ctx, HttpClient& http, const Challenge& challenge,
                                          const Url& registry, const Credentials& credentials) {
  const bool has_identity_token = credentials.username.empty() && !credentials.password.empty();
  HttpRequest request{Method::kGet, {}, {"Accept: application/json"}, {}};
  if (has_identity_token) {
    request.method = Method::kPost;
    TRY(request.url, parse_url(challenge.parameters.at("realm")));
    TRY(request.form, token_form(challenge, scope_, credentials));
  } else {
    TRY(request.url, token_url(challenge, scope_, credentials));
    if (!credentials.empty()) request.headers.push_back(base::str(kAuthorization, basic_authorization(credentials)));
  }
  std::string body;
  for (int hops = 0; hops <= kRedirectsMax; ++hops) {
    const Url& url = request.url;
    TRY_VOID(check_realm(url, registry, host_.plain_hosts));
    request.transport = &transport_for(url);
    body.clear();
    TRY(const auto response, http.send(ctx, request, keep_in(body, kTokenBytesMax, "the token server's answer")));
    if (response.ok()) return parse_token(body);
    const int status = response.status;
    if (!is_redirect(status)) return token_error(response, url, credentials);
    // Credentials go to the server that was checked, and to no other.
    if (!credentials.empty()) {
      return base::Error::failed_precondition(
          base::str("token server ", url.redacted(), " redirects, which is not followed with credentials"));
    }
    TRY(auto next, resolve_url(url, response.header("location")));
    TRY_VOID(check_redirect(url, next, registry, host_.plain_hosts));
    request.url = std::move(next);
  }
  return base::Error::failed_precondition(
      base::str("the token server of ", registry.host, " redirects more than ", kRedirectsMax, " times"));
}

base::Error Registry::token_error(const HttpResponse& response, const Url& url, const Credentials& credentials) const {
  const int status = response.status;
  std::vector<std::string> secrets = {credentials.password, percent_encode(credentials.password)};
  if (!credentials.empty()) secrets.insert(secrets.begin(), secret_of(basic_authorization(credentials)));
  const std::string reason = reason_in(response.body, secrets);
  if (status == 408 || status == 429 || status >= 500) {
    return base::Error::unavailable(
        base::str("token server ", url.redacted(), " answers ", status, reason.empty() ? "" : ": ", reason));
  }
  return denied(reason);
}

namespace {

base::Error denied(std::string_view reason) {
  return base::Error::permission_denied(base::str(kPullDenied, reason.empty() ? "" : ": ", reason));
}

const Challenge* choose_from(const HttpResponse& response, std::vector<Challenge>& challenges) {
  if (const auto headers = response.headers.find("www-authenticate"); headers != response.headers.end()) {
    for (const std::string& header : headers->second) {
      for (Challenge& challenge : parse_challenges(header)) challenges.push_back(std::move(challenge));
    }
  }
  return choose_challenge(challenges);
}

base::Status check_redirect(const Url& from, const Url& to, const Url& registry, const PlainHosts& plain) {
  const auto refuse = [&](std::string_view why) {
    return base::Error::failed_precondition(
        base::str(from.host, " redirects to ", to.redacted(), ", which is refused: ", why));
  };
  if (from.scheme == "https" && to.scheme != "https") return refuse("it leaves https");
  // A registry may speak plain HTTP if the operator has said so; then its host may, and others of which he has.
  const bool configured = registry.scheme == "http" && (to.host == registry.host || plain.contains(host_and_port(to)));
  if (to.scheme == "http" && !is_loopback(to.host) && !configured) {
    return refuse("plain HTTP is for loopback, and for hosts that hosts.toml has with http://");
  }
  if (is_local_literal(to.host) && !is_loopback(registry.host) && to.host != registry.host) {
    return refuse("it is an address of this machine");
  }
  return {};
}

}  // namespace

}  // namespace oci::fetch
