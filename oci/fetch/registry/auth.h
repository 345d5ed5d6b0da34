// How a registry asks for credentials, and where they may go. Pure.
// spec: RFC 7235 (WWW-Authenticate), Docker/OCI token authentication
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/fetch/registry/url.h"
#include "oci/images.h"

namespace oci::fetch {

constexpr std::size_t kChallengeBytesMax = 16u << 10;
constexpr std::size_t kChallengesMax = 16;
constexpr std::size_t kTokenBytesMax = 64u << 10;  ///< of the token server's answer
/// A token lives this long when its server does not say; the specification's value.
constexpr std::chrono::seconds kTokenLifeDefault{60};

struct Challenge {
  std::string scheme;                             ///< lower case
  std::map<std::string, std::string> parameters;  ///< names in lower case; the first of a repeated one counts
};

/// All challenges of one WWW-Authenticate header, in order. What is malformed ends the list; a scheme with a token68
/// instead of parameters is kept without parameters.
std::vector<Challenge> parse_challenges(std::string_view header);

/// The challenge to answer: Bearer with a realm, else Basic; nullptr if there is neither.
const Challenge* choose_challenge(const std::vector<Challenge>& challenges);

/// Decides whether credentials for `registry` may be sent to the token server `realm`: https, or the registry's own
/// host when that is plain http, or then one of `plain_hosts`; not an address of this machine or a private network
/// unless it is the registry's own host, or one of those (a registry could otherwise have us ask the cloud's metadata
/// service).
///   errors  kPermissionDenied, naming the realm
base::Status check_realm(const Url& realm, const Url& registry, const PlainHosts& plain_hosts = {});

/// "realm?service=…&scope=…[&account=…]".
base::Result<Url> token_url(const Challenge& challenge, std::string_view scope_default, const Credentials& credentials);

/// For an identity token: the form that is posted to the realm (OAuth2, grant_type=refresh_token).
base::Result<std::string> token_form(const Challenge& challenge, std::string_view scope_default,
                                     const Credentials& credentials);

struct Token {
  std::string text;
  std::chrono::seconds life = kTokenLifeDefault;
};
/// The token server's answer: of "token" and "access_token" the first that is a text and not empty. kUnavailable when
/// it has none (a broken server: worth a retry).
base::Result<Token> parse_token(std::string_view body);

/// "Basic dXNlcjpwYXNz".
std::string basic_authorization(const Credentials& credentials);

}  // namespace oci::fetch
