#include "driver/image/archive.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/temp_dir.h"

using base::Code;

namespace {

struct Fixture {
  tests::TempDir dir;
  driver::TaskSpec spec;
  Fixture() {
    spec.alloc_dir = dir / "alloc";
    spec.name = "web";
    REQUIRE(base::make_dirs(dir / "alloc/web/local", 0755).has_value());
  }
  base::Result<base::Fd> open(const std::string& path) { return driver::open_archive(spec, {path, ""}); }
};

}  // namespace

TEST_CASE("an archive in the task's folder is a file or a folder, and never outside") {
  Fixture f;
  REQUIRE(base::write_file_atomic(f.dir / "alloc/web/local/a.tar", "tar", 0644, base::Durable::kNo).has_value());
  REQUIRE_EQ(::symlink("/local/a.tar", (f.dir / "alloc/web/link").c_str()), 0);
  REQUIRE_EQ(::symlink("/etc/passwd", (f.dir / "alloc/web/out").c_str()), 0);
  for (const char* path : {"local/a.tar", "local", "link"}) {
    CAPTURE(path);
    CHECK(f.open(path).has_value());
  }
  CHECK(f.open(f.dir / "alloc/web/local/a.tar").has_value());
  CHECK_EQ(f.open("out").error().code, Code::kNotFound);
  CHECK_EQ(f.open("").error().code, Code::kInvalidArgument);
  // The descriptor is for reading.
  const auto opened = f.open("local/a.tar");
  CHECK_EQ(::fcntl(opened->get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  char bytes[3];
  CHECK_EQ(::read(opened->get(), bytes, sizeof bytes), 3);
}

TEST_CASE("what would block or do something when it is opened is no archive") {
  Fixture f;
  REQUIRE_EQ(::mkfifo((f.dir / "alloc/web/local/f").c_str(), 0600), 0);
  REQUIRE_EQ(::symlink("f", (f.dir / "alloc/web/local/link").c_str()), 0);
  struct Case {
    std::string path;
    const char* says;
  };
  for (const Case& c : {Case{"local/f", "local/f: it is a FIFO"}, Case{"local/link", "it is a FIFO"},
                        Case{f.dir / "alloc/web/local/f", "it is a FIFO"}, Case{"/dev/zero", "it is a device"}}) {
    CAPTURE(c.path);
    const auto opened = f.open(c.path);
    REQUIRE_FALSE(opened.has_value());
    CHECK_EQ(opened.error().code, Code::kInvalidArgument);
    CHECK_NE(opened.error().message.find(c.says), std::string::npos);
  }
}
