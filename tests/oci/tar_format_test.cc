#include "oci/tar_format.h"

#include <doctest/doctest.h>

namespace {

std::string field(const std::string& head, std::size_t at, std::size_t bytes) {
  const std::string text = head.substr(at, bytes);
  return text.substr(0, text.find('\0'));
}

}  // namespace

TEST_CASE("an entry that ustar has room for is one block") {
  oci::TarEntry entry;
  entry.path = "etc/hosts";
  entry.mode = 04755;
  entry.uid = 3;
  entry.gid = 4;
  entry.size_bytes = 1000;
  entry.mtime = 981173106;
  const std::string head = oci::tar_head(entry);
  REQUIRE(head.size() == 512);
  CHECK(field(head, 0, 100) == "etc/hosts");
  CHECK(field(head, 100, 8) == "0004755");
  CHECK(field(head, 108, 8) == "0000003");
  CHECK(field(head, 124, 12) == "00000001750");
  CHECK(field(head, 136, 12) == "07236701562");
  CHECK(head[156] == '0');
  CHECK(head.substr(257, 8) == std::string("ustar\00000", 8));
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < head.size(); ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(head[i]);
  CHECK(std::stoull(head.substr(148, 6), nullptr, 8) == sum);
  CHECK(oci::tar_padding(1000).size() == 24);
  CHECK(oci::tar_padding(1024).empty());
  CHECK(oci::tar_end() == std::string(1024, '\0'));
}

TEST_CASE("what has no room stands in records before it") {
  oci::TarEntry entry;
  entry.path = std::string(101, 'p');
  entry.size_bytes = 1ull << 33;
  entry.uid = 1u << 21;
  entry.mtime = -1;
  entry.xattrs["security.capability"] = std::string("\1\0\n=", 4);
  const std::string head = oci::tar_head(entry);
  REQUIRE(head.size() == 3 * 512);
  CHECK(head[156] == 'x');
  CHECK(head[2 * 512 + 156] == '0');
  const std::string records = head.substr(512, 512);
  CHECK(records.starts_with("111 path=" + entry.path + "\n19 size=8589934592\n15 uid=2097152\n12 mtime=-1\n"));
  CHECK(records.find(std::string("37 SCHILY.xattr.security.capability=\1\0\n=\n", 41)) == std::string::npos);
  CHECK(records.find(std::string("SCHILY.xattr.security.capability=\1\0\n=\n", 38)) != std::string::npos);
  CHECK(field(head, 2 * 512 + 124, 12) == "00000000000");
}

TEST_CASE("an attribute's name does not end its key") {
  oci::TarEntry entry;
  entry.path = "a";
  entry.xattrs["user.a=b%"] = "c=d";
  CHECK(oci::tar_head(entry).substr(512).starts_with("34 SCHILY.xattr.user.a%3Db%25=c=d\n"));
}

TEST_CASE("what is no file has no content") {
  oci::TarEntry link;
  link.type = oci::TarType::kSymlink;
  link.path = "a";
  link.target = "b";
  link.size_bytes = 7;
  const std::string head = oci::tar_head(link);
  CHECK(field(head, 124, 12) == "00000000000");
  CHECK(field(head, 157, 100) == "b");
  link.target = std::string(150, 't');
  CHECK(oci::tar_head(link).find("linkpath=" + link.target + "\n") != std::string::npos);
}
