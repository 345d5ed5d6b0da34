// The object that the agent made of a `config { … }` block with our schema, as JSON.
#pragma once

#include <string_view>

#include "base/json_fwd.h"
#include "base/result.h"

namespace plugin {

constexpr std::size_t kConfigBytesMax = 4u << 20;  // msgpack
constexpr std::size_t kConfigDepthMax = 32;
constexpr std::size_t kConfigNodesMax = 65'536;

/// Decodes msgpack as cty (the agent) and go-msgpack (its test harness) write it. Nothing and nil are the empty object;
/// what is inside may be nil, absent, of any integer width, and a number may be text ("0.1"): the option table's
/// decoder knows.
///   errors  kInvalidArgument malformed, or not an object · kResourceExhausted over a limit
base::Result<base::Json> decode_config(std::string_view msgpack, std::string_view what);

}  // namespace plugin
