#include "base/result.h"

#include <doctest/doctest.h>

#include <memory>

using base::Code;
using base::Error;
using base::Result;

namespace {
Result<int> half(int n) {
  if (n % 2 != 0) return Error::invalid_argument(base::str(n, " is odd"));
  return n / 2;
}
Result<int> quarter(int n) {
  TRY(const int h, half(n));
  TRY(const int q, half(h));
  return q;
}
base::Status check_even(int n) {
  TRY_VOID(half(n).has_value() ? base::Status() : base::Status(Error::aborted("odd")));
  return {};
}
Result<std::unique_ptr<int>> boxed(int n) {
  TRY(auto box, Result<std::unique_ptr<int>>(std::make_unique<int>(n)));
  return box;
}
}  // namespace

TEST_CASE("TRY hands values on and returns the first error") {
  CHECK_EQ(*quarter(12), 3);
  const auto failed = quarter(6);
  REQUIRE_FALSE(failed.has_value());
  CHECK_EQ(failed.error().code, Code::kInvalidArgument);
  CHECK_EQ(failed.error().message, "3 is odd");
  CHECK(check_even(2).has_value());
  CHECK_EQ(check_even(3).error().code, Code::kAborted);
  CHECK_EQ(**boxed(7), 7);
}

TEST_CASE("wrap puts context in front and keeps code and errno") {
  const Error e = Error::from_errno(ENOENT, "opening /x").wrap("starting task a").wrap("rpc");
  CHECK_EQ(e.message, "rpc: starting task a: opening /x: No such file or directory");
  CHECK_EQ(e.code, Code::kNotFound);
  CHECK_EQ(e.sys_errno, ENOENT);
}

TEST_CASE("errno maps to the code that tells a caller what to do") {
  struct Row {
    int err;
    Code code;
  };
  for (const Row& row :
       {Row{ENOENT, Code::kNotFound}, Row{EEXIST, Code::kAlreadyExists}, Row{EPERM, Code::kPermissionDenied},
        Row{ENOSPC, Code::kResourceExhausted}, Row{EAGAIN, Code::kResourceExhausted},
        Row{EINVAL, Code::kInvalidArgument}, Row{ENOTDIR, Code::kFailedPrecondition},
        Row{ECONNREFUSED, Code::kUnavailable}, Row{ETIMEDOUT, Code::kDeadlineExceeded}, Row{EIO, Code::kInternal}}) {
    CHECK_EQ(Error::from_errno(row.err, "x").code, row.code);
  }
}

TEST_CASE("who is to blame has a code, but nobody is for what the node is short of") {
  CHECK(Error::from_errno(ENOENT, "x").recode(Code::kInvalidArgument).code == Code::kInvalidArgument);
  for (const int err : {EMFILE, ENFILE, ENOMEM, EAGAIN, ENOSPC}) {
    const Error error = Error::from_errno(err, "x").recode(Code::kInvalidArgument).wrap("mount source /a");
    CHECK(error.code == Code::kResourceExhausted);
    CHECK(error.sys_errno == err);
  }
}

TEST_CASE("a peer's code outside the numbering is unknown") {
  CHECK_EQ(base::code_from_int(5), Code::kNotFound);
  CHECK_EQ(base::code_from_int(-1), Code::kUnknown);
  CHECK_EQ(base::code_from_int(17), Code::kUnknown);
  CHECK_EQ(base::code_from_int(INT64_MAX), Code::kUnknown);
}

TEST_CASE("str concatenates text and numbers") {
  CHECK_EQ(base::str("a", std::string("b"), 3, 'c'), "ab3c");
  CHECK_EQ(base::str(), "");
}
