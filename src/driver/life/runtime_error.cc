#include "driver/life/runtime_error.h"

#include <array>
#include <string_view>

namespace driver {

namespace {
using base::Code;

// In the order in which runc stacks them; each is cut off once, wherever it ends.
constexpr std::array<std::string_view, 9> kBoilerplate = {"OCI runtime create failed: ",
                                                          "OCI runtime start failed: ",
                                                          "OCI runtime exec failed: ",
                                                          "runc create failed: ",
                                                          "runc exec failed: ",
                                                          "exec failed: ",
                                                          "unable to start container process: ",
                                                          "container_linux.go:380: starting container process caused: ",
                                                          "error during container init: "};

struct Cause {
  std::string_view text;
  Code code;
};
// What a full machine says comes first: then the shim finds no log of the runtime either, and says so.
constexpr std::array<Cause, 27> kCauses = {{
    {"resource temporarily unavailable", Code::kResourceExhausted},
    {"no space left on device", Code::kResourceExhausted},
    {"cannot allocate memory", Code::kResourceExhausted},
    // The container's first process was killed before it was the job's command, by whomever.
    {"cannot start a container that has stopped", Code::kUnavailable},
    {"cannot start an already running container", Code::kUnavailable},
    {"cannot start a stopped process", Code::kUnavailable},  // the shim's own words for it
    {"cannot start a deleted process", Code::kUnavailable},
    {"container process is already dead", Code::kUnavailable},
    {"container init was OOM-killed", Code::kUnavailable},
    {"is not in created state", Code::kUnavailable},
    {"connection reset by peer", Code::kUnavailable},
    {"broken pipe", Code::kUnavailable},
    {"no such process", Code::kUnavailable},
    {"No such process", Code::kUnavailable},  // crun
    {"sync socket", Code::kUnavailable},      // crun
    {"pipe: EOF", Code::kUnavailable},
    // The runtime was killed, by whomever: shims show the signal, or as a shell does.
    {"did not terminate successfully: signal: ", Code::kUnavailable},
    {"did not terminate successfully: exit status 137", Code::kUnavailable},
    {"did not terminate successfully: exit status 143", Code::kUnavailable},
    {"did not terminate successfully: exit status 139", Code::kUnavailable},
    {"executable file not found in $PATH", Code::kInvalidArgument},
    {"executable file `", Code::kInvalidArgument},  // crun: executable file `x` not found in $PATH
    {"no such file or directory", Code::kInvalidArgument},
    {"permission denied", Code::kInvalidArgument},
    {"exec format error", Code::kInvalidArgument},
    {"is a directory", Code::kInvalidArgument},
    {"not a directory", Code::kInvalidArgument},
}};

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// "/proc/4711/ns/ipc: no such file or directory": the process is gone, no file of the job's is missing.
bool misses_a_process(std::string_view text) {
  constexpr std::string_view kProc = "/proc/";
  for (auto at = text.find(kProc); at != std::string_view::npos; at = text.find(kProc, at + 1)) {
    const std::string_view rest = text.substr(at + kProc.size());
    const auto digits = rest.find_first_not_of("0123456789");
    if (digits != 0 && digits != std::string_view::npos && rest[digits] == '/' &&
        contains(rest, "no such file or directory")) {
      return true;
    }
  }
  return false;
}

Code code_of(std::string_view text, Code otherwise) {
  if (misses_a_process(text)) return Code::kUnavailable;
  for (const Cause& cause : kCauses) {
    if (contains(text, cause.text)) return cause.code;
  }
  return otherwise;
}
}  // namespace

base::Error translate_runtime_error(base::Error error) {
  if (!contains(error.message, "OCI runtime ") && !contains(error.message, "cannot start a")) return error;
  std::string text = error.message;
  for (const std::string_view phrase : kBoilerplate) {
    if (const auto at = text.find(phrase); at != std::string::npos) text.erase(at, phrase.size());
  }
  if (text.ends_with(": unknown")) text.resize(text.size() - std::string_view(": unknown").size());
  error.code = code_of(text, error.code);
  error.message = std::move(text);
  return error;
}

int exit_code_of_runtime_error(const base::Error& error) {
  if (error.code == Code::kResourceExhausted || error.code == Code::kUnavailable) return 0;
  if (contains(error.message, "not found in $PATH") || contains(error.message, "no such file or directory")) return 127;
  if (contains(error.message, "permission denied") || contains(error.message, "exec format error") ||
      contains(error.message, "is a directory")) {
    return 126;
  }
  return 0;
}

}  // namespace driver
