#include "driver/files/named_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/file.h"
#include "base/loop.h"
#include "tests/temp_dir.h"

TEST_CASE("what is in the place of a named file is looked at before it is opened, and nothing is waited for") {
  const tests::TempDir dir;
  REQUIRE(base::write_file_atomic(dir / "file", "text", 0600, base::Durable::kNo));
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
  REQUIRE(::symlink("fifo", (dir / "link-to-fifo").c_str()) == 0);
  const auto socket = base::listen_unix(dir / "socket", 1);
  CHECK(driver::read_named_file(dir / "file", 4).value_or("error") == "text");
  CHECK(driver::read_named_file(dir / "link", 4).value_or("error") == "text");
  const std::vector<std::array<std::string, 2>> bad = {
      {dir / "fifo", "it is a FIFO, not a file"},
      {dir / "link-to-fifo", "it is a FIFO, not a file"},
      {dir / "socket", "it is a socket, not a file"},
      {dir.path().string(), "it is a directory, not a file"},
      {"/dev/zero", "it is a device, not a file"},
      {dir / "none", "it does not exist on this node"},
      {dir / "file/none", "Not a directory"},
  };
  for (const auto& [path, message] : bad) {
    const auto text = driver::read_named_file(path, 100);
    REQUIRE_FALSE(text);
    CHECK(text.error().message.find(message) != std::string::npos);
  }
  const auto large = driver::read_named_file(dir / "file", 3);
  REQUIRE_FALSE(large);
  CHECK(large.error().message == "it is larger than 3 bytes");
}
