// A compressed layer onto a real directory, settled on another: nothing outside may change, whatever the bytes say.
// Runs in a folder of its own; without root, chown and mknod fail early and less is reached.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "base/file.h"
#include "oci/fetch/unpack/decompress.h"
#include "oci/fetch/unpack/settle.h"
#include "oci/fetch/unpack/unpack.h"

namespace {

namespace fs = std::filesystem;

/// root/canary, root/lower (a layer with a few names), root/layer (rebuilt for each input).
struct Folder {
  Folder() {
    // In memory if possible: a journal makes each input ten times as slow.
    const fs::path parent = ::access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path();
    std::string name = (parent / "cd-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    root = name;
    fs::create_directory(root / "canary");
    std::ofstream(root / "canary/file") << "untouched";
    fs::create_directories(root / "lower/a/b");
    std::ofstream(root / "lower/a/f") << "lower";
    fs::create_symlink("../canary", root / "lower/l");
    ::umask(0);
  }
  ~Folder() { fs::remove_all(root); }

  void check() const {
    struct stat file {};
    if (::lstat((root / "canary/file").c_str(), &file) != 0 || file.st_size != 9 || file.st_nlink != 1) std::abort();
    if (std::distance(fs::directory_iterator(root), fs::directory_iterator()) != 3) std::abort();
    if (std::distance(fs::directory_iterator(root / "canary"), fs::directory_iterator()) != 1) std::abort();
  }
  fs::path root;
};

base::Status unpack(const std::string& path, const std::string& lower_path, std::string_view bytes) {
  const auto ctx = base::Context::background();
  const auto source = [&bytes](std::span<char> out) -> base::Result<std::size_t> {
    const auto size = bytes.copy(out.data(), out.size());
    bytes.remove_prefix(size);
    return size;
  };
  TRY(auto decompressor, oci::fetch::open_decompressor(source, "layer"));
  TRY(const auto fd, base::open_file(path, O_RDONLY | O_DIRECTORY));
  oci::fetch::Rootfs rootfs(fd.get());
  oci::fetch::UnpackLimits limits;
  limits.entries_max = 100;
  limits.bytes_max = 1 << 20;
  TRY(const auto todo, oci::fetch::unpack_layer(
                           ctx, [&] { return decompressor->next(); }, rootfs, limits));
  oci::fetch::LowerView lower;
  TRY_VOID(lower.add(lower_path));
  return oci::fetch::settle_layer(ctx, rootfs, todo, lower);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const std::string layer = folder.root / "layer";
  if (!base::remove_tree(layer) || ::mkdir(layer.c_str(), 0755) != 0) std::abort();
  [[maybe_unused]] const auto unpacked =
      unpack(layer, folder.root / "lower", {reinterpret_cast<const char*>(data), size});
  folder.check();
  return 0;
}
