// The name of the JSON type, for headers that only mention it: the whole of nlohmann/json costs 3 s a file to compile.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace base {

using Json = nlohmann::json;

}  // namespace base
