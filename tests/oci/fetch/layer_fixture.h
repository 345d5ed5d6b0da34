// Layers unpacked from tars that a test builds, in a store's manner: staged, settled, stacked.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "oci/fetch/unpack/settle.h"
#include "oci/fetch/unpack/unpack.h"
#include "oci/overlay.h"
#include "tests/oci/fetch/tar_builder.h"
#include "tests/temp_dir.h"

namespace tests {

inline oci::fetch::ReadTar read_from(const std::string& tar, std::size_t piece = 10'000) {
  return [&tar, piece, at = std::size_t{0}]() mutable -> base::Result<std::string_view> {
    const auto out = std::string_view(tar).substr(std::min(at, tar.size()), piece);
    at += out.size();
    return out;
  };
}

/// A stack of layers in a folder, and beside them a canary that nothing may touch.
class LayerStack {
 public:
  LayerStack() {
    REQUIRE(base::make_dirs(dir / "canary", 0755).has_value());
    REQUIRE(base::write_file_atomic(dir / "canary/file", "untouched", 0644, base::Durable::kNo).has_value());
  }

  /// Unpacks and settles one more layer.
  base::Status add(const std::string& tar, const oci::fetch::UnpackLimits& limits = {}) {
    const std::string path = dir / base::str("layers/", layers.size());
    REQUIRE(base::make_dirs(path, 0755).has_value());
    TRY(const auto fd, base::open_file(path, O_RDONLY | O_DIRECTORY));
    oci::fetch::Rootfs rootfs(fd.get());
    TRY(const auto todo, oci::fetch::unpack_layer(base::Context::cleanup(), read_from(tar), rootfs, limits));
    oci::fetch::LowerView lower;
    for (const std::string& layer : layers) TRY_VOID(lower.add(layer));
    TRY_VOID(oci::fetch::settle_layer(base::Context::cleanup(), rootfs, todo, lower));
    layers.push_back(path);
    return {};
  }

  bool canary_is_untouched() const {
    struct stat file {};
    struct stat folder {};
    const auto text = base::read_file(dir / "canary/file", 100);
    return text && *text == "untouched" && ::stat((dir / "canary/file").c_str(), &file) == 0 &&
           (file.st_mode & 07777) == 0644 && file.st_nlink == 1 && file.st_uid == 0 &&
           ::stat((dir / "canary").c_str(), &folder) == 0 && folder.st_nlink == 2 && count(dir / "canary") == 1 &&
           count(dir.path()) == 2;
  }

  std::string layer(std::size_t index, const std::string& path) const { return base::str(layers.at(index), "/", path); }

  static std::ptrdiff_t count(const std::filesystem::path& path) {
    return std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator());
  }

  TempDir dir;
  std::vector<std::string> layers;
};

/// The stack as a container sees it, while this object lives.
class Mounted {
 public:
  explicit Mounted(const LayerStack& stack) {
    oci::OverlayNames names{stack.layers, dir_ / "upper", dir_ / "work", dir_ / "root"};
    REQUIRE(base::make_dirs(names.target, 0755).has_value());
    const auto mounted = oci::mount_overlay(names);
    REQUIRE(mounted.has_value());
  }
  ~Mounted() { [[maybe_unused]] const auto unmounted = oci::unmount_all(dir_ / "root"); }
  std::string operator/(const std::string& path) const { return dir_ / ("root/" + path); }
  bool has(const std::string& path) const {
    struct stat info {};
    return ::lstat((*this / path).c_str(), &info) == 0;
  }
  std::string read(const std::string& path) const { return base::read_file(*this / path, 1 << 20).value_or("?"); }
  struct stat stat(const std::string& path) const {
    struct stat info {};
    REQUIRE_EQ(::lstat((*this / path).c_str(), &info), 0);
    return info;
  }

 private:
  TempDir dir_;
};

}  // namespace tests
