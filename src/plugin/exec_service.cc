// ExecTask and ExecTaskStreaming. Neither holds a thread while its command runs.
#include <limits>

#include "plugin/convert.h"
#include "plugin/errors.h"
#include "plugin/messages.h"
#include "plugin/proto/driver.pb.h"
#include "plugin/services.h"

namespace plugin {

namespace {

using CallPtr = std::shared_ptr<grpc::Call>;
namespace pb = nomad::driver;

constexpr std::size_t kOutputBytesMax = 4096;  // of each stream of ExecTask: what Nomad's own drivers keep
// A script check that leaves a background process behind must not wait for it.
constexpr std::chrono::milliseconds kDrainAfterExit{500};

base::Status exec_task(driver::Driver& driver, const CallPtr& call, const std::string& request);
base::Subscription cancelled_with(const std::shared_ptr<driver::ExecSession>& session);

/// One ExecTaskStreaming call. Everything happens on the loop's thread.
///
///   agent → us   setup first; then, in any order: tty_size, stdin data, stdin close, and empty messages (heartbeats)
///   us → agent   output as it comes; the end of both outputs; exited with the result; trailers
///
/// The agent never says that it will send no more, and reads until the trailers.
class StreamingExec : public std::enable_shared_from_this<StreamingExec> {
 public:
  StreamingExec(driver::Driver& driver, CallPtr call) : driver_(driver), call_(std::move(call)) {}

  void on_message(const std::string& message);
  void on_half_close();

 private:
  base::Status take(const pb::ExecTaskStreamingRequest& message);
  base::Status set_up(const pb::ExecTaskStreamingRequest::Setup& setup);
  bool send(driver::ExecStream stream, std::string_view data);
  void end(const base::Result<driver::ExitResult>& result);

  driver::Driver& driver_;
  const CallPtr call_;
  std::shared_ptr<driver::ExecSession> session_;  // set once
  bool heartbeats_ = false;                       // this client sends them
};

}  // namespace

void register_exec_service(grpc::Server& server, driver::Driver& driver) {
  const std::string service = "/hashicorp.nomad.plugins.drivers.proto.Driver/";
  server.async(
      service + "ExecTask",
      [&driver](const CallPtr& call, const std::string& request) {
        const auto begun = exec_task(driver, call, request);
        if (!begun) call->finish(status_of(begun.error()));
      },
      status_of);
  server.bidi(service + "ExecTaskStreaming", [&driver](const CallPtr& call) {
    const auto exec = std::make_shared<StreamingExec>(driver, call);
    return grpc::BidiHandlers{[exec](const std::string& message) { exec->on_message(message); },
                              [exec] { exec->on_half_close(); }};
  });
}

namespace {

base::Status exec_task(driver::Driver& driver, const CallPtr& call, const std::string& request) {
  TRY(const auto exec, parse_message<pb::ExecTaskRequest>(request));
  driver::ExecSpec spec;
  TRY(spec.timeout, to_duration(exec.timeout()));
  spec.command.assign(exec.command().begin(), exec.command().end());
  spec.drain_after_exit = kDrainAfterExit;

  driver::ExecCallbacks callbacks;
  const auto response = std::make_shared<pb::ExecTaskResponse>();
  // What is too much is read all the same: the command must not block.
  callbacks.on_output = [response](driver::ExecStream stream, std::string_view data) {
    std::string& text =
        *(stream == driver::ExecStream::kStdout ? response->mutable_stdout() : response->mutable_stderr());
    text.append(data.substr(0, kOutputBytesMax - text.size()));
    return true;
  };
  callbacks.on_end = [response, call](const base::Result<driver::ExitResult>& result) {
    if (!result) return call->finish(status_of(result.error()));
    fill(*result, response->mutable_result());
    call->reply(response->SerializeAsString());
  };
  TRY(const auto session, driver.exec({exec.task_id()}, std::move(spec), std::move(callbacks)));
  call->keep(cancelled_with(session));
  return {};
}

/// Whoever asked for the command is gone: so is the command.
base::Subscription cancelled_with(const std::shared_ptr<driver::ExecSession>& session) {
  return base::Subscription([session] { session->cancel(); });
}

void StreamingExec::on_message(const std::string& message) {
  const auto request = parse_message<pb::ExecTaskStreamingRequest>(message);
  const auto taken = request ? take(*request) : base::Status(request.error());
  if (!taken) call_->finish(status_of(taken.error()));  // which drops, and so cancels, a session
}

base::Status StreamingExec::take(const pb::ExecTaskStreamingRequest& message) {
  if (message.has_setup() == (session_ != nullptr)) {
    return base::Error::invalid_argument(session_ ? "a second setup message for one command"
                                                  : "the first message of a command must be its setup");
  }
  if (message.has_setup()) {
    TRY_VOID(set_up(message.setup()));
  } else if (!message.has_tty_size() && !message.has_stdin()) {
    heartbeats_ = true;
  }
  if (heartbeats_) session_->heartbeat();  // whatever was said, it lives
  if (message.has_tty_size() && message.tty_size().height() > 0 && message.tty_size().width() > 0) {
    session_->resize({static_cast<std::uint32_t>(message.tty_size().height()),
                      static_cast<std::uint32_t>(message.tty_size().width())});
  }
  if (message.has_stdin() && !message.stdin().data().empty() && !session_->write_stdin(message.stdin().data())) {
    call_->pause_reading();
  }
  if (message.has_stdin() && message.stdin().close()) session_->close_stdin();
  return {};
}

base::Status StreamingExec::set_up(const pb::ExecTaskStreamingRequest::Setup& setup) {
  driver::ExecSpec spec;
  spec.command.assign(setup.command().begin(), setup.command().end());
  spec.tty = setup.tty();
  spec.has_stdin = true;
  driver::ExecCallbacks callbacks;
  callbacks.on_output = [self = shared_from_this()](driver::ExecStream stream, std::string_view data) {
    return self->send(stream, data);
  };
  callbacks.on_stdin_drained = [call = call_] { call->resume_reading(); };
  callbacks.on_end = [self = shared_from_this()](const base::Result<driver::ExitResult>& result) { self->end(result); };
  TRY(session_, driver_.exec({setup.task_id()}, std::move(spec), std::move(callbacks)));
  call_->on_writable([session = session_] { session->resume_output(); });
  call_->keep(cancelled_with(session_));
  return {};
}

bool StreamingExec::send(driver::ExecStream stream, std::string_view data) {
  pb::ExecTaskStreamingResponse response;
  auto* output = stream == driver::ExecStream::kStdout ? response.mutable_stdout() : response.mutable_stderr();
  output->set_data(std::string(data));
  return call_->send(response.SerializeAsString());
}

void StreamingExec::end(const base::Result<driver::ExitResult>& result) {
  if (!result) return call_->finish(status_of(result.error()));
  pb::ExecTaskStreamingResponse out;
  out.mutable_stdout()->set_close(true);
  call_->send(out.SerializeAsString());
  pb::ExecTaskStreamingResponse err;
  err.mutable_stderr()->set_close(true);
  call_->send(err.SerializeAsString());
  pb::ExecTaskStreamingResponse exited;
  exited.set_exited(true);
  fill(*result, exited.mutable_result());
  call_->send(exited.SerializeAsString());
  call_->finish({});
}

// No client of Nomad does this before its command has ended; one that does can send no input any more.
void StreamingExec::on_half_close() {
  if (session_) return session_->close_stdin();
  call_->finish(status_of(base::Error::invalid_argument("the stream ended before its setup message")));
}

}  // namespace

}  // namespace plugin
