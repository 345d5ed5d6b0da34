#include "oci/fetch/registry/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <utility>

#include "base/text.h"

namespace oci::fetch {

namespace {

constexpr char kUserAgent[] = "containerd-driver";
constexpr long kReceiveBufferBytes = 256L << 10;
constexpr int kProxyAuthenticationRequired = 407;

using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

/// One exchange, as libcurl's callbacks see it.
struct Exchange {
  const base::Context& ctx;
  const BodySink& sink;
  HttpResponse response;
  std::size_t header_bytes = 0;
  std::optional<base::Error> failure;  // why a callback ended it

  std::size_t fail(base::Error error) {
    failure = std::move(error);
    return 0;
  }
};

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user);
std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user);
int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
base::Error refused_by_proxy(const HttpRequest& request, long status);
base::Error error_of(CURLcode code, const char* detail, const HttpRequest& request);
const char* name_of(Method method);

// libcurl's own start is not thread-safe, and must come before any thread uses it.
void start_curl_once() {
  static std::once_flag once;
  std::call_once(once, [] { CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

}  // namespace

std::string HttpResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second.front();
}

BodySink keep_in(std::string& out, std::size_t bytes_max, std::string what) {
  return [&out, bytes_max, what = std::move(what)](const HttpResponse&, std::string_view piece) -> base::Status {
    if (out.size() + piece.size() > bytes_max) {
      return base::Error::invalid_argument(base::str(what, " is larger than the limit of ", bytes_max, " bytes"));
    }
    out.append(piece);
    return {};
  };
}

struct HttpClient::Impl {
  CURL* easy = nullptr;
  char detail[CURL_ERROR_SIZE] = {};

  template <typename T>
  void set(CURLoption option, T value) {
    CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK);
  }
  void set_request(const base::Context& ctx, const HttpRequest& request, curl_slist* headers);
  void set_transport(const Transport& transport);
};

HttpClient::HttpClient() : impl_(std::make_unique<Impl>()) {
  start_curl_once();
  impl_->easy = curl_easy_init();
  CHECK(impl_->easy != nullptr);
}
HttpClient::~HttpClient() {
  curl_easy_cleanup(impl_->easy);
}

base::Result<HttpResponse> HttpClient::send(const base::Context& ctx, const HttpRequest& request,
                                            const BodySink& sink) {
  TRY_VOID(ctx.check());
  HeaderList headers(nullptr, curl_slist_free_all);
  for (const std::string& header : request.headers) {
    headers.reset(curl_slist_append(headers.release(), header.c_str()));
    CHECK(headers != nullptr);
  }
  Exchange exchange{ctx, sink, {}, 0, {}};
  curl_easy_reset(impl_->easy);  // options only: connections and sessions stay
  impl_->set_request(ctx, request, headers.get());
  impl_->set(CURLOPT_HEADERDATA, &exchange);
  impl_->set(CURLOPT_WRITEDATA, &exchange);
  impl_->set(CURLOPT_XFERINFODATA, &exchange);
  impl_->detail[0] = '\0';
  const CURLcode code = curl_easy_perform(impl_->easy);
  if (exchange.failure) return std::move(*exchange.failure);
  long tunnel = 0;  // a proxy's answer to CONNECT, 0 without one
  curl_easy_getinfo(impl_->easy, CURLINFO_HTTP_CONNECTCODE, &tunnel);
  if (tunnel >= 300) return refused_by_proxy(request, tunnel);
  if (exchange.response.status == kProxyAuthenticationRequired) {
    return refused_by_proxy(request, exchange.response.status);
  }
  const bool error_text_cut = code == CURLE_WRITE_ERROR && exchange.response.body.size() == kErrorBodyBytesMax;
  if (code != CURLE_OK && !error_text_cut) {
    TRY_VOID(ctx.check());
    return error_of(code, impl_->detail, request);
  }
  return std::move(exchange.response);
}

base::Result<Speech> HttpClient::find_speech(const base::Context& ctx, const Url& url, const Transport& transport) {
  TRY_VOID(ctx.check());
  const HttpRequest request{Method::kHead, url, {}, {}, &transport};
  const BodySink ignore = [](const HttpResponse&, std::string_view) -> base::Status { return {}; };
  Exchange exchange{ctx, ignore, {}, 0, {}};
  curl_easy_reset(impl_->easy);
  impl_->set_request(ctx, request, nullptr);
  impl_->set(CURLOPT_XFERINFODATA, &exchange);
  impl_->set(CURLOPT_CONNECT_ONLY, 1L);
  impl_->set(CURLOPT_FRESH_CONNECT, 1L);
  impl_->set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::chrono::milliseconds(kHandshakeTimeout).count()));
  impl_->detail[0] = '\0';
  const CURLcode code = curl_easy_perform(impl_->easy);
  if (exchange.failure) return std::move(*exchange.failure);
  switch (code) {
    case CURLE_OK:
      return Speech::kTls;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
      return Speech::kNothing;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
      TRY_VOID(ctx.check());
      return Speech::kPlain;
    default:
      return error_of(code, impl_->detail, request);
  }
}

void HttpClient::Impl::set_request(const base::Context& ctx, const HttpRequest& request, curl_slist* headers) {
  set(CURLOPT_URL, request.url.text.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  if (request.method == Method::kHead) set(CURLOPT_NOBODY, 1L);
  if (request.method == Method::kPost) {
    set(CURLOPT_POSTFIELDSIZE, static_cast<long>(request.form.size()));
    set(CURLOPT_POSTFIELDS, request.form.c_str());  // not copied
  }
  set(CURLOPT_HTTPHEADER, headers);
  set(CURLOPT_USERAGENT, kUserAgent);
  set(CURLOPT_ERRORBUFFER, detail);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_UNRESTRICTED_AUTH, 0L);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  // The command-line tool reads these, the library does not.
  if (const char* file = std::getenv("SSL_CERT_FILE")) set(CURLOPT_CAINFO, file);
  if (const char* folder = std::getenv("SSL_CERT_DIR")) set(CURLOPT_CAPATH, folder);
  if (is_loopback(request.url.host)) set(CURLOPT_PROXY, "");  // no proxy reaches what is on this machine
  // Refused while the buffer of a failed attempt is still there, which has that size.
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBufferBytes);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::chrono::milliseconds(kConnectTimeout).count()));
  if (request.transport != nullptr) set_transport(*request.transport);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(kInactivityTimeout.count()));
  if (ctx.has_deadline()) set(CURLOPT_TIMEOUT_MS, std::max(1L, static_cast<long>(ctx.remaining_poll_ms())));
  set(CURLOPT_HEADERFUNCTION, on_header);
  set(CURLOPT_WRITEFUNCTION, on_body);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, on_progress);
}

void HttpClient::Impl::set_transport(const Transport& transport) {
  if (!transport.ca_pem.empty()) {
    // libcurl promises not to write to it.
    curl_blob pem{const_cast<char*>(transport.ca_pem.data()), transport.ca_pem.size(), CURL_BLOB_NOCOPY};
    set(CURLOPT_CAINFO_BLOB, &pem);
  }
  if (!transport.client_cert.empty()) {
    set(CURLOPT_SSLCERT, transport.client_cert.c_str());
    set(CURLOPT_SSLKEY, transport.client_key.c_str());
  }
  if (transport.skip_verify) {
    set(CURLOPT_SSL_VERIFYPEER, 0L);
    set(CURLOPT_SSL_VERIFYHOST, 0L);
  }
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(transport.connect_timeout.count()));
}

namespace {

// One header line at a time, with its line end. A proxy's or a 1xx answer's headers come first: a status line starts
// anew.
std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  std::string_view line(data, size * count);
  exchange.header_bytes += line.size();
  if (exchange.header_bytes > kHeaderBytesMax) {
    return exchange.fail(base::Error::unavailable(
        base::str("the registry's answer has more than ", kHeaderBytesMax, " bytes of headers")));
  }
  if (line.starts_with("HTTP/")) {
    exchange.response.headers.clear();
    exchange.response.status = 0;
    const char* end = line.data() + line.size();
    std::from_chars(std::min(line.data() + line.find(' ') + 1, end), end, exchange.response.status);
    return size * count;
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return size * count;
  const std::string name = base::ascii_lower(line.substr(0, colon));
  std::string_view value = line.substr(colon + 1);
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!value.empty() && is_space(value.front())) value.remove_prefix(1);
  while (!value.empty() && is_space(value.back())) value.remove_suffix(1);
  exchange.response.headers[name].emplace_back(value);
  return size * count;
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::string_view piece(data, size * count);
  if (!exchange.response.ok()) {
    std::string& body = exchange.response.body;
    body.append(piece.substr(0, kErrorBodyBytesMax - std::min(kErrorBodyBytesMax, body.size())));
    // An endless error page is cut off: what it says is known by now.
    return body.size() < kErrorBodyBytesMax ? piece.size() : 0;
  }
  if (auto taken = exchange.sink(exchange.response, piece); !taken) return exchange.fail(std::move(taken).error());
  return piece.size();
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (auto alive = exchange.ctx.check(); !alive) exchange.fail(std::move(alive).error());
  return exchange.failure ? 1 : 0;
}

const char* name_of(Method method) {
  switch (method) {
    case Method::kGet:
      return "GET";
    case Method::kHead:
      return "HEAD";
    case Method::kPost:
      return "POST";
  }
  return "?";
}

base::Error error_of(CURLcode code, const char* detail, const HttpRequest& request) {
  const std::string what = base::str(name_of(request.method), " ", request.url.redacted(), ": ",
                                     detail[0] != '\0' ? detail : curl_easy_strerror(code));
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return base::Error::failed_precondition(
          base::str(what,
                    "; name the registry's CA as ca in its hosts.toml, or add it to the system's "
                    "(update-ca-certificates)"));
    case CURLE_SSL_CERTPROBLEM:
      return base::Error::failed_precondition(base::str(what, "; check the client certificate of its hosts.toml"));
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return base::Error::invalid_argument(what);
    case CURLE_OUT_OF_MEMORY:
      return base::Error::resource_exhausted(what);
    default:
      return base::Error::unavailable(what);
  }
}

base::Error refused_by_proxy(const HttpRequest& request, long status) {
  const std::string what =
      base::str(name_of(request.method), " ", request.url.redacted(), ": the proxy refuses with ", status);
  if (status != kProxyAuthenticationRequired) return base::Error::unavailable(what);
  return base::Error::unavailable(base::str(what, "; set ", request.url.scheme,
                                            "_proxy to http://USER:PASSWORD@HOST:PORT where the agent is started"));
}

}  // namespace

}  // namespace oci::fetch
