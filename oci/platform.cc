#include "oci/platform.h"

#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/result.h"
#include "base/text.h"

namespace oci {

namespace {

// "v8.2" as its two numbers; the second is 0 when absent.
struct Version {
  int major = 0;
  int minor = 0;
};

std::optional<Version> parse_version(std::string_view variant) {
  if (!variant.starts_with('v')) return std::nullopt;
  Version version;
  const char* end = variant.data() + variant.size();
  auto [rest, error] = std::from_chars(variant.data() + 1, end, version.major);
  if (error != std::errc() || version.major < 0) return std::nullopt;
  if (rest == end) return version;
  if (*rest != '.') return std::nullopt;
  auto [tail, minor_error] = std::from_chars(rest + 1, end, version.minor);
  if (minor_error != std::errc() || tail != end || version.minor < 0) return std::nullopt;
  return version;
}

// Variants are given with and without the "v"; a ".0" says nothing.
std::string fold_variant(std::string variant) {
  if (!variant.empty() && variant.front() >= '0' && variant.front() <= '9') variant.insert(0, "v");
  if (variant.ends_with(".0")) variant.resize(variant.size() - 2);
  return variant;
}

constexpr int kAmd64VariantDefault = 1;
constexpr int kArmVariantDefault = 7;
constexpr int kArm64VariantDefault = 8;
// An image for the 32-bit sibling always comes after every one for the host's own architecture.
constexpr int kOtherArchitecture = 1000;

Version version_or(const std::string& variant, int major_default) {
  return parse_version(variant).value_or(Version{major_default, 0});
}

std::optional<int> fit_single(const std::string& image_variant, const std::string& host_variant, int major_default) {
  if (!image_variant.empty() && !parse_version(image_variant)) return std::nullopt;
  const int image = version_or(image_variant, major_default).major;
  const int host = version_or(host_variant, major_default).major;
  if (image > host) return std::nullopt;
  return host - image;
}

// Armv9.x executes everything of Armv8.(x+5), and nothing of later v8 revisions.
std::optional<int> fit_arm64(const std::string& image_variant, const std::string& host_variant) {
  if (!image_variant.empty() && !parse_version(image_variant)) return std::nullopt;
  const Version image = version_or(image_variant, kArm64VariantDefault);
  const Version host = version_or(host_variant, kArm64VariantDefault);
  if (image.major < 8 || image.minor > 99) return std::nullopt;
  if (image.major == host.major) {
    return image.minor > host.minor ? std::nullopt : std::optional(host.minor - image.minor);
  }
  if (host.major != 9 || image.major != 8 || image.minor > host.minor + 5) return std::nullopt;
  return 100 + (host.minor + 5 - image.minor);
}

#ifdef __x86_64__
// The micro-architecture levels of the x86-64 psABI, by the features that each adds over the one before.
std::string amd64_variant() {
  __builtin_cpu_init();
  const bool v2 =
      __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt");
  const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return v4 ? "v4" : v3 ? "v3" : v2 ? "v2" : "";
}
#endif

bool includes(const std::vector<std::string>& all, const std::vector<std::string>& wanted) {
  return std::all_of(wanted.begin(), wanted.end(),
                     [&](const std::string& w) { return std::find(all.begin(), all.end(), w) != all.end(); });
}

}  // namespace

Platform normalize(Platform platform) {
  const auto lower = [](std::string& text) {
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  lower(platform.os);
  lower(platform.architecture);
  lower(platform.variant);
  if (platform.os == "macos") platform.os = "darwin";

  auto& arch = platform.architecture;
  auto& variant = platform.variant;
  variant = fold_variant(variant);
  if (arch == "i386") arch = "386";
  if (arch == "x86_64" || arch == "x86-64") arch = "amd64";
  if (arch == "aarch64") arch = "arm64";
  if (arch == "armhf") arch = "arm", variant = "v7";
  if (arch == "armel") arch = "arm", variant = "v6";
  if (arch == "amd64" && variant == "v1") variant.clear();
  if (arch == "arm64" && variant == "v8") variant.clear();
  if (arch == "arm" && variant.empty()) variant = "v7";
  return platform;
}

std::optional<int> fit(const Platform& image, const Platform& host) {
  if (image.os != host.os || !includes(host.os_features, image.os_features)) return std::nullopt;
  const auto shifted = [](std::optional<int> rank) {
    return rank ? std::optional(*rank + kOtherArchitecture) : std::nullopt;
  };
  if (image.architecture == host.architecture) {
    if (host.architecture == "amd64") return fit_single(image.variant, host.variant, kAmd64VariantDefault);
    if (host.architecture == "arm64") return fit_arm64(image.variant, host.variant);
    if (host.architecture == "arm") return fit_single(image.variant, host.variant, kArmVariantDefault);
    return image.variant == host.variant ? std::optional(0) : std::nullopt;
  }
  if (host.architecture == "amd64" && image.architecture == "386") return kOtherArchitecture;
  if (host.architecture == "arm64" && image.architecture == "arm") {
    return shifted(fit_single(image.variant, "v8", kArmVariantDefault));
  }
  return std::nullopt;
}

const Platform& host_platform() {
  static const Platform platform = [] {
    utsname name{};
    CHECK(::uname(&name) == 0);
    Platform host{"linux", name.machine, "", {}};
    // The kernel's name of a 32-bit arm is "armv7l", "armv6l", …; everything else is a name that normalize() knows.
    if (host.architecture.starts_with("armv")) {
      host.variant = base::str("v", host.architecture.substr(4, 1));
      host.architecture = "arm";
    }
#ifdef __x86_64__
    if (host.architecture == "x86_64") host.variant = amd64_variant();
#endif
    if (host.architecture == "i686" || host.architecture == "i586") host.architecture = "386";
    return normalize(std::move(host));
  }();
  return platform;
}

base::Result<Platform> parse_platform(std::string_view text) {
  const auto refuse = [&] {
    return base::Error::invalid_argument(
        base::str("\"", text, "\" is not a valid platform; examples: linux/amd64, linux/arm64, linux/arm/v7"));
  };
  std::vector<std::string> parts;
  for (const std::string_view part : base::split(text, '/')) {
    const bool is_word = !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    });
    if (!is_word) return refuse();
    parts.emplace_back(part);
  }
  if (parts.size() == 1) parts.insert(parts.begin(), "linux");
  if (parts.size() > 3) return refuse();
  parts.resize(3);
  const Platform platform = normalize({parts[0], parts[1], parts[2], {}});
  if (platform.os != "linux") return refuse();
  return platform;
}

base::Result<std::string> wanted_platform(std::string_view text) {
  if (text.empty()) return std::string();
  TRY(const Platform platform, parse_platform(text));
  const Platform& host = host_platform();
  const bool is_host = platform == host || (platform.variant.empty() && platform.os == host.os &&
                                            platform.architecture == host.architecture);
  return is_host ? std::string() : to_string(platform);
}

std::string to_string(const Platform& platform) {
  std::string text = base::str(platform.os, "/", platform.architecture);
  if (!platform.variant.empty()) text += base::str("/", platform.variant);
  return text;
}

}  // namespace oci
