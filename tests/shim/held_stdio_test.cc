#include "shim/held_stdio.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "tests/temp_dir.h"

using base::Code;

namespace {

struct Fixture {
  tests::TempDir dir;
  std::string fifo(const std::string& name) const {
    REQUIRE(::mkfifo((dir / name).c_str(), 0600) == 0);
    return dir / name;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "FIFOs are held, /dev/null and nothing are named") {
  auto held = shim::open_stdio({"", fifo("out"), "/dev/null", true});
  REQUIRE(held.has_value());
  CHECK(held->held.size() == 1);
  CHECK(held->paths.stdin_path.empty());
  CHECK(held->paths.stderr_path == "/dev/null");
  CHECK(held->paths.terminal);
  CHECK(held->paths.stdout_path == base::str("/proc/", ::getpid(), "/fd/", held->held[0].get()));
  // A writer does not block, and a reader that comes later gets what was written meanwhile.
  const auto writer = base::open_file(held->paths.stdout_path, O_WRONLY | O_NONBLOCK);
  REQUIRE(writer.has_value());
  REQUIRE(::write(writer->get(), "x", 1) == 1);
  const auto reader = base::open_file(dir / "out", O_RDONLY | O_NONBLOCK);
  REQUIRE(reader.has_value());
  held->held.clear();
  char byte = 0;
  CHECK(::read(reader->get(), &byte, 1) == 1);
  CHECK(byte == 'x');
}

TEST_CASE_FIXTURE(Fixture, "a reader outlives its writers while it is kept") {
  const std::string path = fifo("out");
  const auto reader = base::open_file(path, O_RDONLY | O_NONBLOCK);
  auto writer = base::open_file(path, O_WRONLY | O_NONBLOCK);
  REQUIRE((reader.has_value() && writer.has_value()));
  auto kept = shim::keep_readers({"", path, "/nowhere", false});
  REQUIRE(kept.size() == 1);
  writer->reset();
  pollfd seen{reader->get(), POLLIN, 0};
  CHECK(::poll(&seen, 1, 0) == 0);
  kept.clear();
  CHECK(::poll(&seen, 1, 0) == 1);
  CHECK((seen.revents & POLLHUP) != 0);
}

TEST_CASE_FIXTURE(Fixture, "a path that is swapped afterwards leads nowhere else") {
  const std::string path = fifo("out");
  const auto held = shim::open_stdio({"", path, "", false});
  REQUIRE(held.has_value());
  REQUIRE(::unlink(path.c_str()) == 0);
  std::filesystem::create_symlink("/etc/passwd", path);
  struct stat st {};
  REQUIRE(::stat(held->paths.stdout_path.c_str(), &st) == 0);
  CHECK(S_ISFIFO(st.st_mode));
}

TEST_CASE_FIXTURE(Fixture, "everything else is refused, untouched") {
  Code wanted = Code::kFailedPrecondition;
  std::string path = dir / "it";
  SUBCASE("a file") {
    REQUIRE(base::write_file_atomic(path, "kept", 0600, base::Durable::kNo).has_value());
  }
  SUBCASE("a symlink to a FIFO") {
    std::filesystem::create_symlink(fifo("real"), path);
  }
  SUBCASE("a directory") {
    path = dir.path();
  }
  SUBCASE("another device") {
    path = "/dev/zero";
  }
  SUBCASE("nothing") {
    wanted = Code::kNotFound;
  }
  const auto held = shim::open_stdio({"", "/dev/null", path, false});
  REQUIRE_FALSE(held.has_value());
  CHECK_MESSAGE(held.error().code == wanted, held.error().message);
  CHECK(held.error().message.find(path) != std::string::npos);
}
