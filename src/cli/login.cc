// login and logout: a registry's word on a password, and the file that pulls find it in.
#include <termios.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/auth_file.h"
#include "cli/signals.h"
#include "cli/verb.h"
#include "driver/image/credentials.h"
#include "oci/reference.h"

namespace cli {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kSecretBytesMax = 64u << 10;  // tokens of clouds have some KiB
constexpr std::chrono::minutes kLoginTimeout{1};

struct LoginFlags {
  std::string username;
  std::string password;
  bool password_stdin = false;
  std::string authfile;
  bool get_login = false;
  bool tls_verify = true;
  bool verbose = false;
  void declare(Flags& flags);
};

Status check_login_flags(const LoginFlags& given);
Result<std::string> registry_of(const std::vector<std::string>& args);
int print_login(Call& call, const std::string& path, const std::string& host);
Result<oci::Credentials> ask_credentials(const Context& ctx, Io& io, const LoginFlags& given);
Result<std::string> ask_line(const Context& ctx, Io& io, const char* question, bool hidden);
Status log_in(const Context& ctx, const Globals& globals, const std::string& path, const std::string& host,
              const oci::Credentials& credentials);
Status log_out(const std::string& path, const std::string& host);

}  // namespace

int login_command(const Verb& self, Call& call) {
  Flags flags;
  LoginFlags given;
  given.declare(flags);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (auto valid = check_login_flags(given); !valid) return misuse(self, call.io, valid.error());
  const auto host = registry_of(*args);
  if (!host) return misuse(self, call.io, host.error());
  const std::string path = auth_file_path(given.authfile.empty() ? call.globals.auth_config : given.authfile);
  if (given.get_login) return print_login(call, path, *host);
  const auto signals = SignalRelay::start();
  if (!signals) return fail(call.io, signals.error(), kExitMisuse);
  const auto ctx = Context::background().with_stop((*signals)->stop_token());
  const auto credentials = ask_credentials(ctx, call.io, given);
  if (!credentials) return fail_unless_stopped(call.io, **signals, credentials.error(), kExitMisuse);
  if (auto done = log_in(ctx, call.globals, path, *host, *credentials); !done) {
    return fail_unless_stopped(call.io, **signals, Error(done.error()).wrap(str("login to ", *host)), kExitMisuse);
  }
  print_line(call.io, "Login Succeeded!");
  return kExitOk;
}

int logout_command(const Verb& self, Call& call) {
  Flags flags;
  std::string authfile;
  bool all = false;
  flags.value("authfile", 0, "FILE", "the file to change (default: as for login)", authfile);
  flags.toggle("all", 'a', "forget the passwords of all registries", all);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (all && !args->empty()) return misuse(self, call.io, Error::invalid_argument("--all takes no registry"));
  const auto host = registry_of(*args);
  if (!host) return misuse(self, call.io, host.error());
  const std::string path = auth_file_path(authfile.empty() ? call.globals.auth_config : authfile);
  if (auto done = log_out(path, all ? "" : *host); !done) return fail(call.io, done.error(), kExitMisuse);
  print_line(call.io,
             all ? "Removed login credentials of all registries" : str("Removed login credentials for ", *host));
  return kExitOk;
}

namespace {

void LoginFlags::declare(Flags& flags) {
  flags.value("username", 'u', "NAME", "user name", username);
  flags.value("password", 'p', "PASSWORD", "password; other users of this node can see it: better --password-stdin",
              password);
  flags.toggle("password-stdin", 0, "read the password from standard input", password_stdin);
  flags.value("authfile", 0, "FILE",
              "the file to change (default: --auth-config, REGISTRY_AUTH_FILE, or ~/.docker/config.json)", authfile);
  flags.toggle("get-login", 0, "print the user name that is logged in", get_login);
  flags.toggle("tls-verify", 0, "check the registry's certificate (hosts.toml says where not)", tls_verify);
  flags.toggle("verbose", 'v', "without effect", verbose);
}

Status check_login_flags(const LoginFlags& given) {
  if (given.password_stdin && !given.password.empty()) {
    return Error::invalid_argument("give --password or --password-stdin, not both");
  }
  if (given.password_stdin && given.username.empty()) {
    return Error::invalid_argument("--password-stdin needs --username");
  }
  if (given.username.find(':') != std::string::npos) {
    return Error::invalid_argument("--username: a user name has no colon");
  }
  if (!given.tls_verify) {
    return Error::invalid_argument(
        "--tls-verify=false is for pulls as well, so write skip_verify = true into hosts.toml");
  }
  return {};
}

// "https://quay.io/" is quay.io; docker.io is what a name without a registry means.
Result<std::string> registry_of(const std::vector<std::string>& args) {
  if (args.size() > 1) return Error::invalid_argument("name one registry");
  if (args.empty()) return std::string("docker.io");
  const std::string host = driver::registry_host(args.front());
  const std::size_t scheme = args.front().find("://");
  std::string_view rest = std::string_view(args.front()).substr(scheme == std::string::npos ? 0 : scheme + 3);
  while (rest.ends_with('/')) rest.remove_suffix(1);
  const bool has_path = rest.find('/') != std::string_view::npos && host != "docker.io";  // that has /v1/
  const auto reference = oci::Reference::parse(str(host, "/login/check"));
  if (!reference || reference->host() != host || has_path) {
    return Error::invalid_argument(str("\"", args.front(),
                                       "\" is not a registry: give a host, such as quay.io or "
                                       "registry.example.com:5000"));
  }
  return host;
}

int print_login(Call& call, const std::string& path, const std::string& host) {
  const auto document = read_auth_file(path);
  if (!document) return fail(call.io, document.error(), kExitMisuse);
  const auto entry = driver::read_docker_config(base::dump_json(*document), host);
  if (!entry) return fail(call.io, Error(entry.error()).wrap(path), kExitMisuse);
  if (entry->credentials.username.empty()) {
    return fail(call.io, Error::not_found(str("not logged in to ", host)), kExitMisuse);
  }
  print_line(call.io, entry->credentials.username);
  return kExitOk;
}

Result<oci::Credentials> ask_credentials(const Context& ctx, Io& io, const LoginFlags& given) {
  oci::Credentials credentials{given.username, given.password};
  if (given.password_stdin) {
    TRY(credentials.password, base::read_to_end(ctx, STDIN_FILENO, kSecretBytesMax, "the password"));
    while (credentials.password.ends_with('\n') || credentials.password.ends_with('\r'))
      credentials.password.pop_back();
  }
  const bool asks = credentials.username.empty() || (credentials.password.empty() && !given.password_stdin);
  if (asks && ::isatty(STDIN_FILENO) != 1) {
    return Error::invalid_argument("there is no terminal to ask on: give --username and --password-stdin");
  }
  if (credentials.username.empty()) {
    TRY(credentials.username, ask_line(ctx, io, "Username: ", false));
  }
  if (credentials.password.empty() && asks) {
    TRY(credentials.password, ask_line(ctx, io, "Password: ", true));
  }
  if (credentials.username.empty() || credentials.password.empty()) {
    return Error::invalid_argument(str("the ", credentials.username.empty() ? "user name" : "password", " is empty"));
  }
  return credentials;
}

/// Keeps a terminal from showing what is typed; the destructor makes it what it was.
class HiddenInput {
 public:
  HiddenInput() = default;
  ~HiddenInput() {
    if (hidden_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
  }
  HiddenInput(const HiddenInput&) = delete;
  HiddenInput& operator=(const HiddenInput&) = delete;
  /// An error: it would be shown.
  Status hide() {
    termios hidden{};
    if (::tcgetattr(STDIN_FILENO, &before_) == 0) {
      hidden = before_;
      hidden.c_lflag &= ~static_cast<tcflag_t>(ECHO);
      hidden_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) == 0;
    }
    if (hidden_ && ::tcgetattr(STDIN_FILENO, &hidden) == 0 && (hidden.c_lflag & ECHO) == 0) return {};
    return Error::failed_precondition("the terminal would show the password: use --password-stdin");
  }

 private:
  termios before_{};
  bool hidden_ = false;
};

Result<std::string> ask_line(const Context& ctx, Io& io, const char* question, bool hidden) {
  HiddenInput nothing_shown;
  if (hidden) TRY_VOID(nothing_shown.hide());  // before anybody is asked to type
  io.err << question << std::flush;
  std::string line;
  while (!line.ends_with('\n') && line.size() < kSecretBytesMax) {
    char piece[1024];
    TRY(const std::size_t size, base::read_some(ctx, STDIN_FILENO, piece));
    if (size == 0) break;
    line.append(piece, size);
  }
  if (hidden) io.err << std::endl;
  return line.substr(0, line.find('\n'));
}

// The file is read first: what cannot be written down need not be asked. It is read again for the change, as it may be
// another one by the time that the registry has answered.
Status log_in(const Context& ctx, const Globals& globals, const std::string& path, const std::string& host,
              const oci::Credentials& credentials) {
  const auto change = [&](base::Json document) { return with_login(std::move(document), host, credentials); };
  TRY(auto document, read_auth_file(path));
  TRY_VOID(change(std::move(document)));
  TRY(const auto images, open_images(globals));
  TRY_VOID(images->check_login(ctx.with_timeout(kLoginTimeout), host, credentials));
  return change_auth_file(ctx, path, change);
}

// All logins of a file that is not there are forgotten.
Status log_out(const std::string& path, const std::string& host) {
  TRY(const bool is_there, has_auth_file(path));
  if (!is_there) return host.empty() ? Status() : Status(Error::not_found(str("not logged in to ", host)));
  return change_auth_file(Context::background(), path, [&](base::Json document) {
    return host.empty() ? without_logins(std::move(document)) : without_login(std::move(document), host);
  });
}

}  // namespace
}  // namespace cli
