#include "driver/image/archive.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/file.h"
#include "tests/temp_dir.h"

namespace {

struct Allocation {
  Allocation() {
    for (const char* name : {"web/local/layout", "web/secrets", "web/private", "alloc"}) {
      REQUIRE(base::make_dirs(dir / name, 0755));
    }
    for (const char* name :
         {"web/local/a.tar", "web/secrets/s.tar", "web/private/p.tar", "alloc/shared.tar", "x.tar"}) {
      REQUIRE(base::write_file_atomic(dir / name, name, 0644, base::Durable::kNo));
    }
    spec.alloc_dir = dir.path().string();
    spec.name = "web";
  }
  /// What the archive that `image` names holds, "directory", or the error.
  std::string open(const std::string& image) const {
    const auto source = driver::archive_source(image);
    REQUIRE(source);
    const auto opened = driver::open_archive(spec, *source);
    if (!opened) return opened.error().message;
    struct stat info = {};
    REQUIRE(::fstat(opened->get(), &info) == 0);
    return S_ISDIR(info.st_mode) ? "directory"
                                 : base::read_file(base::str("/proc/self/fd/", opened->get()), 100).value_or("unread");
  }

  tests::TempDir dir;
  driver::TaskSpec spec;
};

}  // namespace

TEST_CASE("images that are files") {
  CHECK_FALSE(driver::archive_source("docker.io/library/redis:7"));
  const auto named = driver::archive_source("docker-archive:local/a.tar:app:1");
  REQUIRE(named);
  CHECK(named->path == "local/a.tar");
  CHECK(named->name == "app:1");
  CHECK_FALSE(named->directory);
  const auto layout = driver::archive_source("oci:local/layout");
  REQUIRE(layout);
  CHECK(layout->directory);
  CHECK(layout->name == "");
}

TEST_CASE("archives in the task's folders, on the host, and by links that stay inside") {
  const Allocation alloc;
  REQUIRE(::symlink("/local/a.tar", (alloc.dir / "web/local/as-the-task-sees-it.tar").c_str()) == 0);
  CHECK(alloc.open("docker-archive:local/a.tar") == "web/local/a.tar");
  CHECK(alloc.open("oci-archive:secrets/s.tar:name") == "web/secrets/s.tar");
  CHECK(alloc.open("docker-archive:alloc/shared.tar") == "alloc/shared.tar");
  CHECK(alloc.open("docker-archive:" + (alloc.dir / "x.tar")) == "x.tar");
  CHECK(alloc.open("docker-archive:local/as-the-task-sees-it.tar") == "web/local/a.tar");
  CHECK(alloc.open("oci:local/layout") == "directory");
}

TEST_CASE("an archive that leads out, or is something else, is refused at once") {
  const Allocation alloc;
  REQUIRE(::symlink("../../x.tar", (alloc.dir / "web/local/out.tar").c_str()) == 0);
  REQUIRE(::symlink("../private/p.tar", (alloc.dir / "web/local/private.tar").c_str()) == 0);
  REQUIRE(::mkfifo((alloc.dir / "web/local/fifo.tar").c_str(), 0666) == 0);
  const std::vector<std::array<std::string, 2>> bad = {
      {"docker-archive:", "has no path"},
      {"docker-archive:local/none.tar", "does not exist"},
      {"docker-archive:../../etc/passwd", "not in a folder of the task's own"},
      {"docker-archive:private/p.tar", "not in a folder of the task's own"},
      {"docker-archive:local/out.tar", "does not exist, or is a link to outside"},
      {"docker-archive:local/private.tar", "Nomad's own folder"},
      {"docker-archive:local/fifo.tar", "image archive local/fifo.tar cannot be used: it is a FIFO, not a file"},
      {"oci:local/fifo.tar", "it is a FIFO, not a directory"},
      {"docker-archive:/dev/zero", "it is a device, not a file"},
      {"docker-archive:local/layout", "it is a directory, not a file"},
      {"oci:local/a.tar", "it is a file, not a directory"},
  };
  for (const auto& [image, message] : bad) {
    const auto& shown = image;  // clang 14 cannot capture a binding
    CAPTURE(shown);
    const std::string error = alloc.open(image);
    CAPTURE(error);
    CHECK(error.find(message) != std::string::npos);
  }
}
