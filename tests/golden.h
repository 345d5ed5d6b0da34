// Golden files: expected output kept below tests/data. ACCEPT=1 in the environment writes what the code says now.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tests {

/// A file below tests/data.
inline std::string read_data(const std::string& name) {
  std::ifstream file(std::filesystem::path(TEST_DATA_DIR) / name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void check_golden(const std::string& name, const std::string& actual) {
  const std::filesystem::path path = std::filesystem::path(TEST_DATA_DIR) / name;
  if (const char* accept = ::getenv("ACCEPT"); accept != nullptr && *accept == '1') {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << actual;
    return;
  }
  std::ifstream file(path);
  std::ostringstream expected;
  expected << file.rdbuf();
  if (expected.str() == actual) return;
  std::size_t same = 0;
  while (same < actual.size() && same < expected.str().size() && actual[same] == expected.str()[same]) ++same;
  const std::size_t line_begin = same == 0 ? 0 : actual.rfind('\n', same - 1) + 1;
  FAIL_CHECK("differs from ", path.string(), " at byte ", same, ": ", actual.substr(line_begin, 200),
             "\nlook at it, then run the test with ACCEPT=1");
}

}  // namespace tests
