#include "driver/life/runtime_error.h"

#include <doctest/doctest.h>

using base::Code;
using base::Error;

TEST_CASE("the runtime's layers go, the cause stays, the code says whose fault it is") {
  struct Row {
    const char* from;
    const char* to;
    Code code;
    int exit_code;
  };
  for (const Row& row : {
           Row{"OCI runtime create failed: runc create failed: unable to start container process: exec: \"reids\": "
               "executable file not found in $PATH: unknown",
               "exec: \"reids\": executable file not found in $PATH", Code::kInvalidArgument, 127},
           Row{"OCI runtime create failed: runc create failed: unable to start container process: exec: "
               "\"/etc/passwd\": "
               "permission denied: unknown",
               "exec: \"/etc/passwd\": permission denied", Code::kInvalidArgument, 126},
           Row{"OCI runtime create failed: runc create failed: unable to start container process: error during "
               "container "
               "init: error mounting \"/nope\" to rootfs at \"/x\": stat /nope: no such file or directory: unknown",
               "error mounting \"/nope\" to rootfs at \"/x\": stat /nope: no such file or directory",
               Code::kInvalidArgument, 127},
           Row{"OCI runtime exec failed: exec failed: unable to start container process: exec: \"x\": stat x: no such "
               "file "
               "or directory: unknown",
               "exec: \"x\": stat x: no such file or directory", Code::kInvalidArgument, 127},
           Row{"OCI runtime create failed: unable to retrieve OCI runtime error (open /x/log.json: no such file or "
               "directory): /usr/bin/runc did not terminate successfully: exit status 137: unknown",
               "unable to retrieve OCI runtime error (open /x/log.json: no such file or directory): /usr/bin/runc did "
               "not terminate successfully: exit status 137",
               Code::kUnavailable, 0},
           Row{"OCI runtime start failed: /usr/bin/runc did not terminate successfully: exit status 137: : unknown",
               "/usr/bin/runc did not terminate successfully: exit status 137: ", Code::kUnavailable, 0},
           Row{"OCI runtime create failed: executable file `x` not found in $PATH: No such file or directory: unknown",
               "executable file `x` not found in $PATH: No such file or directory", Code::kInvalidArgument, 127},
           Row{"OCI runtime create failed: runc create failed: unable to start container process: fork/exec: resource "
               "temporarily unavailable: unknown",
               "fork/exec: resource temporarily unavailable", Code::kResourceExhausted, 0},
           Row{"OCI runtime create failed: unable to retrieve OCI runtime error (open /x/log.json: no such file or "
               "directory): fork/exec /usr/sbin/runc: resource temporarily unavailable: unknown",
               "unable to retrieve OCI runtime error (open /x/log.json: no such file or directory): fork/exec "
               "/usr/sbin/runc: resource temporarily unavailable",
               Code::kResourceExhausted, 0},
       }) {
    const Error error = driver::translate_runtime_error(Error::unknown(row.from));
    CHECK_EQ(error.message, row.to);
    CHECK_EQ(error.code, row.code);
    CHECK_EQ(driver::exit_code_of_runtime_error(error), row.exit_code);
  }
}

TEST_CASE("what is not the runtime's error is left alone") {
  const Error error = driver::translate_runtime_error(Error::unavailable("connection closed"));
  CHECK_EQ(error.message, "connection closed");
  CHECK_EQ(error.code, Code::kUnavailable);
}
