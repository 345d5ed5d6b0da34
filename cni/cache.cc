#include "cni/cache.h"

#include <unistd.h>

#include <cerrno>

#include "base/base64.h"
#include "base/dir.h"
#include "base/file.h"
#include "base/json.h"

namespace cni {

namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kEntryBytesMax = 2u << 20;
constexpr char kKind[] = "cniCacheV1";

Json json_of(const CachedResult& entry);
Result<CachedResult> entry_of(const std::string& text, const std::string& path);

}  // namespace

Status Cache::write(const CachedResult& entry) const {
  TRY_VOID(check_attachment(entry.attachment));
  TRY_VOID(base::make_dirs(dir_ + "/results", 0700));
  return base::write_file_atomic(path_of(entry.network, entry.attachment), base::dump_json(json_of(entry)), 0600,
                                 base::Durable::kNo);
}

Result<std::optional<CachedResult>> Cache::read(const std::string& network, const Attachment& attachment) const {
  const std::string path = path_of(network, attachment);
  auto text = base::read_file(path, kEntryBytesMax);
  if (!text && text.error().code == Code::kNotFound) return std::optional<CachedResult>();
  if (!text) return std::move(text).error();
  TRY(CachedResult entry, entry_of(*text, path));
  return std::optional<CachedResult>(std::move(entry));
}

Status Cache::remove(const std::string& network, const Attachment& attachment) const {
  const std::string path = path_of(network, attachment);
  if (::unlink(path.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR) return {};
  return Error::from_errno(errno, str("removing ", path));
}

Result<std::vector<CachedResult>> Cache::of_network(const std::string& network) const {
  const std::string folder = dir_ + "/results";
  std::vector<CachedResult> found;
  auto names = base::list_dir(folder);
  if (!names && names.error().code == Code::kNotFound) return found;
  if (!names) return std::move(names).error();
  for (const std::string& name : *names) {
    if (!name.starts_with(network + "-")) continue;
    const std::string path = str(folder, "/", name);
    const auto text = base::read_file(path, kEntryBytesMax);
    if (!text) continue;
    auto entry = entry_of(*text, path);
    // "a-b" begins as "a" does.
    if (entry && entry->network == network) found.push_back(*std::move(entry));
  }
  return found;
}

// The names were checked: none has a separator in it.
std::string Cache::path_of(const std::string& network, const Attachment& attachment) const {
  CHECK(is_name(network) && is_name(attachment.container_id) && is_ifname(attachment.ifname));
  return str(dir_, "/results/", network, "-", attachment.container_id, "-", attachment.ifname);
}

namespace {

Json json_of(const CachedResult& entry) {
  Json args = Json::array();
  for (const auto& [key, value] : entry.attachment.args) args.push_back({key, value});
  Json object = {{"kind", kKind},
                 {"containerId", entry.attachment.container_id},
                 {"config", base::base64_encode(entry.list_text, base::Base64Padding::kFull)},
                 {"ifName", entry.attachment.ifname},
                 {"networkName", entry.network},
                 {"netns", entry.attachment.netns},
                 {"cniArgs", std::move(args)},
                 {"capabilityArgs", capability_args(entry.attachment.supplied)}};
  object["result"] = Json::parse(entry.result_text, nullptr, false);
  return object;
}

Result<CachedResult> entry_of(const std::string& text, const std::string& path) {
  const auto damaged = [&](std::string_view why) { return Error::data_loss(str(path, " is damaged: ", why)); };
  base::JsonLimits limits;
  limits.duplicate_keys = true;
  const auto object = base::parse_json(text, path, limits);
  if (!object) return Error::data_loss(object.error().message);
  const auto kind = base::get_string(*object, "kind");
  if (!kind || *kind != std::string(kKind)) return damaged("its kind is not cniCacheV1");
  CachedResult entry;
  for (const auto& [key, into] : {std::pair{"containerId", &entry.attachment.container_id},
                                  {"ifName", &entry.attachment.ifname},
                                  {"networkName", &entry.network}}) {
    auto value = base::require_string(*object, key);
    if (!value) return damaged(value.error().message);
    *into = *std::move(value);
  }
  if (!is_name(entry.network)) return damaged("its networkName cannot be one");
  if (auto valid = check_attachment(entry.attachment); !valid) return damaged(valid.error().message);
  entry.attachment.netns = base::get_string(*object, "netns").value_or(std::nullopt).value_or("");
  const auto config = base::get_string(*object, "config");
  if (config && *config) entry.list_text = base::base64_decode(**config).value_or("");
  const auto capabilities = base::get_object(*object, "capabilityArgs");
  if (capabilities && *capabilities != nullptr) {
    entry.attachment.supplied = parse_capability_args(**capabilities).value_or(Supplied{});
  }
  const auto result = object->find("result");
  if (result == object->end() || !result->is_object()) return damaged("it has no result");
  entry.result_text = base::dump_json(*result);
  return entry;
}

}  // namespace
}  // namespace cni
