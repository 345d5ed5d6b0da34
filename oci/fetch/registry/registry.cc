#include "oci/fetch/registry/registry.h"

#include <strings.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <utility>

#include "base/json.h"
#include "base/text.h"

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
base::Status check_redirect(const Url& from, const Url& to, const Url& registry);
std::string registry_message(const std::string& body);
std::chrono::seconds parse_retry_after(const std::string& value);
base::Status check_encoding(const HttpResponse& head);
base::Result<std::uint64_t> range_start(const HttpResponse& head, std::uint64_t asked, std::uint64_t total);

}  // namespace

Registry::Registry(Host host, Reference reference, const Credentials& credentials)
    : host_(std::move(host)), reference_(std::move(reference)), credentials_(host_.own ? credentials : Credentials{}) {
  // An object store behind a private registry often has a certificate of the same CA. Nothing else holds for others.
  elsewhere_.ca_pem = host_.transport.ca_pem;
  elsewhere_.connect_timeout = host_.transport.connect_timeout;
}

base::Result<Registry::Resolved> Registry::resolve(const base::Context& ctx, HttpClient& http, Hint& hint) {
  TRY(auto url, url_of("manifests", reference_.tag_or_digest()));
  TRY(const auto response,
      ask(ctx, http, {Method::kHead, std::move(url), {std::string(kAcceptManifests)}}, BodySink(discard)));
  if (response.status == 405) return Resolved{"", reference_.digest()};  // knows no HEAD
  if (!response.ok()) return error_of(response, reference_.canonical(), hint);
  Resolved out{strip_media_parameters(response.header("content-type")), reference_.digest()};
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
  if (!response.ok()) return error_of(response, what, hint);
  Document out{strip_media_parameters(response.header("content-type")), Digest::of_bytes(bytes), std::move(bytes)};
  const auto& expected = digest ? digest : reference_.digest();
  if (expected && *expected != out.digest) {
    return base::Error::data_loss(base::str(what, " arrived damaged: its digest is ", out.digest.text()));
  }
  return out;
}

base::Status Registry::blob(const base::Context& ctx, HttpClient& http, Blob& blob,
                            std::atomic<std::uint64_t>& received, Hint& hint) {
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

base::Result<Url> Registry::url_of(std::string_view kind, std::string_view name) const {
  const std::string query = host_.query.empty() ? "" : "?" + host_.query;
  return parse_url(base::str(host_.base.text, reference_.repository(), "/", kind, "/", name, query));
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
  // A challenge of wherever we were redirected to is not the registry's: nothing of ours is for it.
  if (answer.response.status != 401 || !same_origin(answer.url, host_.base)) return std::move(answer.response);
  TRY(const auto authorization, authorize(ctx, http, answer.response, used));
  TRY(answer, follow(ctx, http, with(authorization), sink));
  return std::move(answer.response);
}

base::Result<Registry::Answer> Registry::follow(const base::Context& ctx, HttpClient& http, HttpRequest request,
                                                const BodySink& sink) {
  for (int hops = 0; hops <= kRedirectsMax; ++hops) {
    request.transport = &transport_for(request.url);
    TRY(auto response, http.send(ctx, request, sink));
    if (!is_redirect(response.status)) return Answer{std::move(response), std::move(request.url)};
    TRY(auto next, resolve_url(request.url, response.header("location")));
    TRY_VOID(check_redirect(request.url, next, host_.base));
    if (!same_origin(request.url, next)) {
      std::erase_if(request.headers, [this](const std::string& header) {
        return is_authorization(header) ||
               std::find(host_.headers.begin(), host_.headers.end(), header) != host_.headers.end();
      });
    }
    request.url = std::move(next);
  }
  return base::Error::failed_precondition(
      base::str(host_.base.host, " redirects more than ", kRedirectsMax, " times for ", reference_.canonical()));
}

const Transport& Registry::transport_for(const Url& url) const {
  return same_origin(url, host_.base) ? host_.transport : elsewhere_;
}

base::Error Registry::error_of(const HttpResponse& response, std::string_view what, Hint& hint) {
  const int status = response.status;
  if (status == 401 || status == 403) return base::Error::permission_denied(std::string(kPullDenied));
  if (status == 404) {
    // Registries that hide what exists say the same 404 to those who may not know.
    const std::lock_guard lock(auth_mutex_);
    if (asked_to_authenticate_ && credentials_.empty()) return base::Error::permission_denied(std::string(kPullDenied));
    return base::Error::not_found(base::str(what, " not found: ", host_.own ? reference_.host() : host_.name(),
                                            " has no such repository, tag or digest"));
  }
  const std::string message =
      base::str(what, ": ", host_.base.host, " answers ", status, registry_message(response.body));
  if (status == 408 || status == 429 || status >= 500) {
    hint.retry_after = parse_retry_after(response.header("retry-after"));
    return base::Error::unavailable(message);
  }
  if (status == 416) return base::Error::unavailable(message);  // our offset is not theirs: start over
  return base::Error::failed_precondition(message);
}

std::string Registry::current_authorization() {
  const std::lock_guard lock(auth_mutex_);
  if (base::Clock::now() >= authorization_ends_) authorization_.clear();
  return authorization_;
}

base::Result<std::string> Registry::authorize(const base::Context& ctx, HttpClient& http, const HttpResponse& denied,
                                              const std::string& used) {
  const std::lock_guard lock(auth_mutex_);
  asked_to_authenticate_ = true;
  if (!authorization_.empty() && authorization_ != used) return authorization_;  // another thread was first
  std::vector<Challenge> challenges;
  if (const auto headers = denied.headers.find("www-authenticate"); headers != denied.headers.end()) {
    for (const std::string& header : headers->second) {
      for (Challenge& challenge : parse_challenges(header)) challenges.push_back(std::move(challenge));
    }
  }
  const Challenge* challenge = choose_challenge(challenges);
  const base::Error refused = base::Error::permission_denied(std::string(kPullDenied));
  if (challenge == nullptr) return refused;
  if (challenge->scheme == "basic") {
    if (credentials_.username.empty() || used.starts_with("Basic ")) return refused;
    authorization_ = basic_authorization(credentials_);
    authorization_ends_ = base::Deadline::max();
    return authorization_;
  }
  TRY(const auto token, fetch_token(ctx, http, *challenge));
  authorization_ = base::str("Bearer ", token.text);
  authorization_ends_ = base::Clock::now() + token.life * 9 / 10;
  return authorization_;
}

base::Result<Token> Registry::fetch_token(const base::Context& ctx, HttpClient& http, const Challenge& challenge) {
  const std::string scope = base::str("repository:", reference_.repository(), ":pull");
  const bool has_identity_token = credentials_.username.empty() && !credentials_.password.empty();
  HttpRequest request{Method::kGet, {}, {"Accept: application/json"}, {}};
  if (has_identity_token) {
    request.method = Method::kPost;
    TRY(request.url, parse_url(challenge.parameters.at("realm")));
    TRY(request.form, token_form(challenge, scope, credentials_));
  } else {
    TRY(request.url, token_url(challenge, scope, credentials_));
    if (!credentials_.empty()) request.headers.push_back(base::str(kAuthorization, basic_authorization(credentials_)));
  }
  const Url& url = request.url;
  TRY_VOID(check_realm(url, host_.base));
  request.transport = &transport_for(url);
  std::string body;
  // No redirects here: credentials go to the server that was checked, and to no other.
  TRY(const auto response, http.send(ctx, request, keep_in(body, kTokenBytesMax, "the token server's answer")));
  if (response.ok()) return parse_token(body);
  const int status = response.status;
  if (status == 408 || status == 429 || status >= 500) {
    return base::Error::unavailable(base::str("token server ", url.redacted(), " answers ", status));
  }
  if (is_redirect(status)) {
    return base::Error::failed_precondition(
        base::str("token server ", url.redacted(), " redirects, which is not followed with credentials"));
  }
  return base::Error::permission_denied(std::string(kPullDenied));
}

namespace {

base::Status check_redirect(const Url& from, const Url& to, const Url& registry) {
  const auto refuse = [&](std::string_view why) {
    return base::Error::failed_precondition(
        base::str(from.host, " redirects to ", to.redacted(), ", which is refused: ", why));
  };
  if (from.scheme == "https" && to.scheme != "https") return refuse("it leaves https");
  // Its own host may speak plain HTTP if the operator has said so.
  if (to.scheme == "http" && !is_loopback(to.host) && !same_origin(to, registry)) {
    return refuse("plain HTTP is for loopback only");
  }
  if (is_local_literal(to.host) && !is_loopback(registry.host) && to.host != registry.host) {
    return refuse("it is an address of this machine");
  }
  return {};
}

// The first error's text, as a registry words it: shown, shortened, never interpreted.
std::string registry_message(const std::string& body) {
  constexpr std::size_t kShownMax = 200;
  base::JsonLimits limits;
  limits.bytes_max = kErrorBodyBytesMax;
  const auto document = base::parse_json(body, "error", limits);
  if (!document) return "";
  const auto errors = base::get_array(*document, "errors");
  if (!errors || *errors == nullptr || (*errors)->empty()) return "";
  const auto message = base::get_string((**errors)[0], "message");
  if (!message || !*message) return "";
  std::string out = (*message)->substr(0, kShownMax);
  for (char& c : out) c = base::is_control(c) ? ' ' : c;
  return base::str(": ", out);
}

// Seconds, or a date. Anything else is no hint.
std::chrono::seconds parse_retry_after(const std::string& value) {
  if (value.empty()) return std::chrono::seconds(0);
  long seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error == std::errc() && end == value.data() + value.size() && seconds >= 0) {
    return std::min(kRetryAfterMax, std::chrono::seconds(std::min(seconds, 3600L)));
  }
  std::tm date{};
  if (::strptime(value.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date) == nullptr) return std::chrono::seconds(0);
  const auto wait = std::chrono::seconds(::timegm(&date) - std::time(nullptr));
  return std::clamp(wait, std::chrono::seconds(0), kRetryAfterMax);
}

// A digest is over the bytes as they are stored; nobody was asked to encode them.
base::Status check_encoding(const HttpResponse& head) {
  const std::string encoding = head.header("content-encoding");
  if (encoding.empty() || encoding == "identity") return {};
  return base::Error::failed_precondition(
      base::str("the registry (or a proxy before it) applies Content-Encoding \"", encoding.substr(0, 40), "\""));
}

// Where in the blob the answer's first byte belongs: the asked offset, or 0 from a server that ignores ranges.
base::Result<std::uint64_t> range_start(const HttpResponse& head, std::uint64_t asked, std::uint64_t total) {
  if (head.status != 206) return std::uint64_t{0};
  const std::string range = head.header("content-range");
  if (asked > 0 && range.starts_with(base::str("bytes ", asked, "-")) &&
      (range.ends_with(base::str("/", total)) || range.ends_with("/*"))) {
    return asked;
  }
  return base::Error::data_loss(base::str("the registry answers with the range \"", range.substr(0, 80),
                                          "\" when asked for bytes from ", asked, " of ", total));
}

}  // namespace

}  // namespace oci::fetch
