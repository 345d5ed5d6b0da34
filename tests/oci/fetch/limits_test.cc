// The limits of what an image may be, each at the limit and one past it. Those of one layer that are options of
// unpack_layer() are in unpack_test.cc.
// clang-format off: before doctest, whose CHECK then replaces that of base/result.h
#include "oci/fetch/unpack/decompress.h"
// clang-format on

#include <doctest/doctest.h>

#include "base/json.h"
#include "oci/image_config.h"
#include "oci/manifest.h"
#include "tests/oci/fetch/layer_fixture.h"

using base::Code;
using base::Json;
using tests::LayerStack;
using tests::TarBuilder;
using tests::TarEntry;

namespace {

const std::string kDigest = "sha256:" + std::string(64, '1');

Json descriptor(const char* type) {
  return {{"mediaType", type}, {"digest", kDigest}, {"size", 10}};
}
Json manifest() {
  return {{"schemaVersion", 2},
          {"mediaType", oci::kOciManifestType},
          {"config", descriptor("application/vnd.oci.image.config.v1+json")},
          {"layers", Json::array({descriptor("application/vnd.oci.image.layer.v1.tar")})}};
}
Json config() {
  return {{"os", "linux"}, {"rootfs", {{"type", "layers"}, {"diff_ids", {kDigest}}}}};
}
/// The document with white space behind it, which is part of its size and of nothing else.
std::string of_size(const Json& document, std::size_t size) {
  std::string text = base::dump_json(document);
  text.resize(size, ' ');
  return text;
}
Json nested(Json document, std::size_t depth) {
  Json inner = "x";
  for (std::size_t i = 0; i < depth; ++i) inner = Json::array({std::move(inner)});
  document["annotations-of-others"] = std::move(inner);
  return document;
}

/// A zstd frame that asks for a window of 2^log bytes and holds one block as it is.
std::string zstd_frame(int log, const std::string& content) {
  std::string out("\x28\xb5\x2f\xfd\x00", 5);
  out += static_cast<char>((log - 10) << 3);
  const std::size_t header = content.size() << 3 | 1;
  for (int i = 0; i < 3; ++i) out += static_cast<char>(header >> (8 * i));
  return out + content;
}

base::Result<std::string> decompress(std::string bytes) {
  TRY(const auto decompressor, oci::fetch::open_decompressor(
                                   [&bytes](std::span<char> out) -> base::Result<std::size_t> {
                                     const std::size_t size = bytes.copy(out.data(), out.size());
                                     bytes.erase(0, size);
                                     return size;
                                   },
                                   "layer x"));
  TRY(const auto piece, decompressor->next());
  return std::string(piece);
}

TarEntry with_pax(const std::string& key, const std::string& value) {
  TarEntry entry;
  entry.name = "f";
  entry.pax[key] = value;
  return entry;
}

}  // namespace

TEST_CASE("documents: size, depth, number of entries") {
  const auto parse = [](const std::string& text) { return oci::parse_manifest(text, "", "x").has_value(); };
  CHECK(parse(of_size(manifest(), oci::kManifestBytesMax)));
  CHECK_FALSE(parse(of_size(manifest(), oci::kManifestBytesMax + 1)));
  const std::size_t depth = base::JsonLimits().depth_max;
  CHECK_EQ(depth, 32);
  CHECK(parse(base::dump_json(nested(manifest(), depth - 1))));
  CHECK_FALSE(parse(base::dump_json(nested(manifest(), depth))));

  const auto parse_config = [](const std::string& text) { return oci::parse_config(text, "x").has_value(); };
  CHECK(parse_config(of_size(config(), oci::kConfigBytesMax)));
  CHECK_FALSE(parse_config(of_size(config(), oci::kConfigBytesMax + 1)));

  Json index{{"schemaVersion", 2}, {"manifests", Json::array()}};
  for (std::size_t i = 0; i < oci::kIndexEntriesMax; ++i) {
    index["manifests"].push_back(descriptor("application/vnd.oci.image.manifest.v1+json"));
  }
  CHECK(parse(base::dump_json(index)));
  index["manifests"].push_back(index["manifests"][0]);
  CHECK_FALSE(parse(base::dump_json(index)));
}

TEST_CASE("expansion: 1000 to 1, and what small layers may") {
  using oci::fetch::kExpansionFreeBytes;
  using oci::fetch::kExpansionMax;
  oci::fetch::ExpansionLimit small;
  CHECK(small.add(kExpansionFreeBytes, 1).has_value());
  CHECK_EQ(small.add(1, 1).error().code, Code::kInvalidArgument);
  oci::fetch::ExpansionLimit large;
  const std::uint64_t taken = 1 << 20;
  CHECK(large.add(kExpansionMax * taken, taken).has_value());
  CHECK(large.add(kExpansionMax, taken + 1).has_value());
  CHECK_EQ(large.add(1, taken + 1).error().code, Code::kInvalidArgument);
}

TEST_CASE("zstd: a window of 128 MiB") {
  const std::string tar = TarBuilder().file("f", "content").done();
  CHECK_EQ(decompress(zstd_frame(oci::fetch::kZstdWindowLogMax, tar)).value_or(""), tar);
  CHECK_EQ(decompress(zstd_frame(oci::fetch::kZstdWindowLogMax + 1, tar)).error().code, Code::kDataLoss);
}

TEST_CASE("an image's layers together: entries and bytes") {
  using oci::fetch::ImageBudget;
  ImageBudget entries(3, 100);
  CHECK(entries.take(2, 0).has_value());
  CHECK(entries.take(1, 0).has_value());
  CHECK_EQ(entries.take(1, 0).error().code, Code::kInvalidArgument);
  ImageBudget bytes(3, 100);
  CHECK(bytes.take(0, 100).has_value());
  CHECK_EQ(bytes.take(0, 1).error().code, Code::kInvalidArgument);

  if (::geteuid() != 0) return;
  const std::string tar = TarBuilder().file("a", "x").file("b", "y").done();
  ImageBudget both(4, 3 * tar.size());
  oci::fetch::UnpackLimits limits;
  limits.image = &both;
  LayerStack stack;
  CHECK(stack.add(tar, limits).has_value());
  CHECK(stack.add(tar, limits).has_value());
  CHECK_EQ(stack.add(TarBuilder().file("c").done(), limits).error().message, "the image has more than 4 entries");
  ImageBudget small(100, 2 * tar.size() - 1);
  limits.image = &small;
  LayerStack other;
  CHECK(other.add(tar, limits).has_value());
  CHECK_FALSE(other.add(tar, limits).has_value());
}

TEST_CASE("names: 4095 bytes, 255 directories, 255 bytes each") {
  const auto fits = [](const std::string& path) { return oci::fetch::split_path(path).has_value(); };
  const auto repeat = [](const std::string& part, std::size_t times) {
    std::string out;
    for (std::size_t i = 0; i < times; ++i) out += part;
    return out;
  };
  const std::string long_path = repeat(std::string(30, 'd') + "/", 132);  // 4092 bytes
  CHECK(fits(long_path + "abc"));
  CHECK_FALSE(fits(long_path + "abcd"));
  CHECK(fits(repeat("d/", oci::fetch::kPathDepthMax)));
  CHECK_FALSE(fits(repeat("d/", oci::fetch::kPathDepthMax + 1)));
  CHECK(fits("a/" + std::string(oci::fetch::kNameBytesMax, 'n')));
  CHECK_FALSE(fits("a/" + std::string(oci::fetch::kNameBytesMax + 1, 'n')));
}

TEST_CASE("attributes: 64 KiB each, 1 MiB together, and what a pax header may be") {
  if (::geteuid() != 0) return;
  using oci::fetch::kXattrBytesMax;
  using oci::fetch::kXattrsBytesMax;
  constexpr char kRefusal[] = "is too large";
  // Whether the file system can hold them is another matter: it says so in other words.
  const auto refused = [&](const TarEntry& entry) {
    LayerStack stack;
    const auto added = stack.add(TarBuilder().add(entry).done());
    return !added && added.error().message.find(kRefusal) != std::string::npos;
  };
  CHECK_FALSE(refused(with_pax("SCHILY.xattr.user.x", std::string(kXattrBytesMax, 'x'))));
  CHECK(refused(with_pax("SCHILY.xattr.user.x", std::string(kXattrBytesMax + 1, 'x'))));
  TarEntry many;
  many.name = "f";
  const std::size_t part = kXattrsBytesMax / 17;
  for (int i = 0; i < 16; ++i) many.pax[base::str("SCHILY.xattr.user.", i)] = std::string(part, 'x');
  CHECK_FALSE(refused(many));

  // libarchive's limit of all pax records before an entry.
  constexpr std::size_t kPaxBytesMax = 1u << 20;
  const std::size_t framing = std::string("1048576 comment=\n").size();
  LayerStack stack;
  CHECK(stack.add(TarBuilder().add(with_pax("comment", std::string(kPaxBytesMax - framing, 'x'))).done()).has_value());
  LayerStack other;
  CHECK_EQ(other.add(TarBuilder().add(with_pax("comment", std::string(kPaxBytesMax - framing + 1, 'x'))).done())
               .error()
               .code,
           Code::kDataLoss);
}
