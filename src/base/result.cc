#include "base/result.h"

#include <cstdlib>
#include <cstring>

#include "base/log.h"

namespace base {

namespace {
constexpr std::int64_t kCodeLast = static_cast<std::int64_t>(Code::kUnauthenticated);
constexpr std::chrono::milliseconds kLastWordsTime{500};

Code code_from_errno(int err) {
  switch (err) {
    case ENOENT:
    case ESRCH:
      return Code::kNotFound;
    case EEXIST:
      return Code::kAlreadyExists;
    case EACCES:
    case EPERM:
      return Code::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case ENOMEM:
      return Code::kResourceExhausted;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
      return Code::kInvalidArgument;
    case ENOTDIR:
    case EISDIR:
    case EROFS:
    case EBUSY:
    case EXDEV:
    case ENOTEMPTY:
      return Code::kFailedPrecondition;
    case ETIMEDOUT:
      return Code::kDeadlineExceeded;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      return Code::kUnavailable;
    default:
      return Code::kInternal;
  }
}
}  // namespace

Code code_from_int(std::int64_t value) {
  return value >= 0 && value <= kCodeLast ? static_cast<Code>(value) : Code::kUnknown;
}

Error Error::from_errno(int err, std::string_view what) {
  // strerrordesc_np is thread-safe and untranslated, unlike strerror.
  const char* text = strerrordesc_np(err);
  return {code_from_errno(err), str(what, ": ", text != nullptr ? text : "unknown error"), err};
}

void check_failed(const char* file, int line, const char* condition) {
  log(LogLevel::kError, "internal error, please report: check failed",
      {{"at", str(file, ":", line)}, {"condition", condition}});
  flush_log(kLastWordsTime);
  std::abort();
}

Error& Result<void>::error() & {
  CHECK(error_.has_value());
  return *error_;
}
const Error& Result<void>::error() const& {
  CHECK(error_.has_value());
  return *error_;
}
Error&& Result<void>::error() && {
  CHECK(error_.has_value());
  return std::move(*error_);
}

}  // namespace base
