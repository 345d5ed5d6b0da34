// Text of option values: how it is read, checked, and shown in messages. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/json_fwd.h"
#include "base/result.h"

namespace driver {

/// All that is wrong with one job or one configuration, told at once: whoever corrects it should not have to come back
/// for each.
class Mistakes {
 public:
  void add(base::Status checked);
  /// The value of `result` into `out`, or its error to the others.
  template <typename T, typename R>
  void take(T& out, R result) {
    if (result) {
      out = *std::move(result);
    } else {
      add(std::move(result).error());
    }
  }
  bool any() const { return count_ > 0; }
  /// One error with the code of the first; no more of them are quoted than a person reads.
  base::Status status() &&;

 private:
  std::size_t count_ = 0;
  base::Error all_;
};

/// kInvalidArgument: `where` = "value" `why`.
base::Error refuse(const std::string& where, const std::string& value, std::string_view why);

/// Names and paths: what ends up in messages, mount tables and file systems. No control characters, at most 4095 bytes.
base::Status check_name(const std::string& where, const std::string& value);
/// A name that begins with "/", or "".
base::Status check_absolute(const std::string& where, const std::string& value);

/// "64m", "1.5GiB", "20 GB", "4096": bytes. Suffixes are powers of 1024, as Docker reads them: k, m, g, t, each with or
/// without "b" or "ib", in any case. kInvalidArgument otherwise, also when negative or beyond 2^63-1.
base::Result<std::uint64_t> parse_size(std::string_view text);

/// Go's duration text ("300ms", "1h30m", "5s", "0"), cut to whole milliseconds; kInvalidArgument otherwise, also when
/// negative.
base::Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// `text` in double quotes, as HCL has it.
std::string hcl_quote(std::string_view text);
/// "128 MiB", "1.5 GiB": in the largest unit in which it has at most one decimal place.
std::string show_size(std::uint64_t bytes);
/// The shortest text that parse_duration reads back: "1m30s" is "90s".
std::string show_duration(std::chrono::milliseconds value);
/// `value` as an error message may show it: cut to 80 bytes.
std::string show_value(const base::Json& value);

}  // namespace driver
