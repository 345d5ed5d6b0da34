// A directory of a test's own, removed at its end.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "base/file.h"

namespace tests {

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "cd-test-XXXXXX").string();
    CHECK_NE_NULL(::mkdtemp(name.data()));
    path_ = name;
  }
  ~TempDir() { [[maybe_unused]] const auto removed = base::remove_tree(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  static void CHECK_NE_NULL(const char* p) {
    if (p == nullptr) ::abort();
  }
  std::filesystem::path path_;
};

}  // namespace tests
