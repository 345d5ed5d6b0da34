#include "oci/fetch/unpack/tar_headers.h"

#include <doctest/doctest.h>

#include "tests/oci/fetch/layer_fixture.h"
#include "tests/oci/fetch/tar_builder.h"
#include "tests/oci/fetch/tar_by_libarchive.h"

using base::Code;
using tests::TarBuilder;
using tests::TarEntry;

namespace {

/// How the header of an entry without a body can claim one.
struct Claim {
  const char* name;
  bool gnu;
  std::uint64_t in_header;
  std::map<std::string, std::string> pax;
};
const std::vector<Claim> kClaims = {
    {"nothing", false, 0, {}},
    {"small", false, 5, {}},
    {"one block and more", false, 600, {}},
    {"more than there is", false, 1 << 20, {}},
    {"GNU", true, 600, {}},
    {"pax says so", false, 0, {{"size", "600"}}},
    {"both", true, 600, {{"size", "5"}}},
    {"pax of other things", false, 600, {{"comment", "hello"}}},
    {"sparse", false, 0, {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "600"}}},
    {"real size", false, 0, {{"SCHILY.realsize", "600"}}},
};

std::vector<std::string> names_in(const std::string& tar, std::size_t pieces) {
  std::vector<std::string> out;
  const auto entries = tests::entries_by_libarchive(tar, pieces);
  if (!entries) return {"error"};
  for (const auto& entry : *entries) out.push_back(entry.name + (entry.content.empty() ? "" : "=" + entry.content));
  return out;
}

base::Status read_all(const std::string& tar, std::string* out = nullptr) {
  const auto source = tests::read_from(tar, 700);
  oci::fetch::TarHeaders headers(source);
  for (;;) {
    TRY(const auto piece, headers.next());
    if (piece.empty()) return {};
    if (out != nullptr) out->append(piece);
  }
}

}  // namespace

TEST_CASE("entries without a body have none, whatever their headers claim: what follows is not lost") {
  for (const char type : {'1', '2', '3', '4', '5', '6'}) {
    for (const Claim& claim : kClaims) {
      for (const bool pax_before : {false, true}) {
        CAPTURE(type);
        CAPTURE(claim.name);
        CAPTURE(pax_before);
        TarEntry first;
        first.name = "first";
        first.content = "x";
        if (pax_before) first.pax["comment"] = "any pax header makes libarchive believe sizes";
        TarEntry odd;
        odd.name = "odd";
        odd.type = type;
        odd.link = "first";
        odd.gnu = claim.gnu;
        odd.claimed_size = claim.in_header;
        odd.pax = claim.pax;
        const std::string tar = TarBuilder().add(first).add(odd).file("c", "c").file("d", "d").done();
        for (const std::size_t pieces : {1u, 511u, 513u, 100'000u}) {
          CHECK_EQ(names_in(tar, pieces), std::vector<std::string>{"first=x", "odd", "c=c", "d=d"});
        }
      }
    }
  }
}

TEST_CASE("bytes are changed in such headers only, and none is added or left out") {
  TarEntry file;
  file.name = "file";
  file.content = std::string(1000, 'y');
  file.pax = {{"size", "1000"}, {"comment", "kept"}};
  const std::string plain = TarBuilder().dir("d").add(file).hardlink("h", "file").done() + "behind the end";
  std::string out;
  REQUIRE(read_all(plain, &out).has_value());
  CHECK_EQ(out, plain);

  TarEntry odd;
  odd.name = "odd";
  odd.type = '1';
  odd.claimed_size = 600;
  const std::string tar = TarBuilder().add(file).add(odd).add(file).done();
  out.clear();
  REQUIRE(read_all(tar, &out).has_value());
  CHECK_EQ(out.size(), tar.size());
  CHECK_NE(out, tar);
}

TEST_CASE("a file whose name ends in a slash is a file; before there was a type for folders it was one") {
  TarEntry entry;
  entry.name = "file/";
  entry.content = "content";
  TarEntry pax = entry;
  pax.pax["path"] = "long/";
  TarEntry old = entry;
  old.name = "old/";
  old.type = '\0';
  old.content.clear();
  old.claimed_size = 700;
  const auto entries = tests::entries_by_libarchive(TarBuilder().add(entry).add(pax).add(old).file("f").done(), 999);
  REQUIRE(entries.has_value());
  REQUIRE_EQ(entries->size(), 4);
  CHECK_EQ((*entries)[0].type, '0');
  CHECK_EQ((*entries)[0].content, "content");
  CHECK_EQ((*entries)[1].type, '0');
  CHECK_EQ((*entries)[0].name, "file");
  CHECK_EQ((*entries)[1].name, "long");
  CHECK_EQ((*entries)[1].content, "content");
  CHECK_EQ((*entries)[2].name, "old/");
  CHECK_EQ((*entries)[2].type, '5');
  CHECK_EQ((*entries)[3].name, "f");
}

TEST_CASE("what other readers refuse, or no memory has room for, is an error") {
  const std::string file = TarBuilder().file("f", "content").without_end();
  const std::string zeros(512, '\0');
  CHECK_EQ(read_all(file + zeros + file).error().code, Code::kDataLoss);
  CHECK(read_all(file + zeros).has_value());
  CHECK(read_all(file + zeros + zeros + file).has_value());
  CHECK(read_all(file + zeros + "garbage").has_value());

  TarEntry large;
  large.name = "PaxHeader";
  large.type = 'x';
  large.claimed_size = oci::fetch::kTarExtensionBytesMax + 1;
  CHECK_FALSE(tests::entries_by_libarchive(TarBuilder().add(large).done(), 512).has_value());
  large.claimed_size = oci::fetch::kTarExtensionBytesMax;
  large.content = std::string(oci::fetch::kTarExtensionBytesMax, 'x');
  TarBuilder many;
  for (int i = 0; i < 5; ++i) many.add(large);
  CHECK_EQ(read_all(many.file("f").done()).error().code, Code::kInvalidArgument);
  TarEntry label;
  label.name = "label";
  label.type = 'V';
  TarBuilder labels;
  for (int i = 0; i < 9000; ++i) labels.add(label);
  CHECK_EQ(read_all(labels.done()).error().code, Code::kInvalidArgument);

  TarEntry negative;
  negative.name = "f";
  negative.pax["size"] = "-5";
  CHECK_EQ(read_all(TarBuilder().add(negative).done()).error().code, Code::kDataLoss);
}
