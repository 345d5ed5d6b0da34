#include "oci/pull_protocol.h"

#include <utility>

#include "base/json.h"
#include "base/text.h"

namespace oci {

namespace {

base::Result<PullProgress> read_progress(const base::Json& object) {
  PullProgress progress;
  TRY(const auto bytes_done, base::require_uint(object, "bytes_done"));
  TRY(const auto bytes_total, base::require_uint(object, "bytes_total"));
  TRY(const auto layers_done, base::require_uint(object, "layers_done"));
  TRY(const auto layers_total, base::require_uint(object, "layers_total"));
  progress.bytes_done = bytes_done;
  progress.bytes_total = bytes_total;
  progress.layers_done = static_cast<int>(layers_done);
  progress.layers_total = static_cast<int>(layers_total);
  TRY(const base::Json* under_way, base::get_array(object, "under_way"));
  if (under_way == nullptr) return progress;
  for (const base::Json& layer : *under_way) {
    TRY(const auto digest_text, base::require_string(layer, "digest"));
    TRY(auto digest, Digest::parse(digest_text));
    TRY(const auto done, base::require_uint(layer, "bytes_done"));
    TRY(const auto total, base::require_uint(layer, "bytes_total"));
    progress.under_way.push_back({std::move(digest), done, total});
  }
  return progress;
}

/// A name or a type, which may end up in a verifier's arguments and on a terminal.
base::Status check_word(const std::string& word, std::string_view key) {
  if (!base::has_control_or_blank(word)) return {};
  return base::Error::invalid_argument(base::str("\"", key, "\" of the image helper has blanks or control characters"));
}

base::Result<HelperResolved> read_resolved(const base::Json& object) {
  TRY(auto reference, base::require_string(object, "reference"));
  TRY_VOID(check_word(reference, "reference"));
  TRY(auto media_type, base::require_string(object, "media_type"));
  TRY_VOID(check_word(media_type, "media_type"));
  TRY(const auto digest_text, base::require_string(object, "digest"));
  TRY(auto digest, Digest::parse(digest_text));
  TRY(const auto size, base::require_uint(object, "size"));
  return HelperResolved{std::move(reference),
                        {std::move(media_type), std::move(digest), static_cast<std::uint64_t>(size), {}, false}};
}

base::Json to_json(const PullProgress& progress) {
  base::Json under_way = base::Json::array();
  for (const LayerProgress& layer : progress.under_way) {
    under_way.push_back(
        {{"digest", layer.digest.text()}, {"bytes_done", layer.bytes_done}, {"bytes_total", layer.bytes_total}});
  }
  return {{"progress",
           {{"bytes_done", progress.bytes_done},
            {"bytes_total", progress.bytes_total},
            {"layers_done", progress.layers_done},
            {"layers_total", progress.layers_total},
            {"under_way", std::move(under_way)}}}};
}
// At the end of a character: half of one would be replaced by another.
std::string cut(const std::string& text, std::size_t bytes_max = kHelperTextBytesMax) {
  if (text.size() <= bytes_max) return text;
  const std::string_view mark = "…";
  std::size_t end = bytes_max - mark.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return base::str(text.substr(0, end), mark);
}

base::Json to_json(const HelperWarning& warning) {
  return {{"warning", cut(warning.text)}};
}
base::Json to_json(const HelperDone& done) {
  base::Json left_out = base::Json::array();
  for (const std::string& text : done.left_out) {
    if (left_out.size() < kHelperLeftOutMax) left_out.push_back(cut(text, kHelperLeftOutBytesMax));
  }
  base::Json out = {{"references", done.references}};
  if (!left_out.empty()) out["left_out"] = std::move(left_out);
  return {{"done", std::move(out)}};
}
base::Json to_json(const HelperResolved& resolved) {
  return {{"resolved",
           {{"reference", resolved.reference},
            {"media_type", resolved.image.media_type},
            {"digest", resolved.image.digest.text()},
            {"size", resolved.image.size}}}};
}
base::Json to_json(const base::Error& error) {
  return {{"error", {{"code", static_cast<int>(error.code)}, {"message", cut(error.message)}}}};
}

}  // namespace

base::Result<std::string> encode(const HelperRequest& request) {
  std::string line = base::dump_json({{"data_dir", request.data_dir},
                                      {"reference", request.reference},
                                      {"username", request.credentials.username},
                                      {"password", request.credentials.password},
                                      {"hosts_dir", request.hosts_dir},
                                      {"archive", request.archive},
                                      {"confirm", request.confirm},
                                      {"platform", request.platform},
                                      {"login", request.login}});
  line += '\n';
  if (line.size() <= kHelperRequestBytesMax) return line;
  return base::Error::invalid_argument(base::str("the request to the image helper would have ", line.size(),
                                                 " bytes, more than the limit of ", kHelperRequestBytesMax,
                                                 "; the registry's user name and password are too long"));
}

base::Result<HelperRequest> decode_request(std::string_view text) {
  base::JsonLimits limits;
  limits.bytes_max = kHelperRequestBytesMax;
  TRY(const base::Json document, base::parse_json(text, "request", limits));
  HelperRequest request;
  TRY(request.data_dir, base::require_string(document, "data_dir"));
  TRY(request.reference, base::require_string(document, "reference"));
  TRY(request.credentials.username, base::require_string(document, "username"));
  TRY(request.credentials.password, base::require_string(document, "password"));
  TRY(request.hosts_dir, base::require_string(document, "hosts_dir"));
  TRY(const auto archive, base::get_bool(document, "archive"));
  request.archive = archive.value_or(false);
  TRY(const auto confirm, base::get_bool(document, "confirm"));
  request.confirm = confirm.value_or(false);
  TRY(auto platform, base::get_string(document, "platform"));
  request.platform = std::move(platform).value_or("");
  TRY(const auto login, base::get_bool(document, "login"));
  request.login = login.value_or(false);
  return request;
}

std::string encode(const HelperEvent& event) {
  return base::dump_json(std::visit([](const auto& e) { return to_json(e); }, event)) + "\n";
}

base::Result<HelperEvent> decode_event(std::string_view line) {
  base::JsonLimits limits;
  limits.bytes_max = kHelperLineBytesMax;
  TRY(const base::Json document, base::parse_json(line, "line of the image helper", limits));
  TRY(const base::Json* progress, base::get_object(document, "progress"));
  if (progress != nullptr) {
    TRY(auto event, read_progress(*progress));
    return HelperEvent(std::move(event));
  }
  TRY(auto warning, base::get_string(document, "warning"));
  if (warning) return HelperEvent(HelperWarning{base::printable(*warning)});
  TRY(const base::Json* done, base::get_object(document, "done"));
  if (done != nullptr) {
    TRY(auto references, base::get_string_list(*done, "references"));
    TRY(const auto left_out, base::get_string_list(*done, "left_out"));
    HelperDone event{std::move(references).value_or(std::vector<std::string>())};
    for (const std::string& text : left_out.value_or(std::vector<std::string>())) {
      event.left_out.push_back(base::printable(text));
    }
    for (const std::string& reference : event.references) TRY_VOID(check_word(reference, "references"));
    return HelperEvent(std::move(event));
  }
  TRY(const base::Json* resolved, base::get_object(document, "resolved"));
  if (resolved != nullptr) {
    TRY(auto event, read_resolved(*resolved));
    return HelperEvent(std::move(event));
  }
  TRY(const base::Json* error, base::get_object(document, "error"));
  if (error == nullptr) return base::Error::invalid_argument("the image helper sent an unknown message");
  TRY(const auto code, base::require_uint(*error, "code"));
  TRY(const auto message, base::require_string(*error, "message"));
  return HelperEvent(std::in_place_type<base::Error>,
                     base::Error{base::code_from_int(static_cast<std::int64_t>(code)), base::printable(message)});
}

}  // namespace oci
