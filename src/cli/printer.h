// The one place that prints. What others wrote (names, labels, a registry's texts, errors) becomes fit for a terminal
// here, and an output that takes no more is noticed here.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <streambuf>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "cli/cli.h"

namespace cli {

/// A stream's buffer over a descriptor, which is borrowed. After the first write that failed the stream is bad, and
/// error() says why.
class OutputBuffer : public std::streambuf {
 public:
  explicit OutputBuffer(int fd);
  ~OutputBuffer() override { sync(); }
  const std::optional<base::Error>& error() const { return error_; }

 protected:
  int_type overflow(int_type c) override;
  int sync() override;

 private:
  int fd_;
  std::array<char, 16 * 1024> buffer_;
  std::optional<base::Error> error_;
};

// Results, to io.out.

/// One line. `text` may be anybody's.
void print_line(Io& io, std::string_view text);
/// Text with its line breaks and tabs; what stands between them may be anybody's.
void print_text(Io& io, std::string_view text);
/// table() of `rows`.
void print_rows(Io& io, const std::vector<std::vector<std::string>>& rows);
/// A whole document, for people who read JSON and programs.
void print_json(Io& io, const base::Json& value);
/// One document in one line, written at once.
void print_json_line(Io& io, const base::Json& value);
/// Text of this program itself, as it is.
void print_own(Io& io, std::string_view text);

// The rest, to io.err.

/// "containerd-driver: <text>".
void print_note(Io& io, std::string_view text);
/// The same with an error; returns the exit code.
int fail(Io& io, const base::Error& error, int exit_code = kExitFailure);

/// Rows in columns, two blanks apart; the last column is not padded. Cells may be anybody's. Pure.
std::string table(const std::vector<std::vector<std::string>>& rows);
/// "12.3 MB", "4 s ago" as people read them.
std::string show_size(std::uint64_t bytes);
std::string show_age(std::chrono::seconds age);
/// "5 minutes", "About an hour": as Docker says it.
std::string show_duration(std::chrono::seconds duration);

}  // namespace cli
