// The recorded messages and connections of tests/data/agent.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"

namespace tests {

inline std::filesystem::path agent_data() {
  return std::filesystem::path(TEST_DATA_DIR) / "agent";
}

inline std::string golden(const std::string& name) {
  auto content = base::read_file(agent_data() / name, 1u << 20);
  if (!content) ::abort();
  return *std::move(content);
}

}  // namespace tests
