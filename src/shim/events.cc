#include "shim/events.h"

#include <algorithm>
#include <map>

#include "base/context.h"
#include "shim/proto/events.pb.h"
#include "ttrpc/server.h"

namespace shim {

namespace {

constexpr char kService[] = "containerd.services.events.ttrpc.v1.Events";
constexpr char kMethod[] = "Forward";
constexpr std::chrono::seconds kOomQuietTime{1};
/// Containers with an OOM kill in the last second; past this the oldest are forgotten, which only costs a repetition.
constexpr std::size_t kOomContainersMax = 4096;

}  // namespace

struct EventServer::Impl {
  std::function<void(const Event&)> callback;
  std::map<std::string, base::Deadline> quiet_until;  // per container; loop thread
  std::unique_ptr<ttrpc::Server> server;              // last: gone before what its handler uses

  base::Result<std::string> handle(const ttrpc::Call& call);
  bool repeated_oom(const std::string& container_id);
};

base::Result<std::unique_ptr<EventServer>> EventServer::listen(base::Loop& loop, const std::string& path,
                                                               std::function<void(const Event&)> callback) {
  auto impl = std::make_unique<Impl>();
  impl->callback = std::move(callback);
  auto* const self = impl.get();
  TRY(impl->server, ttrpc::Server::listen(loop, path, [self](const ttrpc::Call& call, const ttrpc::Reply& reply) {
        reply(self->handle(call));
      }));
  return std::unique_ptr<EventServer>(new EventServer(std::move(impl)));
}

EventServer::EventServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventServer::~EventServer() = default;

base::Result<std::string> EventServer::Impl::handle(const ttrpc::Call& call) {
  if (call.service != kService || call.method != kMethod) return ttrpc::unimplemented(call);
  TRY(const Event event, decode_event(call.payload));
  if (event.topic != kTopicOom || !repeated_oom(event.container_id)) callback(event);
  return std::string();  // an empty message; an error would make the shim send it again
}

bool EventServer::Impl::repeated_oom(const std::string& container_id) {
  const auto now = base::Clock::now();
  const auto [entry, is_new] = quiet_until.try_emplace(container_id, now + kOomQuietTime);
  if (is_new) {
    if (quiet_until.size() > kOomContainersMax) {
      std::erase_if(quiet_until, [now](const auto& item) { return item.second < now; });
    }
    if (quiet_until.size() > kOomContainersMax) quiet_until.clear();
    return false;
  }
  if (now < entry->second) return true;
  entry->second = now + kOomQuietTime;
  return false;
}

base::Result<Event> decode_event(const std::string& payload) {
  proto::ForwardRequest request;
  if (!request.ParseFromString(payload) || !request.has_envelope()) {
    return base::Error::invalid_argument("not an event");
  }
  Event event;
  event.topic = request.envelope().topic();
  const std::string& body = request.envelope().event().value();
  if (event.topic == kTopicExit) {
    proto::TaskExit exit;
    if (!exit.ParseFromString(body)) return base::Error::invalid_argument("not a TaskExit");
    event.container_id = exit.container_id();
    if (exit.id() != exit.container_id()) event.exec_id = exit.id();
    event.pid = exit.pid();
    event.exit_status = exit.exit_status();
    return event;
  }
  proto::TaskEvent any;
  if (!any.ParseFromString(body)) return base::Error::invalid_argument(base::str("not an event of ", event.topic));
  event.container_id = any.container_id();
  return event;
}

}  // namespace shim
