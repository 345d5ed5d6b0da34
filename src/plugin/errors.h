// How the driver's errors travel to the agent, and which of them it may try again.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "grpc/status.h"

namespace plugin {

/// An error of any method but StartTask: its code and text. UNAVAILABLE and CANCELLED are never sent: at both the agent
/// waits 3 s for us to die and then says "plugin is shut down". They become UNKNOWN and ABORTED.
grpc::Status status_of(const base::Error& error);

/// An error of StartTask. What time may heal (kUnavailable, kDeadlineExceeded, kResourceExhausted, kAborted) becomes
/// FAILED_PRECONDITION with a RecoverableError in the details, so that the agent applies the restart policy. Anything
/// else fails the task for good.
grpc::Status start_status_of(const base::Error& error);

}  // namespace plugin
