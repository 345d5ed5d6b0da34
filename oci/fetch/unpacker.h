// The fetch stage's end of unpacking: layers go into a process that is shut in (sandbox.h), and come out as folders.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/fetch/registry/blob.h"
#include "oci/fetch/unpack_protocol.h"

namespace oci::fetch {

/// One unpack stage, for the layers of one image. It is trusted with its staging folder and with nothing that it says.
/// threads: unpack() from any; everything else from one
class Unpacker {
 public:
  ~Unpacker();  ///< as stop()
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;

  /// Has a layer unpacked while it still arrives. next() tells when it is done.
  base::Status unpack(const base::Context& ctx, const UnpackLayer& layer, const BlobFds& fds);
  base::Status settle(const base::Context& ctx, const SettleLayers& layers);
  /// LayerUnpacked, UnpackFailed, UnpackWarning, LayersSettled.
  ///   errors  kInternal it died of a signal · kUnavailable the kernel killed it for lack of memory
  base::Result<UnpackMessage> next(const base::Context& ctx);
  /// Ends it. From then on nobody changes the staging folder, and nothing more comes from it.
  void stop();

 private:
  friend class UnpackStarter;
  Unpacker(int starter, base::Fd session, base::Fd pidfd)
      : starter_(starter), session_(std::move(session)), pidfd_(std::move(pidfd)) {}
  base::Error end();
  const int starter_;
  base::Fd session_;
  base::Fd pidfd_;
};

/// The process that starts unpack stages. One a program; outlives its unpackers, of which there is one at a time.
class UnpackStarter {
 public:
  /// Forks: call it while there is one thread, before there is a secret in memory.
  static base::Result<std::unique_ptr<UnpackStarter>> start();
  ~UnpackStarter();
  UnpackStarter(const UnpackStarter&) = delete;
  UnpackStarter& operator=(const UnpackStarter&) = delete;

  /// Tells it, once and before anything comes from outside, where staging folders and layers are.
  base::Status set_store(const base::Context& ctx, const std::string& data_dir);
  /// A stage for the staging folder ingest/`folder`, which sees the layers of the store that `layers` names.
  ///   errors  kPermissionDenied, kFailedPrecondition as enter_unpack_sandbox
  base::Result<std::unique_ptr<Unpacker>> start_unpack(const base::Context& ctx, const StartUnpack& request);

 private:
  UnpackStarter(base::Fd socket, pid_t pid) : socket_(std::move(socket)), pid_(pid) {}
  base::Fd socket_;
  const pid_t pid_;
};

}  // namespace oci::fetch
