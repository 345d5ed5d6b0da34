// Errors of this code base: `Result<T>` is a value or an `Error`, shaped like std::expected (which g++ 12 offers only
// with -std=c++23 and clang 14 not at all).
//
//   * A function that can fail returns Result<T>; nothing of ours throws. Libraries' exceptions stop at the call.
//   * `Code` is the gRPC numbering. ttrpc, grpc-status and containerd's errdefs share it, so edges copy an integer.
//   * A message is one sentence for an operator, without capital and full stop: what failed, on which value, what to
//     change. Each layer wraps once with the noun it knows ("pulling redis:7: ..."). Never a secret.
//   * CHECK is for our own bugs only: it logs and aborts. Running tasks survive an abort of the plugin.
#pragma once

#include <cerrno>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace base {

enum class Code : std::uint8_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

/// The code that a peer's integer means; anything outside the numbering is kUnknown.
Code code_from_int(std::int64_t value);

/// Concatenates everything that an ostream accepts: str("task ", id, ": ", n). (g++ 12 has no <format>.)
template <typename... Parts>
std::string str(const Parts&... parts) {
  if constexpr ((std::is_convertible_v<Parts, std::string_view> && ...)) {
    std::string out;
    out.reserve((std::string_view(parts).size() + ... + 0));
    (out.append(std::string_view(parts)), ...);
    return out;
  } else {
    std::ostringstream out;
    (out << ... << parts);
    return std::move(out).str();
  }
}

struct [[nodiscard]] Error {
  Code code = Code::kUnknown;
  std::string message;
  int sys_errno = 0;  ///< errno that caused it, 0 if none

  static Error cancelled(std::string m) { return {Code::kCancelled, std::move(m)}; }
  static Error unknown(std::string m) { return {Code::kUnknown, std::move(m)}; }
  static Error invalid_argument(std::string m) { return {Code::kInvalidArgument, std::move(m)}; }
  static Error deadline_exceeded(std::string m) { return {Code::kDeadlineExceeded, std::move(m)}; }
  static Error not_found(std::string m) { return {Code::kNotFound, std::move(m)}; }
  static Error already_exists(std::string m) { return {Code::kAlreadyExists, std::move(m)}; }
  static Error permission_denied(std::string m) { return {Code::kPermissionDenied, std::move(m)}; }
  static Error resource_exhausted(std::string m) { return {Code::kResourceExhausted, std::move(m)}; }
  static Error failed_precondition(std::string m) { return {Code::kFailedPrecondition, std::move(m)}; }
  static Error aborted(std::string m) { return {Code::kAborted, std::move(m)}; }
  static Error unimplemented(std::string m) { return {Code::kUnimplemented, std::move(m)}; }
  static Error internal(std::string m) { return {Code::kInternal, std::move(m)}; }
  static Error unavailable(std::string m) { return {Code::kUnavailable, std::move(m)}; }
  static Error data_loss(std::string m) { return {Code::kDataLoss, std::move(m)}; }

  /// "<what>: <strerror>", with the code that fits the errno: ENOENT kNotFound, EEXIST kAlreadyExists, EACCES and
  /// EPERM kPermissionDenied, ENOSPC/EDQUOT/EMFILE/ENFILE/EAGAIN/ENOMEM kResourceExhausted (recoverable),
  /// EINVAL/ENAMETOOLONG/ELOOP kInvalidArgument, ENOTDIR/EISDIR/EROFS kFailedPrecondition, ETIMEDOUT
  /// kDeadlineExceeded, ECONNREFUSED/ECONNRESET/EPIPE kUnavailable, else kInternal.
  static Error from_errno(int err, std::string_view what);

  /// Puts "<context>: " in front; code and errno stay.
  Error wrap(std::string_view context) && {
    message = str(context, ": ", message);
    return std::move(*this);
  }

  /// The same with `as` for its code, for who knows whose fault it is. What the node is short of for now is nobody's
  /// and passes: kResourceExhausted stays.
  Error recode(Code as) && {
    if (code != Code::kResourceExhausted) code = as;
    return std::move(*this);
  }
};

/// A value or an Error. `value()`/`operator*` on an error and `error()` on a value are bugs and abort.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  template <typename U = T>
  requires(!std::is_same_v<std::remove_cvref_t<U>, Result> && !std::is_same_v<std::remove_cvref_t<U>, Error> &&
           std::is_constructible_v<T, U>) Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return *checked(); }
  const T& value() const& { return *checked(); }
  T&& value() && { return std::move(*checked()); }
  T& operator*() & { return *checked(); }
  const T& operator*() const& { return *checked(); }
  T&& operator*() && { return std::move(*checked()); }
  T* operator->() { return checked(); }
  const T* operator->() const { return checked(); }
  template <typename U>
  T value_or(U&& other) && {
    return has_value() ? std::move(*checked()) : static_cast<T>(std::forward<U>(other));
  }

  Error& error() & { return *checked_error(); }
  const Error& error() const& { return *checked_error(); }
  Error&& error() && { return std::move(*checked_error()); }

 private:
  T* checked();
  const T* checked() const;
  Error* checked_error();
  const Error* checked_error() const;
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  Error& error() &;
  const Error& error() const&;
  Error&& error() &&;

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

/// Logs the failed condition (hclog line, error level) and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition);

template <typename T>
T* Result<T>::checked() {
  if (state_.index() != 0) check_failed(__FILE__, __LINE__, std::get<1>(state_).message.c_str());
  return &std::get<0>(state_);
}
template <typename T>
const T* Result<T>::checked() const {
  return const_cast<Result*>(this)->checked();
}
template <typename T>
Error* Result<T>::checked_error() {
  if (state_.index() != 1) check_failed(__FILE__, __LINE__, "error() of a result that has a value");
  return &std::get<1>(state_);
}
template <typename T>
const Error* Result<T>::checked_error() const {
  return const_cast<Result*>(this)->checked_error();
}

}  // namespace base

/// Our own bug, never a peer's or the kernel's fault. Stays on in release builds. (Tests have doctest's of that name.)
#ifndef CHECK
#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) ::base::check_failed(__FILE__, __LINE__, #condition); \
  } while (false)
#endif

#define BASE_TRY_CONCAT2(a, b) a##b
#define BASE_TRY_CONCAT(a, b) BASE_TRY_CONCAT2(a, b)
#define BASE_TRY_IMPL(tmp, decl, ...)                  \
  auto tmp = (__VA_ARGS__);                            \
  if (!tmp.has_value()) return std::move(tmp).error(); \
  decl = std::move(tmp).value()

/// TRY(auto image, images.ensure(ctx, ref)): declares `image`, or returns the error. A declaration, not an expression:
/// the statement-expression form leaks on g++ 12 and clang 14.
#define TRY(decl, ...) BASE_TRY_IMPL(BASE_TRY_CONCAT(try_result_, __COUNTER__), decl, __VA_ARGS__)

/// TRY_VOID(write_record(record)): returns the error, if there is one.
#define TRY_VOID(...)                                                  \
  do {                                                                 \
    auto try_status = (__VA_ARGS__);                                   \
    if (!try_status.has_value()) return std::move(try_status).error(); \
  } while (false)
