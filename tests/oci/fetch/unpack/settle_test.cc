#include "oci/fetch/unpack/settle.h"

#include <doctest/doctest.h>
#include <sys/xattr.h>

#include "tests/oci/fetch/layer_fixture.h"

using base::Code;
using tests::LayerStack;
using tests::Mounted;
using tests::TarBuilder;
using tests::TarEntry;

namespace {

bool is_root() {
  return ::geteuid() == 0;
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}
std::vector<std::string> names(const std::string& path) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(path)) out.push_back(entry.path().filename());
  std::sort(out.begin(), out.end());
  return out;
}
using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("whiteouts hide what is below, and leave no ghosts") {
  if (!is_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().dir("a").file("a/f").file("a/g").dir("d").file("d/x").file("top").done()).has_value());
  TarBuilder tar;
  tar.file("a/.wh.f").file(".wh.d").file(".wh.never").file("a/.wh.never").file("pure/.wh.ghost").dir("own");
  tar.file("own/.wh.ghost").file("nowhere/deep/.wh.x");
  REQUIRE(stack.add(tar.done()).has_value());
  const Mounted root(stack);
  CHECK_EQ(names(root / ""), Names{"a", "own", "top"});
  CHECK_EQ(names(root / "a"), Names{"g"});
  CHECK_EQ(names(root / "own"), Names{});
  CHECK_FALSE(exists(stack.layer(1, "pure")));
  CHECK_FALSE(exists(stack.layer(1, "nowhere")));
}

TEST_CASE("no whiteout in the bottom layer, whatever it says") {
  if (!is_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().file("a/.wh.f").file(".wh.x").file("b/.wh..wh..opq").file("b/f").done()).has_value());
  CHECK_EQ(names(stack.layers[0]), Names{"b"});
  CHECK_EQ(names(stack.layer(0, "b")), Names{"f"});
}

TEST_CASE("a whiteout never removes what its own layer adds, in any order") {
  if (!is_root()) return;
  for (const bool first : {true, false}) {
    CAPTURE(first);
    LayerStack stack;
    REQUIRE(stack.add(TarBuilder().dir("d").file("d/below").file("f", "below").done()).has_value());
    TarBuilder tar;
    if (first) tar.file(".wh.d").file(".wh.f");
    tar.dir("d").file("d/above").file("f", "above");
    if (!first) tar.file(".wh.d").file(".wh.f");
    REQUIRE(stack.add(tar.done()).has_value());
    const Mounted root(stack);
    CHECK_EQ(names(root / "d"), Names{"above"});
    CHECK_EQ(root.read("f"), "above");
  }
}

TEST_CASE("an opaque directory hides all that is below, in any order") {
  if (!is_root()) return;
  for (const bool first : {true, false}) {
    LayerStack stack;
    REQUIRE(stack
                .add(TarBuilder()
                         .dir("d")
                         .dir("d/s")
                         .file("d/s/x")
                         .file("d/f")
                         .dir("d/both")
                         .file("d/both/x")
                         .dir("d/was_dir")
                         .file("d/was_dir/x")
                         .done())
                .has_value());
    TarBuilder tar;
    if (first) tar.file("d/.wh..wh..opq");
    tar.file("d/new").file("d/.wh.f").dir("d/both").file("d/both/y").file("d/was_dir");
    if (!first) tar.file("d/.wh..wh..opq");
    REQUIRE(stack.add(tar.done()).has_value());
    const Mounted root(stack);
    CHECK_EQ(names(root / "d"), Names{"both", "new", "was_dir"});
    CHECK_EQ(names(root / "d/both"), Names{"y"});
    CHECK_EQ(root.stat("d/was_dir").st_mode & S_IFMT, S_IFREG);
  }
}

TEST_CASE("an opaque root hides all lower layers") {
  if (!is_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().dir("d").file("d/x").file("f").done()).has_value());
  REQUIRE(stack.add(TarBuilder().file("g").done()).has_value());
  REQUIRE(stack.add(TarBuilder().file(".wh..wh..opq").file("d/y").file("new").done()).has_value());
  const Mounted root(stack);
  CHECK_EQ(names(root / ""), Names{"d", "new"});
  CHECK_EQ(names(root / "d"), Names{"y"});
}

TEST_CASE("what is hidden stays hidden for the layers above") {
  if (!is_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().dir("d", 0700, 5).file("d/f").done()).has_value());
  REQUIRE(stack.add(TarBuilder().file(".wh.d").done()).has_value());
  REQUIRE(stack.add(TarBuilder().file("d/new").file("d/.wh.f").done()).has_value());
  const Mounted root(stack);
  CHECK_EQ(names(root / "d"), Names{"new"});
  CHECK_EQ(root.stat("d").st_uid, 0);  // not of the directory that was removed
}

TEST_CASE("a file replaces a directory and the other way round") {
  if (!is_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().dir("a").file("a/x").file("b").done()).has_value());
  REQUIRE(stack.add(TarBuilder().file("a", "file").dir("b").file("b/y").done()).has_value());
  REQUIRE(stack.add(TarBuilder().dir("a").file("a/z").done()).has_value());
  const Mounted root(stack);
  CHECK_EQ(names(root / "a"), Names{"z"});
  CHECK_EQ(names(root / "b"), Names{"y"});
}

TEST_CASE("directories that a layer only passes through keep their looks") {
  if (!is_root()) return;
  LayerStack stack;
  TarEntry dir;
  dir.name = "d";
  dir.type = '5';
  dir.mode = 02710;
  dir.uid = 5;
  dir.gid = 6;
  dir.mtime = 1'600'000'000;
  dir.pax["SCHILY.xattr.user.x"] = "y";
  REQUIRE(stack.add(TarBuilder().add(dir).dir("d/e", 0701, 9).done()).has_value());
  REQUIRE(stack.add(TarBuilder().file("other").done()).has_value());
  REQUIRE(stack.add(TarBuilder().file("d/e/f/new").done()).has_value());
  const Mounted root(stack);
  const auto d = root.stat("d");
  CHECK_EQ(d.st_mode & 07777, 02710);
  CHECK_EQ(d.st_uid, 5);
  CHECK_EQ(d.st_gid, 6);
  CHECK_EQ(d.st_mtime, 1'600'000'000);
  char value = 0;
  CHECK_EQ(::getxattr((root / "d").c_str(), "user.x", &value, 1), 1);
  CHECK_EQ(root.stat("d/e").st_mode & 07777, 0701);
  CHECK_EQ(root.stat("d/e/f").st_mode & 07777, 0755);
}

TEST_CASE("hard links to a lower layer's file share its inode") {
  if (!is_root()) return;
  LayerStack stack;
  TarEntry file;
  file.name = "d/f";
  file.content = "content";
  file.mode = 04711;
  file.uid = 7;
  REQUIRE(stack.add(TarBuilder().dir("d", 0700, 5).add(file).symlink("d/l", "f").done()).has_value());
  TarEntry one = file;
  one.type = '1';
  one.content.clear();
  one.name = "x/one";
  one.link = "d/f";
  TarBuilder tar;
  tar.add(one).hardlink("two", "x/one").hardlink("link", "d/l").hardlink("later", "d/f").file("later", "mine");
  REQUIRE(stack.add(tar.done()).has_value());
  const Mounted root(stack);
  CHECK_EQ(root.read("x/one"), "content");
  CHECK_EQ(root.read("later"), "mine");
  const auto original = root.stat("d/f");
  CHECK_EQ(root.stat("x/one").st_ino, original.st_ino);
  CHECK_EQ(root.stat("two").st_ino, original.st_ino);
  CHECK_EQ(original.st_nlink, 3);
  CHECK_EQ(original.st_mode & 07777, 04711);
  CHECK_EQ(original.st_uid, 7);
  CHECK_EQ(root.stat("link").st_mode & S_IFMT, S_IFLNK);
  CHECK_EQ(root.stat("d").st_uid, 5);

  LayerStack missing;
  CHECK_EQ(missing.add(TarBuilder().hardlink("a", "nowhere").done()).error().code, Code::kDataLoss);
}

TEST_CASE("a hard link into a lower layer with attributes of its own: they are the file's from then on") {
  if (!is_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().file("f", "content", 0600).done()).has_value());
  TarEntry link;
  link.name = "run";
  link.type = '1';
  link.link = "f";
  link.mode = 04755;
  link.uid = 9;
  link.pax["SCHILY.xattr.user.x"] = "y";
  REQUIRE(stack.add(TarBuilder().add(link).done()).has_value());
  const Mounted root(stack);
  for (const char* name : {"f", "run"}) {
    CAPTURE(name);
    CHECK_EQ(root.stat(name).st_mode & 07777, 04755);
    CHECK_EQ(root.stat(name).st_uid, 9);
    char value = 0;
    CHECK_EQ(::getxattr((root / name).c_str(), "user.x", &value, 1), 1);
  }
  struct stat below {};
  REQUIRE_EQ(::lstat(stack.layer(0, "f").c_str(), &below), 0);
  CHECK_EQ(below.st_mode & 07777, 0600);
}

TEST_CASE("a link to what the same layer removes keeps the file and not its name") {
  if (!is_root()) return;
  for (const char* removed : {"d/.wh.f", "d/.wh..wh..opq", ".wh.d"}) {
    CAPTURE(removed);
    LayerStack stack;
    REQUIRE(stack.add(TarBuilder().dir("d").file("d/f", "content").file("d/g").done()).has_value());
    REQUIRE(stack.add(TarBuilder().hardlink("kept", "d/f").file(removed).done()).has_value());
    const Mounted root(stack);
    CHECK_EQ(root.read("kept"), "content");
    CHECK_FALSE(root.has("d/f"));
  }
}

TEST_CASE("LowerView finds what overlay shows") {
  if (!is_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().file("a/b/c").file("a/b/d").file("e").symlink("s", "a").done()).has_value());
  REQUIRE(stack.add(TarBuilder().file("a/b/.wh.c").file(".wh.e").file("a/x/y").done()).has_value());
  oci::fetch::LowerView view;
  for (const auto& layer : stack.layers) REQUIRE(view.add(layer).has_value());
  for (const char* path : {"a", "a/b", "a/b/d", "a/x/y", "s"}) CHECK(view.has(path));
  for (const char* path : {"a/b/c", "e", "s/b", "a/b/d/z", "nothing"}) CHECK_FALSE(view.has(path));
  CHECK(view.has_dir("a/b"));
  CHECK_FALSE(view.has_dir("s"));
  const auto sorted = [&](const std::string& path) {
    auto out = *view.names(path);
    std::sort(out.begin(), out.end());
    return out;
  };
  CHECK_EQ(sorted(""), Names{"a", "s"});
  CHECK_EQ(sorted("a"), Names{"b", "x"});
  CHECK_EQ(sorted("a/b"), Names{"d"});
  for (const char* path : {"a/b/d", "s", "nothing", "a/b/d/x"}) CHECK_EQ(sorted(path), Names{});
}
