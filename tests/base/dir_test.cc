#include "base/dir.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include "tests/temp_dir.h"

TEST_CASE("list_dir gives all names, or an error") {
  const tests::TempDir dir;
  for (const char* name : {"b", "a", ".c"}) REQUIRE(base::make_dirs(dir / name, 0700).has_value());
  std::filesystem::create_directory_symlink(dir.path(), dir / "link");
  CHECK_EQ(*base::list_dir(dir.path()), std::vector<std::string>{".c", "a", "b", "link"});
  const auto fd = base::open_file(dir.path(), O_RDONLY | O_DIRECTORY);
  REQUIRE(fd.has_value());
  for (int i = 0; i < 2; ++i) CHECK_EQ(base::list_dir(fd->get(), "it")->size(), 4);
  CHECK_EQ(base::list_dir(fd->get(), "it", 4)->size(), 4);
  CHECK_EQ(base::list_dir(fd->get(), "it", 3).error().code, base::Code::kResourceExhausted);
  CHECK(base::list_dir(dir / "a")->empty());
  CHECK_EQ(base::list_dir(dir / "none").error().code, base::Code::kNotFound);
  CHECK_FALSE(base::list_dir(dir / "link").has_value());
}
