// The one way to start a thread. A thread that cannot be had is an error like any other, never the end of the program.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "base/result.h"

namespace base {

/// Starts a thread named `name` (ps -L, gdb; cut to 15 bytes) with all signals blocked: they are the loop's, or whoever
/// waits for them. The jthread's destructor requests a stop and joins. An exception that escapes `body` is our bug:
/// logged, abort.
///   errors  kResourceExhausted: the limit on processes and threads is reached, or memory
Result<std::jthread> start_thread(std::string name, std::function<void(const std::stop_token&)> body);
/// The same for a body that ends by itself.
Result<std::jthread> start_thread(std::string name, std::function<void()> body);

/// The error of a thread or process that could not be made. EAGAIN, which says nothing, becomes "<what>: no more
/// processes and threads are allowed: raise the limit (…)".
Error start_failed(int err, std::string_view what);

}  // namespace base
