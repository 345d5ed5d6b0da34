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

TEST_CASE("a first process that was killed before it was the job's command is worth a retry") {
  for (const char* text : {
           "starting container x: OCI runtime start failed: cannot start a container that has stopped: unknown",
           "OCI runtime start failed: container process is already dead: unknown",
           "OCI runtime start failed: cannot start an already running container: unknown",
           "starting container x: cannot start a stopped process: unknown",
           "OCI runtime create failed: runc create failed: unable to start container process: waiting for init "
           "preliminary "
           "setup: read init-p: connection reset by peer: unknown",
           "OCI runtime create failed: runc create failed: unable to start container process: can't get final child's "
           "PID "
           "from pipe: EOF: unknown",
           "OCI runtime create failed: runc create failed: unable to start container process: can't copy bootstrap "
           "data to "
           "pipe: write init-p: broken pipe: unknown",
           "OCI runtime create failed: runc create failed: unable to start container process: unable to apply cgroup "
           "configuration: failed to write 4711: write /sys/fs/cgroup/pids/x/cgroup.procs: no such process: unknown",
           "OCI runtime create failed: runc create failed: unable to start container process: error during container "
           "init: "
           "open /proc/4711/ns/ipc: no such file or directory: unknown",
           "OCI runtime create failed: runc create failed: unable to start container process: container init was "
           "OOM-killed "
           "(memory limit too low?): unknown",
           "OCI runtime start failed: cannot start container `x`: container `x` is not in created state: unknown",
           "OCI runtime create failed: read from sync socket: Connection reset by peer: unknown",
       }) {
    CAPTURE(text);
    const Error error = driver::translate_runtime_error(Error::unknown(text));
    CHECK_EQ(error.code, Code::kUnavailable);
    CHECK_EQ(driver::exit_code_of_runtime_error(error), 0);
  }
  const Error error = driver::translate_runtime_error(
      Error::unknown("OCI runtime create failed: runc create failed: unable to start container process: open "
                     "/proc/sys/net/x: no such file or directory: unknown"));
  CHECK_EQ(error.code, Code::kInvalidArgument);
}

TEST_CASE("what is not the runtime's error is left alone") {
  const Error error = driver::translate_runtime_error(Error::unavailable("connection closed"));
  CHECK_EQ(error.message, "connection closed");
  CHECK_EQ(error.code, Code::kUnavailable);
}
