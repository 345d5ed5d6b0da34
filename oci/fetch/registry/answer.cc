#include "oci/fetch/registry/answer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

#include "base/json.h"
#include "base/text.h"

namespace oci::fetch {

namespace {

std::string shown(std::string text, const std::vector<std::string>& secrets) {
  for (const std::string& secret : secrets) {
    if (secret.empty()) continue;
    for (auto at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3)) {
      text.replace(at, secret.size(), "***");
    }
  }
  for (char& c : text) c = base::is_control(c) ? ' ' : c;
  return base::printable(std::string_view(text).substr(0, kReasonBytesMax));
}

std::string text_in(const base::Json& object, std::initializer_list<const char*> keys) {
  if (!object.is_object()) return "";
  for (const char* key : keys) {
    if (const auto text = base::get_string(object, key); text && *text && !(*text)->empty()) return **text;
  }
  return "";
}

}  // namespace

std::string reason_in(std::string_view body, const std::vector<std::string>& secrets) {
  base::JsonLimits limits;
  limits.bytes_max = kErrorBodyBytesMax;
  const auto document = base::parse_json(body, "error", limits);
  if (!document || !document->is_object()) return "";
  const auto errors = base::get_array(*document, "errors");
  if (!errors || *errors == nullptr) {
    return shown(text_in(*document, {"message", "details", "error_description", "error"}), secrets);
  }
  std::string out;
  std::size_t count = 0;
  for (const base::Json& error : **errors) {
    const std::string text = text_in(error, {"message", "code"});
    if (text.empty()) continue;
    if (++count > kReasonsShownMax) break;
    out += base::str(out.empty() ? "" : "; ", shown(text, secrets));
  }
  return out;
}

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

base::Status check_encoding(const HttpResponse& head) {
  constexpr std::array<std::string_view, 7> kCodings = {"gzip", "x-gzip",   "deflate",   "br",
                                                        "zstd", "compress", "x-compress"};
  const std::string value = base::ascii_lower(head.header("content-encoding"));
  for (std::string_view coding : base::split(value, ',')) {
    while (coding.starts_with(' ')) coding.remove_prefix(1);
    while (coding.ends_with(' ')) coding.remove_suffix(1);
    if (std::find(kCodings.begin(), kCodings.end(), coding) == kCodings.end()) continue;
    return base::Error::failed_precondition(
        base::str("the registry (or a proxy before it) applies Content-Encoding \"", coding, "\""));
  }
  return {};
}

base::Result<std::uint64_t> range_start(const HttpResponse& head, std::uint64_t asked, std::uint64_t total) {
  if (head.status != 206) return std::uint64_t{0};
  const std::string range = head.header("content-range");
  if (range.empty() && asked == 0) return std::uint64_t{0};
  constexpr std::string_view kUnit = "bytes ";
  std::uint64_t start = 0;
  const char* const end = range.data() + range.size();
  if (base::ascii_lower(range).starts_with(kUnit)) {
    const auto [rest, error] = std::from_chars(range.data() + kUnit.size(), end, start);
    const bool is_ours = error == std::errc() && rest != end && *rest == '-' && (start == asked || start == 0);
    if (is_ours && (range.ends_with(base::str("/", total)) || range.ends_with("/*"))) return start;
  }
  return base::Error::data_loss(base::str("the registry answers with the range \"", range.substr(0, 80),
                                          "\" when asked for bytes from ", asked, " of ", total));
}

}  // namespace oci::fetch
