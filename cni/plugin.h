// Runs one plugin: the only place of this library that executes anything.
//
// A plugin gets an environment made here and nothing of ours, its configuration on standard input, and a time. It is a
// process group of its own; at its end, or at the end of the time, what is left of the group is killed.
//
// spec  CNI SPEC.md "Section 2: Execution Protocol"
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "cni/attachment.h"

namespace cni {

enum class Command { kAdd, kCheck, kDel, kGc, kStatus, kVersion };
std::string_view command_name(Command command);

/// Where plugins are looked for if nothing else is said: their own place, then Debian's and Fedora's.
std::vector<std::string> default_plugin_dirs();

struct PluginCall {
  Command command = Command::kAdd;
  std::string type;
  const Attachment* attachment = nullptr;  ///< null for GC, STATUS and VERSION
  std::string_view input;                  ///< input_text()
  /// Descriptors that the plugin and all its children keep open, so that locks which hang on them last as long.
  std::vector<int> held_fds;
};

/// threads  any
class Plugins {
 public:
  explicit Plugins(std::vector<std::string> dirs) : dirs_(std::move(dirs)) {}
  const std::vector<std::string>& dirs() const { return dirs_; }

  /// The program of a type.
  ///   errors  kNotFound it is in none of the folders · kFailedPrecondition not executable, or others may write to it ·
  ///           by errno: it could not be looked for
  base::Result<std::string> find(const std::string& type) const;

  /// Runs it and gives back what it printed. That a DEL finds the container unknown is its success.
  ///   blocks  until ctx ends
  ///   errors  find()'s; the plugin's own, in its words and with code_of() its code · kDeadlineExceeded,
  ///           kResourceExhausted more than kOutputBytesMax
  base::Result<std::string> run(const base::Context& ctx, const PluginCall& call) const;

 private:
  std::vector<std::string> dirs_;
};

}  // namespace cni
