// Parsing of request messages. Internal to src/plugin, as it needs the protobuf runtime.
#pragma once

#include <string_view>

#include "base/result.h"

namespace plugin {

/// kInvalidArgument if `bytes` is not a `Message` (limits of nesting included; grpc limits the size).
template <typename Message>
base::Result<Message> parse_message(std::string_view bytes) {
  Message message;
  if (message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return message;
  return base::Error::invalid_argument(base::str("malformed request: not a ", message.GetTypeName()));
}

}  // namespace plugin
