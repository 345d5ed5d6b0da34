#include "oci/fetch/unpack_stage.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/crew.h"
#include "base/file.h"
#include "base/process.h"
#include "base/thread.h"
#include "oci/fetch/sandbox/sandbox.h"
#include "oci/fetch/unpack/blob_reader.h"
#include "oci/fetch/unpack/decompress.h"
#include "oci/fetch/unpack/rootfs.h"
#include "oci/fetch/unpack/settle.h"
#include "oci/fetch/unpack/unpack.h"
#include "oci/fetch/unpack_protocol.h"
#include "oci/image_config.h"

namespace oci::fetch {

namespace {

constexpr std::size_t kUnpacksMax = 8;  // layers at once, if there are as many CPUs

/// Waits end with the other side of the socket, or of a pipe, or with the process: whoever sets a limit kills us.
base::Context no_limit() {
  return base::Context::background();
}

base::Status start_stages(int socket);
base::Status start_stage(int socket, const std::string& data_dir, const StartUnpack& request, base::Fd session);
[[noreturn]] void run_stage(const std::string& data_dir, const StartUnpack& request, int session);

/// The unpack stage, shut in.
class UnpackStage {
 public:
  explicit UnpackStage(int socket) : socket_(socket) {}
  base::Status serve();

 private:
  struct Layer {
    base::Fd root;
    std::unique_ptr<Rootfs> rootfs;
    LayerTodo todo;
  };
  void start(UnpackLayer job, base::Fd compressed, base::Fd growth);
  base::Result<Digest> unpack(const UnpackLayer& job, BlobReader& blob, Layer& layer);
  base::Status settle(const SettleLayers& request);
  void say(const UnpackMessage& message);

  const int socket_;
  ImageBudget budget_;
  std::mutex mutex_;
  std::map<int, Layer> layers_;  // those that are unpacked
  base::Crew crew_{{.name = "unpacking",
                    .threads_max = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kUnpacksMax),
                    .queue_max = kLayersMax}};
};

}  // namespace

void run_unpack_starter(int socket) {
  ::prctl(PR_SET_NAME, "image-starter");
  // Nothing of the driver's: its pipes end when the fetch stage ends, not when we do.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  const auto status = start_stages(socket);
  ::_exit(status ? 0 : 1);
}

namespace {

base::Status start_stages(int socket) {
  std::string data_dir;
  for (;;) {
    TRY(auto packet, receive_packet(no_limit(), socket));
    if (!packet) return {};
    if (auto* store = std::get_if<StoreIs>(&packet->message)) {
      // Once, and before the fetch stage has read anything from outside: it cannot be talked into another place.
      if (!data_dir.empty()) return base::Error::invalid_argument("the store's folder is known already");
      data_dir = std::move(store->data_dir);
    } else if (const auto* request = std::get_if<StartUnpack>(&packet->message)) {
      if (data_dir.empty() || packet->fds.size() != 1)
        return base::Error::invalid_argument("a stage was requested without a store or a socket");
      TRY_VOID(start_stage(socket, data_dir, *request, std::move(packet->fds[0])));
    } else {
      return base::Error::invalid_argument("the starter got a message that it does not take");
    }
  }
}

base::Status start_stage(int socket, const std::string& data_dir, const StartUnpack& request, base::Fd session) {
  const pid_t starter = ::getpid();
  // A fork without exec, of a process with one thread: linking the same program anew would take longer than most
  // layers, and there is nothing in this memory that the stage should not have.
  const pid_t pid = ::fork();
  if (pid < 0) return base::start_failed(errno, "starting the unpack stage");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != starter) ::_exit(1);
    ::close(socket);
    run_stage(data_dir, request, session.get());
  }
  session.reset();
  const base::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    ::kill(pid, SIGKILL);
  } else {
    TRY_VOID(send_packet(no_limit(), socket, UnpackStarted{}, {pidfd.get()}));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return send_packet(no_limit(), socket, UnpackEnded{WIFSIGNALED(status) ? WTERMSIG(status) : 0});
}

void run_stage(const std::string& data_dir, const StartUnpack& request, int session) {
  ::prctl(PR_SET_NAME, "image-unpacker");
  UnpackView view{data_dir, "ingest/" + request.folder, {}};
  for (const std::string& hex : request.layers) view.layers.push_back("layers/" + hex);
  auto status = enter_unpack_sandbox(view);
  if (status) {
    status = send_packet(no_limit(), session, UnpackReady{});
    if (status) status = UnpackStage(session).serve();
  }
  if (!status) {
    [[maybe_unused]] const auto sent = send_packet(no_limit(), session, UnpackFailed{-1, status.error()});
  }
  ::_exit(status ? 0 : 1);  // not the destructors: memory goes with the process
}

base::Status UnpackStage::serve() {
  for (;;) {
    TRY(auto packet, receive_packet(no_limit(), socket_));
    if (!packet) ::_exit(0);  // what still runs has nobody to tell
    if (auto* layer = std::get_if<UnpackLayer>(&packet->message); layer != nullptr && packet->fds.size() == 2) {
      start(std::move(*layer), std::move(packet->fds[0]), std::move(packet->fds[1]));
    } else if (const auto* request = std::get_if<SettleLayers>(&packet->message)) {
      TRY_VOID(settle(*request));
      say(LayersSettled{});
    } else {
      return base::Error::invalid_argument("the unpack stage got a message that it does not take");
    }
  }
}

void UnpackStage::start(UnpackLayer job, base::Fd compressed, base::Fd growth) {
  const int number = job.number;
  auto blob = std::make_shared<BlobReader>(std::move(compressed), std::move(growth), job.bytes);
  auto submitted = crew_.submit("unpack", [this, job = std::move(job), blob] {
    Layer layer;
    auto diff_id = unpack(job, *blob, layer);
    if (!diff_id) return say(UnpackFailed{job.number, std::move(diff_id).error()});
    {
      const std::lock_guard lock(mutex_);
      layers_[job.number] = std::move(layer);
    }
    say(LayerUnpacked{job.number, *std::move(diff_id)});
  });
  if (!submitted) say(UnpackFailed{number, std::move(submitted).error()});
}

base::Result<Digest> UnpackStage::unpack(const UnpackLayer& job, BlobReader& blob, Layer& layer) {
  TRY(layer.root, base::open_file(base::str(kStagingView, "/", job.number), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  layer.rootfs =
      std::make_unique<Rootfs>(layer.root.get(), [this](const std::string& text) { say(UnpackWarning{text}); });
  TRY(const auto decompressor,
      open_decompressor([&blob](std::span<char> out) { return blob.read(no_limit(), out); }, job.name));
  Hasher hasher;
  ExpansionLimit expansion;
  const ReadTar read = [&]() -> base::Result<std::string_view> {
    TRY(const auto piece, decompressor->next());
    hasher.update(piece);
    TRY_VOID(expansion.add(piece.size(), blob.taken()));
    return piece;
  };
  UnpackLimits limits;
  limits.image = &budget_;
  auto todo = unpack_layer(no_limit(), read, *layer.rootfs, limits);
  if (!todo) {
    auto error = std::move(todo).error();
    return error.message.starts_with(job.name) ? std::move(error) : std::move(error).wrap(job.name);
  }
  layer.todo = *std::move(todo);
  return hasher.finish();
}

// Bottom to top: each layer is fitted onto the finished ones below it.
base::Status UnpackStage::settle(const SettleLayers& request) {
  const std::lock_guard lock(mutex_);
  LowerView lower;
  int number = 0;
  int stored = 0;
  for (const LayerFrom from : request.from) {
    if (from == LayerFrom::kStored) {
      TRY_VOID(lower.add(base::str(kLayersView, "/", stored++)));
    } else {
      const auto layer = layers_.find(number);
      if (layer == layers_.end()) return base::Error::invalid_argument("a layer to settle is not unpacked");
      auto settled = settle_layer(no_limit(), *layer->second.rootfs, layer->second.todo, lower);
      if (!settled) return std::move(settled).error().wrap(base::str("layer ", number));
      TRY_VOID(lower.add(base::str(kStagingView, "/", number)));
    }
    ++number;
  }
  return {};
}

void UnpackStage::say(const UnpackMessage& message) {
  // Who cannot be told is gone, and serve() will see it.
  [[maybe_unused]] const auto sent = send_packet(no_limit(), socket_, message);
}

}  // namespace

}  // namespace oci::fetch
