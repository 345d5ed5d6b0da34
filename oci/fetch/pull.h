// One image from its registry into the store, unpacked.
//
// flow   resolve → (ask) → manifest (through indexes) → config → for every layer that is missing: fetch ∥ unpack behind
// it
//        → settle each layer on those below → sync → give everything its final name → index.json
//
// What is visible in the store is complete: layers and blobs get their names by rename after their content is durable,
// and the image gets its entry last. A pull that fails leaves nothing but what a later one can go on from.
#pragma once

#include <functional>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/fetch/layers.h"
#include "oci/fetch/registry/hosts.h"
#include "oci/pull_protocol.h"

namespace oci::fetch {

/// Progress and warnings; from any thread, one at a time.
using EventSink = std::function<void(const HelperEvent&)>;

/// Asks whether what a name leads to may be fetched and unpacked. Empty: nobody needs to be asked.
using Confirm = std::function<base::Status(const base::Context&, const HelperResolved&)>;

/// Errors: as Images::ensure, but for kDeadlineExceeded, which is the caller's business.
///   in   hosts: hosts_of the request's reference
base::Status pull_image(const base::Context& ctx, const HelperRequest& request, std::vector<Host> hosts,
                        const UnpackSite& site, const EventSink& sink, const Confirm& confirm);

/// The images of the archive behind kArchiveFd, or the one that request.reference names.
/// Errors: as import_archive · kNotFound no image of that name in it · kInvalidArgument one that names itself by a
/// digest that is not its own · as pull_image for what follows.
base::Result<HelperDone> load_archive(const base::Context& ctx, const HelperRequest& request, const UnpackSite& site,
                                      const EventSink& sink, const Confirm& confirm);

}  // namespace oci::fetch
