// containerd-driver-image: pulls one image into the store and unpacks it, with fewer rights than the driver. Started by
// the driver and the command line (oci/images.h), which give it a request on stdin and read JSON lines from its stdout;
// oci/pull_protocol.h has both. SIGTERM ends it, and it removes what it has half done.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/thread.h"
#include "oci/fetch/login.h"
#include "oci/fetch/pull.h"
#include "oci/fetch/sandbox/sandbox.h"
#include "oci/fetch/unpacker.h"
#include "oci/pull_protocol.h"
#include "oci/reference.h"
#include "oci/store.h"

namespace {

constexpr char kUsage[] =
    "containerd-driver-image is started by containerd-driver, which tells it what to pull. To pull an image yourself:\n"
    "  containerd-driver pull IMAGE\n";

// Nobody listens any more: then the parent is gone, and so are we, soon.
void say(const oci::HelperEvent& event) {
  [[maybe_unused]] const auto sent = base::write_all(base::Context::background(), STDOUT_FILENO, oci::encode(event));
}

/// Our standard input: the request, then the answers to what we ask.
class Input {
 public:
  /// Without its newline; "" at the end. The request of a caller that answers nothing may end without one.
  base::Result<std::string> line(const base::Context& ctx) {
    for (;;) {
      if (const auto end = buffer_.find('\n'); end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return line;
      }
      if (buffer_.size() > oci::kHelperRequestBytesMax) {
        return base::Error::resource_exhausted(
            base::str("the request is longer than the limit of ", oci::kHelperRequestBytesMax, " bytes"));
      }
      char chunk[4096];
      TRY(const std::size_t size, base::read_some(ctx, STDIN_FILENO, chunk));
      if (size == 0) return std::exchange(buffer_, {});
      buffer_.append(chunk, size);
    }
  }

 private:
  std::string buffer_;
};

/// Asks our parent, and waits for its word.
oci::fetch::Confirm confirm_by(Input& input) {
  return [&input](const base::Context& ctx, const oci::HelperResolved& resolved) -> base::Status {
    say(resolved);
    TRY(const auto answer, input.line(ctx.with_timeout(oci::kHelperGoTimeMax)));
    if (answer == oci::kHelperGo) return {};
    return base::Error::cancelled(base::str("the pull of ", resolved.reference, " was not approved"));
  };
}

/// What is known and made while there is one thread, and nothing has come from outside yet.
struct Prepared {
  oci::HelperRequest request;
  std::vector<oci::fetch::Host> hosts;
  base::Fd store_view;
};

base::Result<Prepared> prepare(Input& input, oci::fetch::UnpackStarter& starter) {
  const auto ctx = base::Context::background();
  Prepared out;
  TRY(const auto text, input.line(ctx));
  TRY(out.request, oci::decode_request(text));
  oci::fetch::FetchView view;
  if (out.request.archive) {
    view.network = oci::fetch::Network::kNo;
    view.archive_fd = oci::kArchiveFd;
  } else {
    TRY(const auto reference, oci::Reference::parse(out.request.reference));
    TRY(out.hosts, oci::fetch::hosts_of(reference, out.request.hosts_dir,
                                        [](const std::string& warning) { say(oci::HelperWarning{warning}); }));
    view.needed = oci::fetch::files_for(out.hosts);
  }
  TRY_VOID(oci::Store(out.request.data_dir).create());
  std::error_code error;
  view.data_dir = std::filesystem::canonical(out.request.data_dir, error).string();
  if (error) return base::Error::from_errno(error.value(), out.request.data_dir);
  out.request.data_dir = view.data_dir;  // links on the way to it are not there any more
  TRY_VOID(starter.set_store(ctx, view.data_dir));
  TRY(out.store_view, oci::fetch::enter_fetch_sandbox(view));
  return out;
}

base::Result<oci::HelperDone> pull(const base::Context& ctx, const Prepared& prepared, Input& input,
                                   oci::fetch::UnpackStarter& starter) {
  if (prepared.request.login) {
    TRY_VOID(oci::fetch::check_login(ctx, prepared.request, prepared.hosts));
    return oci::HelperDone{{prepared.request.reference}};
  }
  const oci::fetch::Confirm confirm = prepared.request.confirm ? confirm_by(input) : oci::fetch::Confirm();
  const oci::fetch::UnpackSite site{starter, prepared.store_view};
  if (prepared.request.archive) return oci::fetch::load_archive(ctx, prepared.request, site, say, confirm);
  TRY_VOID(oci::fetch::pull_image(ctx, prepared.request, prepared.hosts, site, say, confirm));
  return oci::HelperDone{{prepared.request.reference}};
}

/// From SIGTERM and SIGINT, which are blocked in all threads.
base::Result<std::stop_token> stopped_by(const sigset_t& endings) {
  std::stop_source stop;
  TRY(std::jthread waiter, base::start_thread("signals", [endings, stop]() mutable {
        int signal = 0;
        ::sigwait(&endings, &signal);
        stop.request_stop();
      }));
  waiter.detach();
  return stop.get_token();
}

base::Result<oci::HelperDone> run() {
  TRY_VOID(oci::fetch::enter_sandbox());
  ::signal(SIGPIPE, SIG_IGN);
  TRY(const auto starter, oci::fetch::UnpackStarter::start());
  sigset_t endings;
  ::sigemptyset(&endings);
  ::sigaddset(&endings, SIGTERM);
  ::sigaddset(&endings, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &endings, nullptr);
  Input input;
  TRY(const auto prepared, prepare(input, *starter));
  TRY(const std::stop_token stop, stopped_by(endings));
  return pull(base::Context::background().with_stop(stop), prepared, input, *starter);
}

}  // namespace

int main(int argc, char**) {
  // No setlocale(): in "C", names in layers stay the bytes that they are (oci/fetch/unpack/unpack.cc).
  if (argc > 1 || ::isatty(STDIN_FILENO) != 0) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const auto done = run();
  const oci::HelperEvent last = done ? oci::HelperEvent(*done) : oci::HelperEvent(done.error());
  const auto sent = base::write_all(base::Context::cleanup(), STDOUT_FILENO, oci::encode(last));
  // The thread that waits for signals still does: there is nothing that destructors would have to do.
  ::_exit(done && sent ? 0 : 1);
}
