// The unpack stage and its starter: the far side of unpacker.h. sandbox.h says what they may do, unpack_protocol.h what
// they are told.
#pragma once

namespace oci::fetch {

/// A starter's whole life: starts an unpack stage each time it is asked to, one after another, and ends with
/// the fetch stage. Called in a process of its own that has one thread and no secrets.
[[noreturn]] void run_unpack_starter(int socket);

}  // namespace oci::fetch
