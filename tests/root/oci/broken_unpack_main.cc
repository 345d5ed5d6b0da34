// broken_unpack FOLDER < TAR: the broken unpacker without a sandbox around it. It must be able to do the harm that the
// sandbox keeps off, else the test of the sandbox shows nothing.
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "oci/fetch/unpack/unpack.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto folder = base::open_file(argv[1], O_RDONLY | O_DIRECTORY);
  if (!folder) return 1;
  oci::fetch::Rootfs rootfs(folder->get());
  char chunk[4096];
  const oci::fetch::ReadTar read = [&]() -> base::Result<std::string_view> {
    TRY(const std::size_t size, base::read_some(base::Context::background(), STDIN_FILENO, chunk));
    return std::string_view(chunk, size);
  };
  return oci::fetch::unpack_layer(base::Context::background(), read, rootfs, {}) ? 0 : 1;
}
