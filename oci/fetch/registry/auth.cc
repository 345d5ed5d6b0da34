#include "oci/fetch/registry/auth.h"

#include <algorithm>
#include <utility>

#include "base/base64.h"
#include "base/json.h"
#include "base/text.h"

namespace oci::fetch {

namespace {

bool is_token_char(char c) {
  constexpr std::string_view kPunctuation = "!#$%&'*+-.^_`|~";
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kPunctuation.find(c) != std::string_view::npos;
}

/// A position in a header value.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}
  bool at_end() const { return at_ == text_.size(); }
  std::size_t position() const { return at_; }
  void rewind(std::size_t position) { at_ = position; }

  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void skip_space() {
    while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  void skip_list_separators() {
    while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == ',')) ++at_;
  }
  std::string_view token() {
    const std::size_t start = at_;
    while (!at_end() && is_token_char(text_[at_])) ++at_;
    return text_.substr(start, at_ - start);
  }
  /// After the opening quote; false if it is never closed.
  bool quoted(std::string& out) {
    while (!at_end()) {
      char c = text_[at_++];
      if (c == '"') return true;
      if (c == '\\') {
        if (at_end()) return false;
        c = text_[at_++];
      }
      out += c;
    }
    return false;
  }
  void skip_token68() {
    while (!at_end() && (is_token_char(text_[at_]) || text_[at_] == '/' || text_[at_] == '=')) ++at_;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

enum class Parsed { kParameter, kNoParameter, kMalformed };

// `name = value`; anything else leaves the cursor where it was.
Parsed parse_parameter(Cursor& cursor, Challenge& challenge) {
  const std::size_t start = cursor.position();
  const std::string name = base::ascii_lower(cursor.token());
  cursor.skip_space();
  if (name.empty() || !cursor.take('=')) {
    cursor.rewind(start);
    return Parsed::kNoParameter;
  }
  cursor.skip_space();
  std::string value;
  if (cursor.take('"')) {
    if (!cursor.quoted(value)) return Parsed::kMalformed;
  } else {
    value = cursor.token();
    if (value.empty()) {
      cursor.rewind(start);
      return Parsed::kNoParameter;  // the "=" was the padding of a token68
    }
  }
  challenge.parameters.emplace(name, std::move(value));
  return Parsed::kParameter;
}

}  // namespace

std::vector<Challenge> parse_challenges(std::string_view header) {
  std::vector<Challenge> out;
  if (header.size() > kChallengeBytesMax) return out;
  Cursor cursor(header);
  for (;;) {
    cursor.skip_list_separators();
    Challenge challenge;
    challenge.scheme = base::ascii_lower(cursor.token());
    if (challenge.scheme.empty() || out.size() == kChallengesMax) return out;
    for (;;) {
      const std::size_t before = cursor.position();
      cursor.skip_list_separators();
      const Parsed parsed = parse_parameter(cursor, challenge);
      if (parsed == Parsed::kMalformed) return out;
      if (parsed == Parsed::kParameter) continue;
      // Either a token68 right behind the scheme, or the scheme of the next challenge.
      cursor.rewind(before);
      if (challenge.parameters.empty()) {
        cursor.skip_space();
        cursor.skip_token68();
      }
      break;
    }
    out.push_back(std::move(challenge));
  }
}

const Challenge* choose_challenge(const std::vector<Challenge>& challenges) {
  const auto find = [&](auto&& wanted) -> const Challenge* {
    const auto found = std::find_if(challenges.begin(), challenges.end(), wanted);
    return found == challenges.end() ? nullptr : &*found;
  };
  if (const auto* bearer =
          find([](const Challenge& c) { return c.scheme == "bearer" && c.parameters.contains("realm"); })) {
    return bearer;
  }
  return find([](const Challenge& c) { return c.scheme == "basic"; });
}

base::Status check_realm(const Url& realm, const Url& registry, const PlainHosts& plain_hosts) {
  const auto refuse = [&](std::string_view why) {
    return base::Error::permission_denied(
        base::str("the registry ", registry.host, " names the token server ", realm.redacted(), ", which ", why));
  };
  const bool configured =
      registry.scheme == "http" && realm.scheme == "http" && plain_hosts.contains(host_and_port(realm));
  const bool plain =
      registry.scheme == "http" && (is_loopback(realm.host) || realm.host == registry.host || configured);
  if (realm.scheme != "https" && !plain) return refuse("is not https");
  const bool known = realm.host == registry.host || (configured && !is_local_literal(realm.host));
  if (!known && is_private_literal(realm.host) && !is_loopback(registry.host)) {
    return refuse("is a local or private address");
  }
  return {};
}

base::Result<Url> token_url(const Challenge& challenge, std::string_view scope_default,
                            const Credentials& credentials) {
  const auto parameter = [&](const char* name) {
    const auto found = challenge.parameters.find(name);
    return found == challenge.parameters.end() ? std::string() : found->second;
  };
  std::string text = parameter("realm");
  char separator = text.find('?') == std::string::npos ? '?' : '&';
  const auto add = [&](std::string_view name, std::string_view value) {
    text += base::str(std::string(1, separator), name, "=", percent_encode(value));
    separator = '&';
  };
  if (const std::string service = parameter("service"); !service.empty()) add("service", service);
  std::string scopes = parameter("scope");
  if (scopes.empty()) scopes = scope_default;
  for (std::string_view rest = scopes; !rest.empty();) {
    const auto space = std::min(rest.find(' '), rest.size());
    if (space > 0) add("scope", rest.substr(0, space));
    rest.remove_prefix(std::min(space + 1, rest.size()));
  }
  if (!credentials.username.empty()) add("account", credentials.username);
  return parse_url(text);
}

base::Result<std::string> token_form(const Challenge& challenge, std::string_view scope_default,
                                     const Credentials& credentials) {
  const auto parameter = [&](const char* name) {
    const auto found = challenge.parameters.find(name);
    return found == challenge.parameters.end() ? std::string() : found->second;
  };
  if (credentials.password.empty()) return base::Error::internal("no identity token");
  const std::string scope = parameter("scope");
  return base::str(
      "grant_type=refresh_token&client_id=containerd-driver&service=", percent_encode(parameter("service")),
      "&scope=", percent_encode(scope.empty() ? scope_default : scope),
      "&refresh_token=", percent_encode(credentials.password));
}

base::Result<Token> parse_token(std::string_view body) {
  const auto broken = [](std::string_view why) {
    return base::Error::unavailable(base::str("the token server's answer is not a token: ", why));
  };
  base::JsonLimits limits;
  limits.bytes_max = kTokenBytesMax;
  const auto document = base::parse_json(body, "token", limits);
  if (!document || !document->is_object()) return broken("not a JSON object");
  Token out;
  for (const char* key : {"token", "access_token"}) {
    const auto text = base::get_string(*document, key);
    if (out.text.empty() && text && *text) out.text = **text;
  }
  if (out.text.empty()) return broken("neither \"token\" nor \"access_token\"");
  // It goes into a header line.
  if (base::has_control_or_blank(out.text)) {
    return broken("it has control characters");
  }
  const auto life = base::get_int(*document, "expires_in");
  if (life && *life && **life > 0) out.life = std::chrono::seconds(std::min<std::int64_t>(**life, 24 * 3600));
  return out;
}

std::string basic_authorization(const Credentials& credentials) {
  return base::str("Basic ", base::base64_encode(base::str(credentials.username, ":", credentials.password),
                                                 base::Base64Padding::kFull));
}

}  // namespace oci::fetch
