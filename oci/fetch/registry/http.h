// One HTTP exchange at a time, on libcurl. Redirects and authentication are the caller's business.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/fetch/registry/url.h"

namespace oci::fetch {

constexpr std::size_t kHeaderBytesMax = 64u << 10;
constexpr std::size_t kErrorBodyBytesMax = 64u << 10;  ///< more of an error's text is ignored
constexpr std::chrono::seconds kConnectTimeout{30};
constexpr std::chrono::seconds kInactivityTimeout{60};  ///< no byte for this long: the exchange is over

constexpr std::chrono::seconds kHandshakeTimeout{5};  ///< on loopback, where it is found out whether TLS is spoken

enum class Method { kGet, kHead, kPost };

/// How a host is reached, where the operator says more than the defaults.
struct Transport {
  std::string ca_pem;       ///< certificates that are trusted beside the system's folder of them
  std::string client_cert;  ///< a file, or ""
  std::string client_key;
  bool skip_verify = false;  ///< any certificate will do
  std::chrono::milliseconds connect_timeout = kConnectTimeout;
};

/// What answers at an address.
enum class Speech { kTls, kPlain, kNothing };

struct HttpRequest {
  Method method = Method::kGet;
  Url url;
  std::vector<std::string> headers;      ///< "Name: value"
  std::string form = {};                 ///< kPost: application/x-www-form-urlencoded
  const Transport* transport = nullptr;  ///< nullptr: the defaults; outlives the call
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::vector<std::string>> headers;  ///< names in lower case
  std::string body;  ///< of answers other than 2xx; empty otherwise: then the sink got it

  bool ok() const { return status >= 200 && status < 300; }
  /// The first value of `name`, "" if absent.
  std::string header(const std::string& name) const;
};

/// Takes the body of a 2xx answer, piece by piece, after its headers are known. An error ends the exchange.
using BodySink = std::function<base::Status(const HttpResponse& head, std::string_view piece)>;
/// A sink that keeps everything in `out`, and refuses (kInvalidArgument) more than `bytes_max`.
BodySink keep_in(std::string& out, std::size_t bytes_max, std::string what);

/// Keeps connections open between exchanges. One thread at a time.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Sends and receives; any status is a result.
  ///   errors  kUnavailable resolve, connect, reset, stalled, short body (what the sink got so far is good) ·
  ///           kFailedPrecondition the certificate is not trusted · kDeadlineExceeded, kCancelled · the sink's error
  ///           Messages name the URL without its query.
  base::Result<HttpResponse> send(const base::Context& ctx, const HttpRequest& request, const BodySink& sink);

  /// Whether TLS is spoken at the https URL: connects, and gets no further than a handshake. kPlain: something else
  /// answers, or nothing for kHandshakeTimeout; kNothing: nobody listens.
  ///   errors  kDeadlineExceeded, kCancelled · kUnavailable, kResourceExhausted our own end
  base::Result<Speech> find_speech(const base::Context& ctx, const Url& url, const Transport& transport);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oci::fetch
