// The first process of a task with `init = true`, bind-mounted into the container: it starts the task's command, hands
// signals on to it, reaps whatever ends, and ends as the command did. As the first process of a PID namespace the
// command itself would get no signal that it has no handler for, and would have to reap strangers.
//
// Static and without our libraries: it runs in every image, also in one without a C library. It never allocates.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

namespace {

constexpr int kExitNotFound = 127;  // as shells have it
constexpr int kExitNotExecutable = 126;
constexpr int kExitSignalBase = 128;
constexpr int kExitUsage = 125;

void say(const char* subject, const char* what) {
  for (const char* text : {"containerd-driver-init: ", subject, ": ", what, "\n"}) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
  }
}

[[noreturn]] void become(char** command, const sigset_t& mask) {
  // A group of its own, so that what a terminal sends to a group reaches it once, and not through us again.
  setpgid(0, 0);
  tcsetpgrp(STDIN_FILENO, getpid());  // fails without a terminal, which is fine
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  execvp(command[0], command);
  const int error = errno;
  say(command[0], strerror(error));
  _exit(error == ENOENT || error == ENOTDIR ? kExitNotFound : kExitNotExecutable);
}

/// Reaps everything that has ended; the exit code once `child` is among it, else -1.
int reap(pid_t child) {
  int code = -1;
  for (;;) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return code;
    if (pid == child) code = WIFEXITED(status) ? WEXITSTATUS(status) : kExitSignalBase + WTERMSIG(status);
  }
}

}  // namespace

// containerd-driver-init -- program [argument…]
int main(int argc, char** argv) {
  if (argc < 3 || strcmp(argv[1], "--") != 0) {
    say("usage", "containerd-driver-init -- program [argument...]");
    return kExitUsage;
  }
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  const pid_t child = fork();
  if (child < 0) {
    say("fork", strerror(errno));
    return kExitUsage;
  }
  if (child == 0) {
    // The terminal's foreground group is taken while SIGTTOU is blocked.
    become(argv + 2, before);
  }
  for (;;) {
    const int signal = sigwaitinfo(&all, nullptr);
    if (signal < 0) continue;  // EINTR: stopped and continued
    if (signal == SIGCHLD) {
      const int code = reap(child);
      if (code >= 0) return code;
    } else {
      kill(child, signal);
    }
  }
}
