#include "oci/platform.h"

#include <doctest/doctest.h>

using oci::Platform;

namespace {

Platform platform(std::string os, std::string architecture, std::string variant = "") {
  return oci::normalize({std::move(os), std::move(architecture), std::move(variant), {}});
}
Platform linux_on(std::string architecture, std::string variant = "") {
  return platform("linux", std::move(architecture), std::move(variant));
}

}  // namespace

TEST_CASE("spellings are folded") {
  struct Case {
    Platform in;
    std::string out;
  };
  const Case cases[] = {
      {{"macOS", "X86_64", "", {}}, "darwin/amd64"},    {{"linux", "i386", "", {}}, "linux/386"},
      {{"linux", "x86-64", "", {}}, "linux/amd64"},     {{"linux", "amd64", "v1", {}}, "linux/amd64"},
      {{"linux", "amd64", "v3", {}}, "linux/amd64/v3"}, {{"linux", "aarch64", "", {}}, "linux/arm64"},
      {{"linux", "arm64", "v8", {}}, "linux/arm64"},    {{"linux", "arm64", "8", {}}, "linux/arm64"},
      {{"linux", "arm64", "v8.0", {}}, "linux/arm64"},  {{"linux", "arm64", "9.0", {}}, "linux/arm64/v9"},
      {{"linux", "armhf", "", {}}, "linux/arm/v7"},     {{"linux", "armel", "", {}}, "linux/arm/v6"},
      {{"linux", "arm", "", {}}, "linux/arm/v7"},       {{"linux", "arm", "6", {}}, "linux/arm/v6"},
      {{"linux", "riscv64", "", {}}, "linux/riscv64"},
  };
  for (const Case& c : cases) CHECK_EQ(oci::to_string(oci::normalize(c.in)), c.out);
}

TEST_CASE("a host prefers its own variant, then older ones, then its sibling architecture") {
  struct Case {
    Platform host;
    std::vector<Platform> best_first;
    std::vector<Platform> never;
  };
  const Case cases[] = {
      {linux_on("amd64", "v3"),
       {linux_on("amd64", "v3"), linux_on("amd64", "v2"), linux_on("amd64"), linux_on("386")},
       {linux_on("amd64", "v4"), linux_on("arm64"), platform("windows", "amd64"), platform("unknown", "unknown")}},
      {linux_on("arm64"),
       {linux_on("arm64"), linux_on("arm", "v8"), linux_on("arm", "v7"), linux_on("arm", "v6"), linux_on("arm", "v5")},
       {linux_on("amd64"), linux_on("arm64", "v8.1"), linux_on("arm64", "v9"), linux_on("arm64", "odd")}},
      {linux_on("arm64", "v8.2"),
       {linux_on("arm64", "v8.2"), linux_on("arm64", "v8.1"), linux_on("arm64"), linux_on("arm", "v7")},
       {linux_on("arm64", "v8.3"), linux_on("arm64", "v9")}},
      {linux_on("arm64", "v9"),
       {linux_on("arm64", "v9"), linux_on("arm64", "v8.5"), linux_on("arm64", "v8.1"), linux_on("arm64"),
        linux_on("arm", "v7")},
       {linux_on("arm64", "v9.1"), linux_on("arm64", "v8.6")}},
      {linux_on("arm", "v7"), {linux_on("arm"), linux_on("arm", "v6"), linux_on("arm", "v5")}, {linux_on("arm", "v8")}},
      {linux_on("s390x"), {linux_on("s390x")}, {linux_on("ppc64le")}},
  };
  for (const Case& c : cases) {
    CAPTURE(oci::to_string(c.host));
    std::optional<int> before;
    for (const Platform& image : c.best_first) {
      CAPTURE(oci::to_string(image));
      const auto rank = oci::fit(image, c.host);
      REQUIRE(rank.has_value());
      if (before) CHECK_GT(*rank, *before);
      before = rank;
    }
    for (const Platform& image : c.never) {
      CAPTURE(oci::to_string(image));
      CHECK_FALSE(oci::fit(image, c.host).has_value());
    }
  }
}

TEST_CASE("os.features of an image must be the host's") {
  Platform image = linux_on("amd64");
  image.os_features = {"win32k"};
  CHECK_FALSE(oci::fit(image, linux_on("amd64")).has_value());
}

TEST_CASE("this host runs images for itself") {
  CHECK_EQ(oci::host_platform().os, "linux");
  CHECK_EQ(oci::fit(oci::host_platform(), oci::host_platform()), 0);
  Platform plain = oci::host_platform();
  plain.variant.clear();
  CHECK(oci::fit(oci::normalize(plain), oci::host_platform()).has_value());
}

TEST_CASE("platforms as people write them") {
  struct Row {
    const char* text;
    const char* normal;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"linux/arm64", "linux/arm64"},
           {"arm64", "linux/arm64"},
           {"linux/aarch64/v8", "linux/arm64"},
           {"linux/arm", "linux/arm/v7"},
           {"Linux/ARM/v6", "linux/arm/v6"},
           {"linux/x86_64", "linux/amd64"},
           {"linux/s390x", "linux/s390x"},
       }) {
    CAPTURE(row.text);
    const auto platform = oci::parse_platform(row.text);
    REQUIRE(platform.has_value());
    CHECK_EQ(oci::to_string(*platform), row.normal);
  }
  for (const char* text : {"", "/", "linux/", "/arm64", "linux//v8", "windows/amd64", "linux/arm/v7/x", "linux/a b",
                           "linux/arm64\n", "linux/\xc3\xa4"}) {
    CAPTURE(text);
    CHECK_EQ(oci::parse_platform(text).error().code, base::Code::kInvalidArgument);
  }
}

TEST_CASE("naming this host's platform is like naming none") {
  const oci::Platform& host = oci::host_platform();
  CHECK_EQ(*oci::wanted_platform(""), "");
  CHECK_EQ(*oci::wanted_platform(oci::to_string(host)), "");
  CHECK_EQ(*oci::wanted_platform(host.os + "/" + host.architecture), "");
  CHECK_EQ(*oci::wanted_platform("linux/s390x"), "linux/s390x");
  CHECK_FALSE(oci::wanted_platform("windows/amd64").has_value());
}
