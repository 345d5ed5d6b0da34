// Plugins that are shell scripts, in a folder of a test, with what they were called with.
#pragma once

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "cni/runtime.h"
#include "tests/temp_dir.h"

namespace tests {

class Scripts {
 public:
  /// A plugin that notes each call, keeps its input as <type>.<command>, then runs `body`.
  void add(const std::string& type, const std::string& body) const {
    const std::string path = bin() + "/" + type;
    std::ofstream(path) << "#!/bin/sh\necho \"" << type << " $CNI_COMMAND\" >> " << dir_ / "calls" << "\ncat > "
                        << dir_ / type << ".$CNI_COMMAND\nenv > " << dir_ / type << ".env\n"
                        << body << "\n";
    REQUIRE(::chmod(path.c_str(), 0755) == 0);
  }
  /// One that answers ADD with `result` and everything else with nothing.
  void add_good(const std::string& type, const std::string& result) const {
    add(type, "[ $CNI_COMMAND = ADD ] && echo '" + result + "'\nexit 0");
  }

  std::vector<std::string> calls() const {
    std::vector<std::string> lines;
    std::ifstream file(dir_ / "calls");
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  void forget_calls() const { std::ofstream(dir_ / "calls"); }
  std::string text(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(dir_ / name).rdbuf();
    return text.str();
  }
  base::Json input(const std::string& name) const { return *base::parse_json(text(name), name); }

  cni::RuntimeOptions options() const {
    cni::RuntimeOptions options;
    options.plugin_dirs = {bin()};
    options.cache_dir = dir_ / "cache";
    return options;
  }
  std::string bin() const {
    const std::string path = dir_ / "bin";
    ::mkdir(path.c_str(), 0755);
    return path;
  }
  const TempDir& dir() const { return dir_; }

 private:
  TempDir dir_;
};

}  // namespace tests
