// containerd-driver-image: pulls one image into the store and unpacks it, with fewer rights than the driver. Started by
// the driver and the command line (oci/images.h), which give it a request on stdin and read JSON lines from its stdout;
// oci/pull_protocol.h has both. SIGTERM ends it, and it removes what it has half done.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <stop_token>
#include <string>
#include <thread>

#include "base/fd.h"
#include "base/result.h"
#include "oci/fetch/pull.h"
#include "oci/fetch/sandbox.h"
#include "oci/pull_protocol.h"

namespace {

constexpr char kUsage[] =
    "containerd-driver-image is started by containerd-driver, which tells it what to pull. To pull an image yourself:\n"
    "  containerd-driver pull IMAGE\n";

base::Result<oci::HelperDone> pull(const base::Context& ctx) {
  TRY(const auto text, base::read_to_end(ctx, STDIN_FILENO, oci::kHelperRequestBytesMax, "request"));
  TRY(const auto request, oci::decode_request(text));
  // Nobody listens any more: then the parent is gone, and so are we, soon.
  const auto sink = [](const oci::HelperEvent& event) {
    [[maybe_unused]] const auto sent = base::write_all(base::Context::background(), STDOUT_FILENO, oci::encode(event));
  };
  if (request.archive) return oci::fetch::load_archive(ctx, request, sink);
  TRY_VOID(oci::fetch::pull_image(ctx, request, sink));
  return oci::HelperDone{{request.reference}};
}

}  // namespace

int main(int argc, char**) {
  // No setlocale(): in "C", names in layers stay the bytes that they are (oci/fetch/unpack.cc).
  if (argc > 1 || ::isatty(STDIN_FILENO) != 0) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (auto entered = oci::fetch::enter_sandbox(); !entered) {
    std::fprintf(stderr, "containerd-driver-image: %s\n", entered.error().message.c_str());
    return 1;
  }
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t endings;
  ::sigemptyset(&endings);
  ::sigaddset(&endings, SIGTERM);
  ::sigaddset(&endings, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &endings, nullptr);
  std::stop_source stop;
  std::thread([endings, stop]() mutable {
    int signal = 0;
    ::sigwait(&endings, &signal);
    stop.request_stop();
  }).detach();

  const auto status = pull(base::Context::background().with_stop(stop.get_token()));
  const oci::HelperEvent last = status ? oci::HelperEvent(*status) : oci::HelperEvent(status.error());
  const auto sent = base::write_all(base::Context::cleanup(), STDOUT_FILENO, oci::encode(last));
  // The thread above still waits: there is nothing that destructors would have to do.
  ::_exit(status && sent ? 0 : 1);
}
