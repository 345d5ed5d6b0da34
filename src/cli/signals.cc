#include "cli/signals.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/thread.h"

namespace cli {

namespace {

constexpr std::array<int, 8> kRelayed = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH};

constexpr std::size_t kHeldMax = 64;

}  // namespace

bool asks_to_stop(int signal) {
  return signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT;
}

base::Result<std::unique_ptr<SignalRelay>> SignalRelay::start() {
  std::unique_ptr<SignalRelay> relay(new SignalRelay);
  TRY_VOID(relay->begin());
  return relay;
}

base::Status SignalRelay::begin() {
  sigset_t relayed;
  ::sigemptyset(&relayed);
  for (const int signal : kRelayed) ::sigaddset(&relayed, signal);
  ::pthread_sigmask(SIG_BLOCK, &relayed, &before_);
  signals_.reset(::signalfd(-1, &relayed, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return base::Error::from_errno(errno, "watching for signals");
  TRY(wake_, base::make_pipe());
  TRY(thread_, base::start_thread("signals", [this] { serve(); }));
  return {};
}

SignalRelay::~SignalRelay() {
  wake_.write_end.reset();
  if (thread_.joinable()) thread_.join();
  // What came too late for anybody must not kill us now.
  signalfd_siginfo late = {};
  while (::read(signals_.get(), &late, sizeof late) > 0) continue;
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void SignalRelay::hold() {
  std::lock_guard lock(mutex_);
  holds_ = true;
}

void SignalRelay::set_target(std::function<void(int)> target) {
  std::lock_guard lock(mutex_);
  holds_ = true;
  target_ = std::move(target);
  if (!target_) return;
  for (const int signal : std::exchange(held_, {})) target_(signal);
}

void SignalRelay::serve() {
  std::array<pollfd, 2> fds = {{{signals_.get(), POLLIN, 0}, {wake_.read_end.get(), POLLIN, 0}}};
  while (true) {
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info = {};
    if (::read(signals_.get(), &info, sizeof info) == sizeof info) deliver(static_cast<int>(info.ssi_signo));
  }
}

void SignalRelay::deliver(int signal) {
  std::lock_guard lock(mutex_);
  if (target_) {
    target_(signal);
  } else if (holds_) {
    if (held_.size() < kHeldMax) held_.push_back(signal);
  } else if (asks_to_stop(signal)) {
    stopped_by_ = signal;
    stop_.request_stop();
  }
}

}  // namespace cli
