#include "oci/pull_protocol.h"

#include <utility>

#include "base/json.h"
#include "base/text.h"

namespace oci {

namespace {

base::Result<std::string> required(const base::Json& object, std::string_view key) {
  TRY(auto text, base::get_string(object, key));
  if (!text) return base::Error::invalid_argument(base::str("\"", key, "\" is missing"));
  return std::move(*text);
}

base::Result<std::int64_t> count(const base::Json& object, std::string_view key) {
  TRY(const auto value, base::get_int(object, key));
  if (!value || *value < 0) return base::Error::invalid_argument(base::str("\"", key, "\" is missing or negative"));
  return *value;
}

base::Result<PullProgress> read_progress(const base::Json& object) {
  PullProgress progress;
  TRY(const auto bytes_done, count(object, "bytes_done"));
  TRY(const auto bytes_total, count(object, "bytes_total"));
  TRY(const auto layers_done, count(object, "layers_done"));
  TRY(const auto layers_total, count(object, "layers_total"));
  progress.bytes_done = static_cast<std::uint64_t>(bytes_done);
  progress.bytes_total = static_cast<std::uint64_t>(bytes_total);
  progress.layers_done = static_cast<int>(layers_done);
  progress.layers_total = static_cast<int>(layers_total);
  TRY(const base::Json* under_way, base::get_array(object, "under_way"));
  if (under_way == nullptr) return progress;
  for (const base::Json& layer : *under_way) {
    TRY(const auto digest_text, required(layer, "digest"));
    TRY(auto digest, Digest::parse(digest_text));
    TRY(const auto done, count(layer, "bytes_done"));
    TRY(const auto total, count(layer, "bytes_total"));
    progress.under_way.push_back(
        {std::move(digest), static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total)});
  }
  return progress;
}

/// A name or a type, which may end up in a verifier's arguments and on a terminal.
base::Status check_word(const std::string& word, std::string_view key) {
  if (!base::has_control_or_blank(word)) return {};
  return base::Error::invalid_argument(base::str("\"", key, "\" of the image helper has blanks or control characters"));
}

base::Result<HelperResolved> read_resolved(const base::Json& object) {
  TRY(auto reference, required(object, "reference"));
  TRY_VOID(check_word(reference, "reference"));
  TRY(auto media_type, required(object, "media_type"));
  TRY_VOID(check_word(media_type, "media_type"));
  TRY(const auto digest_text, required(object, "digest"));
  TRY(auto digest, Digest::parse(digest_text));
  TRY(const auto size, count(object, "size"));
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
std::string cut(const std::string& text) {
  if (text.size() <= kHelperTextBytesMax) return text;
  const std::string_view mark = "…";
  std::size_t end = kHelperTextBytesMax - mark.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return base::str(text.substr(0, end), mark);
}

base::Json to_json(const HelperWarning& warning) {
  return {{"warning", cut(warning.text)}};
}
base::Json to_json(const HelperDone& done) {
  return {{"done", {{"references", done.references}}}};
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
                                      {"platform", request.platform}});
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
  TRY(request.data_dir, required(document, "data_dir"));
  TRY(request.reference, required(document, "reference"));
  TRY(request.credentials.username, required(document, "username"));
  TRY(request.credentials.password, required(document, "password"));
  TRY(request.hosts_dir, required(document, "hosts_dir"));
  TRY(const auto archive, base::get_bool(document, "archive"));
  request.archive = archive.value_or(false);
  TRY(const auto confirm, base::get_bool(document, "confirm"));
  request.confirm = confirm.value_or(false);
  TRY(auto platform, base::get_string(document, "platform"));
  request.platform = std::move(platform).value_or("");
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
    HelperDone event{std::move(references).value_or(std::vector<std::string>())};
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
  TRY(const auto code, count(*error, "code"));
  TRY(const auto message, required(*error, "message"));
  return HelperEvent(std::in_place_type<base::Error>, base::Error{base::code_from_int(code), base::printable(message)});
}

}  // namespace oci
