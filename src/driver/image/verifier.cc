#include "driver/image/verifier.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "driver/host/programs.h"
#include "driver/values/words.h"
#include "oci/environment.h"

namespace driver {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

namespace fs = std::filesystem;

struct Verifier {
  std::string name;
  std::string program;  ///< without links
  std::string stamp;    ///< another one when the program is
};

Result<std::vector<Verifier>> list_verifiers(const ImageVerifierOptions& options);
Result<fs::path> real_path(const fs::path& path);
Result<Verifier> read_verifier(const fs::path& entry);
Status check_only_root_writes(const fs::path& path);
Result<std::string> ask_all(const Context& ctx, const std::vector<Verifier>& verifiers,
                            const ImageVerifierOptions& options, const std::string& reference,
                            const oci::Descriptor& image);
Result<std::string> ask(const Context& ctx, const Verifier& verifier, const ImageVerifierOptions& options,
                        const std::string& reference, const oci::Descriptor& image);
Status run(const Context& ctx, const Verifier& verifier, const std::string& reference, const oci::Descriptor& image,
           base::RunResult& result);
void log_lines(const Verifier& verifier, std::string_view text);
Error no_verifiers(const ImageVerifierOptions& options, std::string_view why);

}  // namespace

Result<std::shared_ptr<const oci::ImageVerifier>> find_image_verifier(const ImageVerifierOptions& options) {
  if (options.bin_dir.empty()) return std::shared_ptr<const oci::ImageVerifier>();
  TRY(auto verifiers, list_verifiers(options));
  std::string stamps;
  for (const Verifier& verifier : verifiers) stamps += str(verifier.name, '\0', verifier.stamp, '\n');
  auto out = std::make_shared<oci::ImageVerifier>();
  out->id = oci::Digest::of_bytes(stamps).text();
  out->ask = [verifiers = std::move(verifiers), options](const Context& ctx, const std::string& reference,
                                                         const oci::Descriptor& image) {
    return ask_all(ctx, verifiers, options, reference, image);
  };
  return std::shared_ptr<const oci::ImageVerifier>(std::move(out));
}

std::string one_line(std::string_view text, std::size_t bytes_max) {
  const auto is_blank = [](char c) { return base::is_control(c) || c == ' '; };
  std::string line;
  for (const char c : text) {
    if (!is_blank(c)) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  if (!line.empty() && line.back() == ' ') line.pop_back();
  if (line.size() <= bytes_max) return line;
  std::size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0) == 0x80) --end;  // inside of a character
  return line.substr(0, end) + "…";
}

namespace {

// ---- which programs -------------------------------------------------------------------------------------------------

Result<std::vector<Verifier>> list_verifiers(const ImageVerifierOptions& options) {
  auto folder = real_path(options.bin_dir);
  if (!folder) {
    return std::move(folder)
        .error()
        .recode(base::Code::kFailedPrecondition)
        .wrap(str("image_verifier.bin_dir = ", hcl_quote(options.bin_dir), " cannot be used"));
  }
  TRY_VOID(check_only_root_writes(*folder));
  std::vector<fs::path> entries;
  std::error_code ec;
  fs::directory_iterator entry(*folder, ec);
  for (; !ec && entry != fs::directory_iterator(); entry.increment(ec)) {
    entries.push_back(entry->path());
    if (entries.size() > static_cast<std::size_t>(options.max_verifiers)) {
      return no_verifiers(options, str("has more than max_verifiers = ", options.max_verifiers,
                                       " entries, and none may go unasked: remove some, or raise it"));
    }
  }
  if (ec) return no_verifiers(options, "cannot be listed: " + ec.message());
  if (entries.empty()) return no_verifiers(options, "is empty: put the verifiers there, or leave image_verifier out");
  std::sort(entries.begin(), entries.end());
  std::vector<Verifier> out;
  for (const fs::path& path : entries) {
    TRY(Verifier verifier, read_verifier(path));
    out.push_back(std::move(verifier));
  }
  return out;
}

Result<fs::path> real_path(const fs::path& path) {
  std::error_code ec;
  fs::path real = fs::canonical(path, ec);
  if (ec) return Error::from_errno(ec.value(), path.string());
  return real;
}

Result<Verifier> read_verifier(const fs::path& entry) {
  const auto refuse = [&](std::string_view why) {
    return Error::failed_precondition(str("image verifier ", entry.string(), " ", why));
  };
  auto program = real_path(entry);
  if (!program) {
    return std::move(program)
        .error()
        .recode(base::Code::kFailedPrecondition)
        .wrap(str("image verifier ", entry.string(), " cannot be used"));
  }
  struct stat info {};
  if (::stat(program->c_str(), &info) != 0) return Error::from_errno(errno, program->string());
  constexpr mode_t kExecutable = S_IXUSR | S_IXGRP | S_IXOTH;
  if (!S_ISREG(info.st_mode)) return refuse("is not a file: keep nothing but verifiers in image_verifier.bin_dir");
  if ((info.st_mode & kExecutable) == 0) return refuse("is not executable: chmod 755 it, or take it out of the folder");
  TRY_VOID(check_only_root_writes(*program));
  return Verifier{entry.filename().string(), program->string(),
                  str(program->string(), " ", info.st_dev, " ", info.st_ino, " ", info.st_size, " ",
                      info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec)};
}

Status check_only_root_writes(const fs::path& path) {
  TRY(const std::string writable, writable_by_others(path));
  if (writable.empty()) return {};
  return Error::failed_precondition(str(writable, " can be written to by others than root, so that the image ",
                                        writable == path ? "verifier cannot" : "verifiers below it cannot",
                                        " be trusted: chown root:root and chmod go-w it"));
}

Error no_verifiers(const ImageVerifierOptions& options, std::string_view why) {
  return Error::failed_precondition(str("image_verifier.bin_dir = ", hcl_quote(options.bin_dir), " ", why));
}

// ---- asking ---------------------------------------------------------------------------------------------------------

Result<std::string> ask_all(const Context& ctx, const std::vector<Verifier>& verifiers,
                            const ImageVerifierOptions& options, const std::string& reference,
                            const oci::Descriptor& image) {
  std::string words;
  for (const Verifier& verifier : verifiers) {
    TRY(const std::string reason, ask(ctx, verifier, options, reference, image));
    words += str(words.empty() ? "" : "; ", verifier.name, ": ", reason.empty() ? "passed" : reason);
  }
  return one_line(words, 2 * kReasonBytesMax);
}

Result<std::string> ask(const Context& ctx, const Verifier& verifier, const ImageVerifierOptions& options,
                        const std::string& reference, const oci::Descriptor& image) {
  base::RunResult result;
  auto ran = run(ctx.with_timeout(options.per_verifier_timeout), verifier, reference, image, result);
  log_lines(verifier, result.stderr_text);
  TRY_VOID(ctx.check());
  const std::string subject = str("image ", reference, " (", image.digest.text(), ")");
  if (!ran && ran.error().code == base::Code::kDeadlineExceeded) {
    return Error::aborted(str("image verifier ", verifier.name, " gave no answer about ", subject, " within ",
                              show_duration(options.per_verifier_timeout),
                              ": see why, or raise image_verifier.per_verifier_timeout"));
  }
  if (!ran) {
    return std::move(ran)
        .error()
        .recode(base::Code::kFailedPrecondition)
        .wrap(str("image verifier ", verifier.name, " cannot be run"));
  }
  const base::ExitStatus& exit = result.exit;
  if (exit.signal != 0) {
    return Error::aborted(str("image verifier ", verifier.name, " was killed by ", base::signal_name(exit.signal),
                              " before it said whether ", subject, " may be used: see to the program"));
  }
  std::string reason = one_line(result.stdout_text, kReasonBytesMax);
  if (exit.success()) return reason;
  return Error::permission_denied(str(subject, " was refused by image verifier ", verifier.name, " (exit code ",
                                      exit.exit_code, "): ", reason.empty() ? "it gave no reason" : reason));
}

Status run(const Context& ctx, const Verifier& verifier, const std::string& reference, const oci::Descriptor& image,
           base::RunResult& result) {
  base::SpawnOptions spawn;
  spawn.argv = {verifier.program,
                "-name",
                reference,
                "-digest",
                image.digest.text(),
                "-stdin-media-type",
                std::string(kDescriptorType)};
  spawn.env = oci::network_environment();
  spawn.env.emplace_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  const char* home = ::getenv("HOME");
  spawn.env.push_back(str("HOME=", home == nullptr ? "/root" : home));
  spawn.die_with_parent = true;
  const std::string input =
      base::dump_json({{"mediaType", image.media_type}, {"digest", image.digest.text()}, {"size", image.size}});
  return base::run_into(ctx, std::move(spawn), input, kVerifierOutputBytesMax, base::Excess::kDrop, result);
}

void log_lines(const Verifier& verifier, std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    LOG_DEBUG("image verifier said", {{"verifier", verifier.name}, {"stderr", one_line(line, kReasonBytesMax)}});
  }
}

}  // namespace
}  // namespace driver
