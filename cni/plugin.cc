#include "cni/plugin.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/process.h"
#include "base/text.h"

namespace cni {

namespace {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

// A package manager is writing the file at this moment.
constexpr std::chrono::milliseconds kBusyPause{250};
constexpr int kBusyTriesMax = 20;
constexpr std::int64_t kContainerUnknown = 3;  ///< spec, "Error": there is nothing to clean up
constexpr std::size_t kShownBytesMax = 512;  ///< of what a plugin printed that is no error object
// What plugins call in turn: iptables, nft, sysctl, ip.
constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string joined(const std::vector<std::string>& dirs);
Status check_program(const std::string& path, const struct stat& info);
std::vector<std::string> environment(const PluginCall& call, const std::string& dirs);
Result<base::RunResult> run_when_written(const Context& ctx, const base::SpawnOptions& options, std::string_view input);
Error failure(const base::RunResult& ran);
std::string excerpt(std::string_view text);

}  // namespace

std::string_view command_name(Command command) {
  switch (command) {
    case Command::kAdd:
      return "ADD";
    case Command::kCheck:
      return "CHECK";
    case Command::kDel:
      return "DEL";
    case Command::kGc:
      return "GC";
    case Command::kStatus:
      return "STATUS";
    case Command::kVersion:
      return "VERSION";
  }
  return "";
}

std::vector<std::string> default_plugin_dirs() {
  return {"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"};
}

Result<std::string> Plugins::find(const std::string& type) const {
  CHECK(is_plugin_type(type));
  for (const std::string& dir : dirs_) {
    const std::string path = str(dir, "/", type);
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0) {
      TRY_VOID(check_program(path, info));
      return path;
    }
    if (errno != ENOENT && errno != ENOTDIR) return Error::from_errno(errno, path);
  }
  return Error::not_found(str("there is no plugin \"", type, "\" in ", joined(dirs_),
                              ": install it there, or name the folder that it is in"));
}

Result<std::string> Plugins::run(const Context& ctx, const PluginCall& call) const {
  TRY(const std::string program, find(call.type));
  base::SpawnOptions options;
  options.argv = {program};
  options.env = environment(call, joined(dirs_));
  options.extra_fds = call.held_fds;
  options.new_process_group = true;
  options.die_with_parent = true;
  auto ran = run_when_written(ctx, options, call.input);
  if (!ran && ran.error().code == base::Code::kDeadlineExceeded) {
    return Error::deadline_exceeded(str(program, " did not answer in time and was killed"));
  }
  if (!ran) return std::move(ran).error();
  // Some print an error object and say that all is well.
  const auto said_error = parse_error(ran->stdout_text);
  if (call.command == Command::kDel && said_error && said_error->code == kContainerUnknown) return std::string();
  if (!ran->exit.success() || said_error) return failure(*ran).wrap(program);
  return std::move(ran->stdout_text);
}

namespace {

std::string joined(const std::vector<std::string>& dirs) {
  std::string text;
  for (const std::string& dir : dirs) text += str(text.empty() ? "" : ":", dir);
  return text;
}

// It runs with all our rights, so nobody else may have had a hand in it.
Status check_program(const std::string& path, const struct stat& info) {
  constexpr mode_t kOthersMayWrite = 022;
  constexpr mode_t kExecutable = 0111;
  if (!S_ISREG(info.st_mode)) return Error::failed_precondition(str("the plugin ", path, " is not a file"));
  if ((info.st_mode & kExecutable) == 0) {
    return Error::failed_precondition(str("the plugin ", path, " is not executable: chmod +x it"));
  }
  const bool ours = info.st_uid == 0 || info.st_uid == ::geteuid();
  if (ours && (info.st_mode & kOthersMayWrite) == 0) return {};
  return Error::failed_precondition(str("the plugin ", path,
                                        " can be written to by others than root, so that it is not run: chown "
                                        "root:root and chmod go-w it"));
}

std::vector<std::string> environment(const PluginCall& call, const std::string& dirs) {
  std::vector<std::string> env = {kPath, str("CNI_COMMAND=", command_name(call.command)), str("CNI_PATH=", dirs)};
  if (call.attachment == nullptr) return env;
  env.push_back(str("CNI_CONTAINERID=", call.attachment->container_id));
  env.push_back(str("CNI_NETNS=", call.attachment->netns));
  env.push_back(str("CNI_IFNAME=", call.attachment->ifname));
  env.push_back(str("CNI_ARGS=", args_text(*call.attachment)));
  return env;
}

Result<base::RunResult> run_when_written(const Context& ctx, const base::SpawnOptions& options,
                                         std::string_view input) {
  for (int tries = 1;; ++tries) {
    auto ran = base::run(ctx, options, input, kOutputBytesMax);
    if (ran || ran.error().sys_errno != ETXTBSY || tries == kBusyTriesMax) return ran;
    TRY_VOID(ctx.sleep(kBusyPause));
  }
}

Error failure(const base::RunResult& ran) {
  if (const auto error = parse_error(ran.stdout_text)) return {code_of(*error), error->message};
  const std::string how = ran.exit.signal != 0 ? str("was killed by ", base::signal_name(ran.exit.signal))
                                               : str("exited with ", ran.exit.exit_code);
  const std::string said = excerpt(ran.stdout_text.empty() ? ran.stderr_text : ran.stdout_text);
  return Error::failed_precondition(said.empty() ? str(how, " and said nothing") : str(how, " and said: ", said));
}

std::string excerpt(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  text.remove_prefix(begin);
  text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  const bool cut = text.size() > kShownBytesMax;
  return base::printable(text.substr(0, kShownBytesMax)) + (cut ? " …" : "");
}

}  // namespace
}  // namespace cni
