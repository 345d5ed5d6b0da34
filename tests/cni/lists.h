// Configuration lists of these tests.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>
#include <string>

#include "base/result.h"
#include "cni/types.h"

namespace tests {

/// A list of `plugins`, each a JSON object.
inline cni::NetworkList list_of(std::initializer_list<std::string> plugins, const std::string& version = "1.0.0",
                                const std::string& more = "") {
  std::string joined;
  for (const std::string& plugin : plugins) joined += (joined.empty() ? "" : ",") + plugin;
  auto list = cni::parse_list(base::str("{\"cniVersion\":\"", version, "\",\"name\":\"net\",", more, "\"plugins\":[",
                                        joined, "]}"),
                              "a list");
  REQUIRE_MESSAGE(list.has_value(), (list ? "" : list.error().message));
  return *std::move(list);
}

}  // namespace tests
