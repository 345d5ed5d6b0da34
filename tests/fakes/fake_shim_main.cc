// Stands in for containerd-shim-runc-v2. What it does wrong is in the name that it is run by, "fake_shim.<what>":
//   ends        exits at once                      silent      serves nothing, for ever
//   garbage     talks HTTP                         v3          version 3 of the Task service
//   <method>-dies, <method>-silent, <method>-late, <method>-fails   e.g. Create-late: that method; late = 300 ms
// Anything else: nothing. With -v it prints a version, with `delete` it ends.
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "base/sync.h"
#include "tests/fakes/fake_shim.h"

namespace {

constexpr int kSocketFd = 3;

[[noreturn]] void talk_http() {
  const int peer = ::accept(kSocketFd, nullptr, nullptr);
  const std::string text = "HTTP/1.1 400 Bad Request\r\n\r\n";
  [[maybe_unused]] const auto n = ::write(peer, text.data(), text.size());
  for (;;) ::pause();
}

fakes::FakeShimOptions options_for(const std::string& what) {
  fakes::FakeShimOptions options;
  options.die = [] { ::_exit(1); };
  if (what == "v3") options.service = "containerd.task.v3.Task";
  const std::size_t dash = what.find('-');
  if (dash == std::string::npos) return options;
  fakes::Fault& fault = options.faults[what.substr(0, dash)];
  const std::string how = what.substr(dash + 1);
  fault.dies = how == "dies";
  fault.silent = how == "silent";
  if (how == "late") fault.late = std::chrono::milliseconds(300);
  if (how == "fails") fault.error = base::Error::unknown("OCI runtime create failed: as the test wants it: unknown");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "delete") == 0) return 0;
    if (std::strcmp(argv[i], "-v") != 0) continue;
    std::puts("containerd-shim-runc-v2:\n  Version:  0.0.0-fake\n  Revision: none");
    return 0;
  }
  const std::string name = argv[0];
  const std::size_t dot = name.rfind('.');
  const std::string what = dot == std::string::npos ? "" : name.substr(dot + 1);
  if (what == "ends") return 3;
  if (what == "silent") {
    for (;;) ::pause();
  }
  if (what == "garbage") talk_http();
  base::Loop loop;
  base::OneShot<bool> done;
  fakes::FakeShimOptions options = options_for(what);
  options.on_shutdown = [done] { done.set(true); };
  const fakes::FakeShim shim(loop, base::Fd(kSocketFd), "", std::move(options));
  [[maybe_unused]] const auto ended = done.wait(base::Context::background());
  loop.run([] {});  // the answer to Shutdown is on its way
  return 0;
}
