#include "plugin/errors.h"

#include "base/text.h"
#include "plugin/proto/structs.pb.h"
#include "plugin/proto/well_known.pb.h"

namespace plugin {

namespace {

using base::Code;

constexpr char kRecoverableErrorUrl[] = "type.googleapis.com/hashicorp.nomad.plugins.shared.structs.RecoverableError";

bool recoverable(Code code);
std::string recoverable_details(Code code, const std::string& message);

}  // namespace

grpc::Status status_of(const base::Error& error) {
  Code code = error.code;
  if (code == Code::kUnavailable || code == Code::kOk) code = Code::kUnknown;
  if (code == Code::kCancelled) code = Code::kAborted;
  return {code, base::printable(error.message)};
}

grpc::Status start_status_of(const base::Error& error) {
  if (!recoverable(error.code)) return status_of(error);
  // Half a character at the end becomes U+FFFD.
  const std::string message = base::to_utf8(base::printable(error.message).substr(0, grpc::kStatusMessageBytesMax));
  return {Code::kFailedPrecondition, message, recoverable_details(Code::kFailedPrecondition, message)};
}

namespace {

bool recoverable(Code code) {
  return code == Code::kUnavailable || code == Code::kDeadlineExceeded || code == Code::kResourceExhausted ||
         code == Code::kAborted;
}

std::string recoverable_details(Code code, const std::string& message) {
  nomad::structs::RecoverableError recoverable_error;
  recoverable_error.set_recoverable(true);
  nomad::wkt::RpcStatus status;
  status.set_code(static_cast<std::int32_t>(code));  // another one and grpc-go replaces the whole error
  status.set_message(message);
  auto* detail = status.add_details();
  detail->set_type_url(kRecoverableErrorUrl);
  detail->set_value(recoverable_error.SerializeAsString());
  return status.SerializeAsString();
}

}  // namespace

}  // namespace plugin
