// The events that shims send. They are hints: a shim repeats, reorders, delays (15 s) and loses them. What is true is
// the answer to Wait; an event may make us look earlier, and is the only notice of an OOM kill in a running container.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/loop.h"
#include "base/result.h"

namespace shim {

struct Event {
  std::string topic;  ///< "/tasks/oom", "/tasks/exit", "/tasks/start", …
  std::string container_id;
  std::string exec_id;            ///< /tasks/exit of an exec, else ""
  std::uint32_t pid = 0;          ///< /tasks/exit
  std::uint32_t exit_status = 0;  ///< /tasks/exit
};

inline constexpr char kTopicOom[] = "/tasks/oom";
inline constexpr char kTopicExit[] = "/tasks/exit";

/// Listens where ShimOptions::events_socket points. Must be there before the first shim starts: for a shim whose event
/// socket is missing every event takes 5 s.
class EventServer {
 public:
  /// `callback` runs on the loop thread and must not block. One OOM kill makes up to 3,000 events on cgroup v1: of one
  /// container's /tasks/oom at most one a second is passed on.
  static base::Result<std::unique_ptr<EventServer>> listen(base::Loop& loop, const std::string& path,
                                                           std::function<void(const Event&)> callback);
  ~EventServer();
  EventServer(const EventServer&) = delete;
  EventServer& operator=(const EventServer&) = delete;

 private:
  struct Impl;
  explicit EventServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Decodes a ForwardRequest. kInvalidArgument: not one. For the server and its fuzzer.
base::Result<Event> decode_event(const std::string& payload);

}  // namespace shim
