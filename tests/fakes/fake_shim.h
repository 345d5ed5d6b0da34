// A shim without a runtime: it answers the Task service on a listening socket as containerd-shim-runc-v2 does, and its
// "containers" and execs are plain processes of this host, started from the process.args of config.json. For tests of
// what drives shims, above all of what goes wrong with them.
//
// In process: FakeShim on any socket, reached by Shim::adopt. As a program (fake_shim_main.cc) in place of the real
// one: it misbehaves as its own file name tells, so that a test chooses by ShimOptions::shim_binary = a symlink to it,
// named "fake_shim.<what>".
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/loop.h"
#include "base/process.h"
#include "ttrpc/server.h"

namespace fakes {

/// How one method misbehaves; unset = it does not.
struct Fault {
  bool silent = false;                 ///< never answers
  bool dies = false;                   ///< `die` is called instead of an answer
  std::chrono::milliseconds late{0};   ///< answers after this
  std::optional<base::Error> error{};  ///< answers this
};

struct FakeShimOptions {
  std::string service = "containerd.task.v2.Task";  ///< or v3
  std::map<std::string, Fault> faults;              ///< by method: "Create", "Start", …
  std::function<void()> die;                        ///< for Fault::dies; unset = all connections are closed
  pid_t shim_pid = 0;                               ///< what Connect tells; 0 = this process (then never shut it down)
  std::function<void()> on_shutdown;                ///< after the answer to Shutdown is under way
};

/// threads  any for the constructor and destructor, which kills what it started
class FakeShim {
 public:
  FakeShim(base::Loop& loop, base::Fd listening_socket, const std::string& socket_path, FakeShimOptions options);
  ~FakeShim();
  FakeShim(const FakeShim&) = delete;
  FakeShim& operator=(const FakeShim&) = delete;

  /// How often a method was called. Any thread but the loop's.
  int calls(const std::string& method) const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace fakes
