// clang-format off
#include "cli/layer_diff.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include <fcntl.h>

#include "base/file.h"
#include "tests/temp_dir.h"

namespace {

/// Folders that play the writable layer and those below it. Whiteouts need root: tests/root/cli/test_diff.py.
struct Layers {
  tests::TempDir dir;
  void write(const std::string& path) const {
    const std::filesystem::path full = dir.path() / path;
    REQUIRE(base::make_dirs(full.parent_path(), 0755));
    REQUIRE(base::write_file_atomic(full, "x", 0644, base::Durable::kNo));
  }
  void make(const std::string& path) const { REQUIRE(base::make_dirs(dir.path() / path, 0755)); }
  std::string changes() const {
    std::vector<base::Fd> below;
    for (const char* name : {"bottom", "middle"}) below.push_back(*base::open_dir(dir / name));
    const auto upper = base::open_file(dir / "upper", O_RDONLY | O_DIRECTORY);
    const auto found = cli::layer_changes(base::Context::background(), *upper, below);
    REQUIRE_MESSAGE(found.has_value(), found.error().message);
    std::string text;
    for (const cli::LayerChange& change : *found) {
      text += base::str(static_cast<char>(change.kind), " ", change.path, "\n");
    }
    return text;
  }
};

}  // namespace

TEST_CASE("what is above another layer's name is changed, the rest is added") {
  const Layers layers;
  for (const char* path : {"bottom/etc/a", "middle/etc/b", "bottom/was/folder/f", "bottom/file"}) layers.write(path);
  layers.make("upper");
  CHECK(layers.changes().empty());
  for (const char* path : {"upper/etc/a", "upper/etc/b", "upper/etc/c", "upper/new/f", "upper/file/inner"}) {
    layers.write(path);
  }
  layers.write("upper/was/folder");
  CHECK(layers.changes() ==
        "C /etc\nC /etc/a\nC /etc/b\nA /etc/c\nC /file\nA /file/inner\nA /new\nA /new/f\nC /was\nC /was/folder\n");
}

TEST_CASE("a file in between hides the folders below it") {
  const Layers layers;
  layers.write("bottom/x/f");
  layers.write("middle/x");
  layers.write("upper/x/f");
  CHECK(layers.changes() == "C /x\nA /x/f\n");
}

TEST_CASE("links lead nowhere") {
  const Layers layers;
  layers.write("bottom/etc/f");
  layers.make("middle");
  layers.make("upper");
  std::filesystem::create_directory_symlink("/etc", layers.dir / "upper/etc");
  std::filesystem::create_directory_symlink("/", layers.dir / "upper/loop");
  CHECK(layers.changes() == "C /etc\nA /loop\n");
}
