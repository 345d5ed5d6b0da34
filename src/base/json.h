// JSON without exceptions: parse with limits, getters that say what is wrong, and canonical dumping. The only header
// that includes nlohmann/json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"

namespace base {

struct JsonLimits {
  std::size_t bytes_max = 4u << 20;
  std::size_t depth_max = 32;
  std::size_t nodes_max = 100'000;
  bool duplicate_keys = false;  ///< false: a repeated key in one object is an error
};

/// Parses one complete document. kInvalidArgument with `what` ("manifest sha256:…") in the message; kResourceExhausted
/// past a limit. Never throws, never recurses without bound.
Result<Json> parse_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});
/// Decodes one msgpack value (spec: the cty encoder and go-msgpack's old raw strings). Same limits and errors.
Result<Json> parse_msgpack(std::string_view bytes, std::string_view what, const JsonLimits& limits = {});

/// Invalid UTF-8 is replaced by U+FFFD; never throws.
std::string dump_json(const Json& value);
std::string dump_json_pretty(const Json& value);

/// Typed members. Absent and null are nullopt; another type is kInvalidArgument naming `key`.
Result<std::optional<std::string>> get_string(const Json& object, std::string_view key);
Result<std::optional<std::int64_t>> get_int(const Json& object, std::string_view key);
Result<std::optional<bool>> get_bool(const Json& object, std::string_view key);
Result<std::optional<std::vector<std::string>>> get_string_list(const Json& object, std::string_view key);
/// The same for members that must be there: absent and null are kInvalidArgument, too.
Result<std::string> require_string(const Json& object, std::string_view key);
Result<std::uint64_t> require_uint(const Json& object, std::string_view key);
/// Pointer to the member if it is an object/array, nullptr if absent or null.
Result<const Json*> get_object(const Json& object, std::string_view key);
Result<const Json*> get_array(const Json& object, std::string_view key);

}  // namespace base
