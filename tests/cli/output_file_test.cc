#include "cli/output_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "tests/temp_dir.h"

using base::Context;
namespace fs = std::filesystem;
using namespace std::chrono_literals;

TEST_CASE("behind_links follows links, and one that leads to nothing too") {
  const tests::TempDir dir;
  const fs::path root = fs::canonical(dir.path());
  fs::create_directory(root / "real");
  fs::create_directory_symlink("real", root / "folder");
  fs::create_symlink("folder/new", root / "dangling");
  fs::create_symlink(root / "dangling", root / "real/twice");
  fs::create_symlink("loop", root / "loop");
  for (const char* path : {"dangling", "folder/twice", "real/new", "folder/../real/new"}) {
    CAPTURE(path);
    CHECK_EQ(cli::behind_links(root / path).value_or(""), root / "real/new");
  }
  CHECK_EQ(cli::behind_links((root / "folder/").native()).value_or(""), root / "real");
  CHECK_EQ(cli::behind_links(root / "none/f").value_or(""), root / "none/f");
  CHECK_EQ(cli::behind_links("/").value_or(""), "/");
  CHECK_EQ(cli::behind_links(root / "loop").error().sys_errno, ELOOP);
}

TEST_CASE("names of streams") {
  const std::pair<const char*, int> cases[] = {{"", 1},
                                               {"-", 1},
                                               {"/dev/stdout", 1},
                                               {"/dev/stderr", 2},
                                               {"/dev/fd/7", 7},
                                               {"/proc/self/fd/10", 10},
                                               {"f", -1},
                                               {"/dev/fd/", -1},
                                               {"/dev/fd/-1", -1},
                                               {"/dev/fd/1x", -1},
                                               {"/dev/null", -1},
                                               {"/dev/fd/99999999999", -1}};
  for (const auto& c : cases) {
    CAPTURE(c.first);
    CHECK_EQ(cli::stream_of(c.first).value_or(-1), c.second);
  }
}

TEST_CASE("a descriptor of our own is nobody's stream") {
  const tests::TempDir dir;
  const auto own = base::open_file(dir / "f", O_WRONLY | O_CREAT, 0600);
  REQUIRE(own.has_value());
  const std::string name = base::str("/dev/fd/", own->get());
  CHECK_EQ(cli::OutputFile::open(Context::background(), name).error().code, base::Code::kInvalidArgument);
}

TEST_CASE("a file has its name when it is finished, and nothing of it is left if it never is") {
  const tests::TempDir dir;
  const fs::path file = dir / "f";
  REQUIRE(base::write_file_atomic(file, "older", 0644, base::Durable::kNo).has_value());
  const auto entries = [&] { return std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()); };
  {
    const auto out = cli::OutputFile::open(Context::background(), file);
    REQUIRE(out.has_value());
    CHECK(base::write_all(Context::background(), out->fd(), "half").has_value());
    CHECK_EQ(entries(), 2);
  }
  CHECK_EQ(entries(), 1);
  CHECK_EQ(*base::read_file(file, 100), "older");
  auto out = cli::OutputFile::open(Context::background(), file);
  REQUIRE(out.has_value());
  CHECK(base::write_all(Context::background(), out->fd(), "newer").has_value());
  CHECK(out->finish().has_value());
  struct stat info {};
  CHECK_EQ(::stat(file.c_str(), &info), 0);
  CHECK_EQ(info.st_mode & 07777, 0600);
  CHECK_EQ(*base::read_file(file, 100), "newer");
  CHECK_EQ(entries(), 1);
}

TEST_CASE("a FIFO without a reader ends with ctx, and a socket is refused") {
  const tests::TempDir dir;
  REQUIRE_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  const auto soon = Context::background().with_timeout(1ms);
  CHECK_EQ(cli::OutputFile::open(soon, dir / "fifo").error().code, base::Code::kDeadlineExceeded);
  const auto reader = base::open_file(dir / "fifo", O_RDONLY | O_NONBLOCK);
  REQUIRE(reader.has_value());
  CHECK(cli::OutputFile::open(Context::background(), dir / "fifo").has_value());
  CHECK_EQ(cli::OutputFile::open(Context::background(), dir.path()).error().code, base::Code::kInvalidArgument);
}
