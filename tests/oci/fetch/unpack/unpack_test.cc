#include "oci/fetch/unpack/unpack.h"

#include <doctest/doctest.h>
#include <sys/xattr.h>

#include "tests/oci/fetch/layer_fixture.h"

using base::Code;
using oci::fetch::NameKind;
using tests::LayerStack;
using tests::TarBuilder;
using tests::TarEntry;

namespace {

bool runs_as_root() {
  return ::geteuid() == 0;
}

std::string xattr(const std::string& path, const char* name) {
  char value[256];
  const ssize_t size = ::lgetxattr(path.c_str(), name, value, sizeof value);
  return size < 0 ? "-" : std::string(value, static_cast<std::size_t>(size));
}

TarEntry with_xattr(const std::string& name, char type, const std::string& key, const std::string& value) {
  TarEntry entry;
  entry.name = name;
  entry.type = type;
  entry.link = type == '2' ? "target" : "";
  entry.pax["SCHILY.xattr." + key] = value;
  return entry;
}

}  // namespace

TEST_CASE("names that mean something in a layer") {
  CHECK_EQ(oci::fetch::name_kind("a"), NameKind::kPlain);
  CHECK_EQ(oci::fetch::name_kind(".wha"), NameKind::kPlain);
  CHECK_EQ(oci::fetch::name_kind(".wh.a"), NameKind::kWhiteout);
  CHECK_EQ(oci::fetch::name_kind(".wh..a"), NameKind::kWhiteout);
  CHECK_EQ(oci::fetch::name_kind(".wh..wh..opq"), NameKind::kOpaque);
  CHECK_EQ(oci::fetch::name_kind(".wh..wh.plnk"), NameKind::kReserved);
  for (const char* invalid : {".wh.", ".wh..", ".wh..."}) CHECK_EQ(oci::fetch::name_kind(invalid), NameKind::kInvalid);
}

TEST_CASE("every kind of entry gets its content and attributes") {
  if (!runs_as_root()) return;
  LayerStack stack;
  TarEntry suid;
  suid.name = "bin/su";
  suid.content = "code";
  suid.mode = 04755;
  suid.uid = 7;
  suid.gid = 8;
  suid.pax["SCHILY.xattr.user.note"] = std::string("a\0b", 3);
  TarBuilder tar;
  tar.dir("bin/", 0555).add(suid).symlink("bin/sh", "/bin/su").hardlink("bin/su2", "./bin/su");
  tar.node("null", '3', 1, 3).node("disk", '4', 8, 0).node("fifo", '6', 0, 0).dir("tmp", 01777, 3);
  REQUIRE(stack.add(tar.done()).has_value());

  struct stat info {};
  REQUIRE_EQ(::lstat(stack.layer(0, "bin/su").c_str(), &info), 0);
  CHECK_EQ(info.st_mode, S_IFREG | 04755);
  CHECK_EQ(info.st_uid, 7);
  CHECK_EQ(info.st_gid, 8);
  CHECK_EQ(info.st_nlink, 2);
  CHECK_EQ(info.st_mtime, 1'700'000'000);
  CHECK_EQ(xattr(stack.layer(0, "bin/su"), "user.note"), std::string("a\0b", 3));
  REQUIRE_EQ(::lstat(stack.layer(0, "bin").c_str(), &info), 0);
  CHECK_EQ(info.st_mode, S_IFDIR | 0555);
  CHECK_EQ(info.st_mtime, 1'700'000'000);
  REQUIRE_EQ(::lstat(stack.layer(0, "bin/sh").c_str(), &info), 0);
  CHECK_EQ(info.st_mode & S_IFMT, S_IFLNK);
  CHECK_EQ(info.st_mtime, 1'700'000'000);
  REQUIRE_EQ(::lstat(stack.layer(0, "null").c_str(), &info), 0);
  CHECK_EQ(info.st_mode, S_IFCHR | 0644);
  CHECK_EQ(info.st_rdev, ::makedev(1, 3));
  REQUIRE_EQ(::lstat(stack.layer(0, "disk").c_str(), &info), 0);
  CHECK_EQ(info.st_mode & S_IFMT, S_IFBLK);
  REQUIRE_EQ(::lstat(stack.layer(0, "fifo").c_str(), &info), 0);
  CHECK_EQ(info.st_mode & S_IFMT, S_IFIFO);
  REQUIRE_EQ(::lstat(stack.layer(0, "tmp").c_str(), &info), 0);
  CHECK_EQ(info.st_mode, S_IFDIR | 01777);
  CHECK_EQ(info.st_uid, 3);
}

TEST_CASE("of entries for one file the last one's attributes count; capabilities stay if nobody takes them") {
  if (!runs_as_root()) return;
  LayerStack stack;
  const std::string capability("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  TarEntry link;
  link.name = "link";
  link.type = '1';
  link.link = "file";
  link.mode = 0755;
  link.uid = 3;
  link.mtime = 1'500'000'000;
  TarEntry same = with_xattr("capable", '0', "security.capability", capability);
  TarEntry name = link;
  name.name = "name";
  name.link = "capable";
  name.uid = 0;
  name.mode = 0700;
  TarBuilder tar;
  tar.file("file", "x", 0644).add(link).add(same).add(name).symlink("s", "file");
  name.name = "s2";
  name.link = "s";
  name.uid = 5;
  REQUIRE(stack.add(tar.add(name).done()).has_value());
  struct stat info {};
  REQUIRE_EQ(::lstat(stack.layer(0, "file").c_str(), &info), 0);
  CHECK_EQ(info.st_mode, S_IFREG | 0755);
  CHECK_EQ(info.st_uid, 3);
  CHECK_EQ(info.st_mtime, 1'500'000'000);
  REQUIRE_EQ(::lstat(stack.layer(0, "capable").c_str(), &info), 0);
  CHECK_EQ(info.st_mode & 07777, 0700);
  CHECK_EQ(xattr(stack.layer(0, "capable"), "security.capability"), capability);
  REQUIRE_EQ(::lstat(stack.layer(0, "s").c_str(), &info), 0);  // the symlink's own, never its target's
  CHECK_EQ(info.st_uid, 5);
}

TEST_CASE("attributes: only those an archive may set; file capabilities survive the chown") {
  if (!runs_as_root()) return;
  LayerStack stack;
  const std::string capability("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  TarEntry capable = with_xattr("capable", '0', "security.capability", capability);
  capable.uid = 1000;
  TarBuilder tar;
  tar.add(capable).add(with_xattr("redirect", '5', "trusted.overlay.redirect", "/../.."));
  tar.add(with_xattr("opaque", '5', "trusted.overlay.opaque", "y")).add(with_xattr("t", '0', "trusted.x", "y"));
  tar.add(with_xattr("uo", '0', "user.overlay.opaque", "y")).add(with_xattr("label", '0', "security.selinux", "x"));
  tar.add(with_xattr("link", '2', "user.x", "y")).add(with_xattr("odd", '0', "nonsense", "y"));
  REQUIRE(stack.add(tar.done()).has_value());
  CHECK_EQ(xattr(stack.layer(0, "capable"), "security.capability"), capability);
  CHECK_EQ(xattr(stack.layer(0, "redirect"), "trusted.overlay.redirect"), "-");
  CHECK_EQ(xattr(stack.layer(0, "opaque"), "trusted.overlay.opaque"), "-");
  CHECK_EQ(xattr(stack.layer(0, "t"), "trusted.x"), "-");
  CHECK_EQ(xattr(stack.layer(0, "uo"), "user.overlay.opaque"), "-");
  CHECK(std::filesystem::is_symlink(stack.layer(0, "link")));

  LayerStack large;
  CHECK_FALSE(large.add(TarBuilder().add(with_xattr("f", '0', "user.x", std::string(65537, 'x'))).done()).has_value());
}

TEST_CASE("names are bytes") {
  if (!runs_as_root()) return;
  LayerStack stack;
  const std::string names[] = {"caf\xc3\xa9", "cafe\xcc\x81", "latin\xe9",          "new\nline",
                               "back\\slash", "-dash",        std::string(255, 'n')};
  TarBuilder tar;
  for (const std::string& name : names) {
    TarEntry entry;
    entry.name = "ustar-name-is-replaced";
    entry.pax["path"] = name;
    tar.add(entry);
  }
  tar.file("ustar\xe9");
  TarEntry binary;
  binary.name = "x";
  binary.pax["hdrcharset"] = "BINARY";
  binary.pax["path"] = "binary\xff";
  tar.add(binary);
  TarEntry link;
  link.name = "link";
  link.type = '2';
  link.link = "cut";
  link.pax["linkpath"] = "to\xc3\xa9\xff";
  tar.add(link);
  REQUIRE(stack.add(tar.done()).has_value());
  for (const std::string& name : names) CHECK(std::filesystem::exists(stack.layer(0, name)));
  CHECK(std::filesystem::exists(stack.layer(0, "ustar\xe9")));
  CHECK(std::filesystem::exists(stack.layer(0, "binary\xff")));
  CHECK_EQ(std::filesystem::read_symlink(stack.layer(0, "link")).string(), "to\xc3\xa9\xff");
}

TEST_CASE("later entries replace earlier ones; directories merge") {
  if (!runs_as_root()) return;
  LayerStack stack;
  TarBuilder tar;
  tar.dir("d").file("d/kept", "1").dir("d", 0700).file("f", "old").file("f", "new");
  tar.dir("was_dir").file("was_dir/x").file("was_dir", "file now").file("was_file").dir("was_file").file("was_file/y");
  tar.symlink("was_link", "d").dir("was_link").file("was_link/z");
  tar.file("same").hardlink("same", "same");
  REQUIRE(stack.add(tar.done()).has_value());
  CHECK(std::filesystem::exists(stack.layer(0, "d/kept")));
  struct stat info {};
  REQUIRE_EQ(::stat(stack.layer(0, "d").c_str(), &info), 0);
  CHECK_EQ(info.st_mode & 07777, 0700);
  CHECK_EQ(*base::read_file(stack.layer(0, "f"), 10), "new");
  CHECK_EQ(*base::read_file(stack.layer(0, "was_dir"), 10), "file now");
  CHECK(std::filesystem::exists(stack.layer(0, "was_file/y")));
  CHECK(std::filesystem::exists(stack.layer(0, "was_link/z")));
  CHECK_FALSE(std::filesystem::exists(stack.layer(0, "d/z")));
  CHECK(std::filesystem::exists(stack.layer(0, "same")));
}

TEST_CASE("sparse files keep their holes and their size") {
  if (!runs_as_root()) return;
  LayerStack stack;
  // pax 1.0: the map (one piece of 5 bytes at 1 MiB, file of 2 MiB) stands before the data.
  std::string map = "2\n1048576\n5\n2097152\n0\n";
  map.resize(512, '\0');
  TarEntry sparse;
  sparse.name = "GNUSparseFile.0/s";
  sparse.content = map + "hello";
  sparse.pax = {{"GNU.sparse.major", "1"},
                {"GNU.sparse.minor", "0"},
                {"GNU.sparse.name", "sparse"},
                {"GNU.sparse.realsize", "2097152"}};
  REQUIRE(stack.add(TarBuilder().add(sparse).done()).has_value());
  struct stat info {};
  REQUIRE_EQ(::stat(stack.layer(0, "sparse").c_str(), &info), 0);
  CHECK_EQ(info.st_size, 2097152);
  CHECK_LT(info.st_blocks, 64);
  CHECK_EQ(base::read_file(stack.layer(0, "sparse"), 4 << 20)->substr(1048576, 5), "hello");
}

TEST_CASE("odd times and ids") {
  if (!runs_as_root()) return;
  LayerStack stack;
  TarEntry old;
  old.name = "old";
  old.pax["mtime"] = "-5.5";
  TarEntry fraction;
  fraction.name = "fraction";
  fraction.pax["mtime"] = "1700000001.25";
  TarEntry future;
  future.name = "future";
  future.pax["mtime"] = "99999999999999999";
  REQUIRE(stack.add(TarBuilder().add(old).add(fraction).add(future).done()).has_value());
  struct stat info {};
  REQUIRE_EQ(::stat(stack.layer(0, "old").c_str(), &info), 0);
  CHECK_EQ(info.st_mtime, 0);
  REQUIRE_EQ(::stat(stack.layer(0, "fraction").c_str(), &info), 0);
  CHECK_EQ(info.st_mtime, 1700000001);
  CHECK_EQ(info.st_mtim.tv_nsec, 250'000'000);
  for (const char* id : {"4294967295", "4294967296", "9223372036854775808"}) {
    TarEntry entry;
    entry.name = "f";
    entry.pax["uid"] = id;
    LayerStack refused;
    CHECK_FALSE(refused.add(TarBuilder().add(entry).done()).has_value());
  }
}

TEST_CASE("limits: at the limit passes, one more does not") {
  if (!runs_as_root()) return;
  const std::string tar = TarBuilder().file("a", "x").file("b", "y").done();
  oci::fetch::UnpackLimits limits;
  limits.entries_max = 2;
  CHECK(LayerStack().add(tar, limits).has_value());
  limits.entries_max = 1;
  CHECK_EQ(LayerStack().add(tar, limits).error().code, Code::kInvalidArgument);
  limits = {};
  limits.bytes_max = tar.size();
  CHECK(LayerStack().add(tar, limits).has_value());
  limits.bytes_max = tar.size() - 1;
  CHECK_EQ(LayerStack().add(tar, limits).error().code, Code::kInvalidArgument);
  limits.bytes_max = tar.size() + 100;
  CHECK_EQ(LayerStack().add(tar + std::string(101, '\0'), limits).error().code, Code::kInvalidArgument);
  limits = {};
  limits.remembered_bytes_max = 10;
  CHECK_EQ(LayerStack().add(TarBuilder().dir("d").done(), limits).error().code, Code::kInvalidArgument);

  const auto path = [](std::size_t depth) {
    std::string out;
    for (std::size_t i = 0; i < depth; ++i) out += "d/";
    return out + "f";
  };
  const auto add = [](const std::string& name) {
    TarEntry entry;
    entry.name = "f";
    entry.pax["path"] = name;
    return LayerStack().add(TarBuilder().add(entry).done());
  };
  CHECK(add(path(254)).has_value());
  CHECK_FALSE(add(path(255)).has_value());
  CHECK_FALSE(add(std::string(256, 'n')).has_value());
  CHECK_FALSE(add(std::string(4096, '/') + "f").has_value());
}

TEST_CASE("bytes behind the archive are read to the end; a cut archive is not a layer") {
  if (!runs_as_root()) return;
  const std::string tar = TarBuilder().file("a", std::string(3000, 'x')).done() + std::string(50'000, 'p');
  std::size_t taken = 0;
  const auto whole = tests::read_from(tar);
  const oci::fetch::ReadTar counted = [&]() -> base::Result<std::string_view> {
    TRY(const auto piece, whole());
    taken += piece.size();
    return piece;
  };
  const tests::TempDir dir;
  const auto fd = *base::open_file(dir.path(), O_RDONLY | O_DIRECTORY);
  oci::fetch::Rootfs rootfs(fd.get());
  REQUIRE(oci::fetch::unpack_layer(base::Context::cleanup(), counted, rootfs, {}).has_value());
  CHECK_EQ(taken, tar.size());

  CHECK_EQ(LayerStack().add(tar.substr(0, 1000)).error().code, Code::kDataLoss);
  CHECK_EQ(LayerStack().add(std::string(2000, 'x')).error().code, Code::kDataLoss);
  CHECK(LayerStack().add("").has_value());
  CHECK(LayerStack().add(std::string(1024, '\0')).has_value());
}

TEST_CASE("nothing an archive says leads outside") {
  if (!runs_as_root()) return;
  // Each runs in a stack whose canary lies at ../../canary of the layer's root, and by its absolute name.
  struct Case {
    const char* name;
    std::function<void(TarBuilder&, const std::string& canary)> build;
    bool refused;
  };
  using T = TarBuilder;
  using S = std::string;
  const Case cases[] = {
      {"file up", [](T& t, const S&) { t.file("../../canary/file", "evil"); }, false},
      {"absolute file", [](T& t, const S& c) { t.file(c + "/file", "evil"); }, false},
      {"through an absolute symlink", [](T& t, const S& c) { t.symlink("l", c).file("l/file", "evil"); }, false},
      {"through a relative symlink", [](T& t, const S&) { t.symlink("l", "../../canary").file("l/file", "evil"); },
       false},
      {"through two symlinks",
       [](T& t, const S&) { t.symlink("a", "..").symlink("b", "a/../../canary").file("b/file"); }, false},
      {"through a nested symlink",
       [](T& t, const S&) { t.dir("d").symlink("d/l", "../../../canary").file("d/l/file", "evil"); }, false},
      {"file over a symlink", [](T& t, const S& c) { t.symlink("l", c + "/file").file("l", "evil"); }, false},
      {"directory over a symlink", [](T& t, const S& c) { t.symlink("l", c).dir("l", 0700).file("l/file", "evil"); },
       false},
      {"symlink over a directory that was just used",
       [](T& t, const S& c) { t.dir("d").file("d/a").symlink("d", c).file("d/file", "evil"); }, false},
      {"symlink over the parent of a directory that was just used",
       [](T& t, const S& c) { t.dir("p/d").file("p/d/a").symlink("p", c).file("p/d/file", "evil"); }, false},
      {"hard link up", [](T& t, const S&) { t.hardlink("h", "../../canary/file"); }, true},
      {"hard link by absolute name", [](T& t, const S& c) { t.hardlink("h", c + "/file"); }, true},
      {"hard link through a symlink", [](T& t, const S& c) { t.symlink("l", c).hardlink("h", "l/file"); }, true},
      {"hard link to a symlink, then content",
       [](T& t, const S& c) { t.symlink("l", c + "/file").hardlink("h", "l").file("h", "evil", 0777); }, false},
      {"hard link to a symlink with another mode",
       [](T& t, const S& c) {
         TarEntry h;
         h.name = "h";
         h.type = '1';
         h.link = "l";
         h.mode = 0777;
         h.uid = 99;
         t.symlink("l", c + "/file").add(h);
       },
       false},
      {"root as a symlink", [](T& t, const S& c) { t.symlink(".", c).file("file", "evil"); }, true},
      {"root as a symlink, by another name", [](T& t, const S& c) { t.symlink("a/..", c).file("file"); }, true},
      {"root as a file", [](T& t, const S&) { t.file("/", "evil"); }, true},
      {"root as a hard link", [](T& t, const S&) { t.file("f").hardlink(".", "f"); }, true},
      {"link to the root", [](T& t, const S&) { t.hardlink("h", ".."); }, true},
      {"empty name", [](T& t, const S&) { t.file("", "evil"); }, true},
      {"whiteout of the parent", [](T& t, const S&) { t.file(".wh..."); }, true},
      {"whiteout of the root", [](T& t, const S&) { t.file(".wh.."); }, true},
      {"whiteout of nothing", [](T& t, const S&) { t.file("d/.wh."); }, true},
      {"whiteout up", [](T& t, const S&) { t.file("../../canary/.wh.file"); }, false},
      {"whiteout through a symlink", [](T& t, const S& c) { t.symlink("l", c).file("l/.wh.file"); }, false},
      {"opaque through a symlink", [](T& t, const S& c) { t.symlink("l", c).file("l/.wh..wh..opq"); }, false},
      {"file below a whiteout", [](T& t, const S&) { t.file(".wh.d/f"); }, true},
      {"a loop of symlinks", [](T& t, const S&) { t.symlink("a", "b").symlink("b", "a").file("a/f"); }, true},
      {"a magic link", [](T& t, const S&) { t.symlink("l", "/proc/self/root").file("l/tmp/evil"); }, false},
      {"a magic descriptor", [](T& t, const S&) { t.symlink("l", "/proc/self/fd/3").file("l/evil"); }, false},
      {"mode through a symlink", [](T& t, const S& c) { t.symlink("l", c + "/file").dir("l", 0777, 9); }, false},
      {"device under a symlink", [](T& t, const S& c) { t.symlink("l", c).node("l/sda", '4', 8, 0); }, false},
      {"implicit directories under a dangling symlink",
       [](T& t, const S& c) { t.symlink("l", c + "/new").file("l/x"); }, false},
      {"a file used as a directory", [](T& t, const S&) { t.file("f").file("f/g"); }, true},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    LayerStack stack;
    TarBuilder tar;
    c.build(tar, stack.dir / "canary");
    const auto below = stack.add(TarBuilder().dir("d").dir("p").file("f").done());
    REQUIRE(below.has_value());
    const auto added = stack.add(tar.done());
    if (!added) CAPTURE(added.error().message);
    CHECK_EQ(added.has_value(), !c.refused);
    CHECK(stack.canary_is_untouched());
  }
}

TEST_CASE("an overlay whiteout made by hand, sockets and bookkeeping of others are left out") {
  if (!runs_as_root()) return;
  LayerStack stack;
  REQUIRE(stack.add(TarBuilder().node("gone", '3', 0, 0).file(".wh..wh.plnk").file(".wh..wh..tmp").done()).has_value());
  CHECK_EQ(LayerStack::count(stack.layers[0]), 0);
}
