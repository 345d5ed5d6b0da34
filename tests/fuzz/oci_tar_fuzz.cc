// Tar headers by two readers: what libarchive returns, behind TarHeaders, must be what a second reading of the same
// bytes finds, entry by entry. The input is a list of entries in a shorthand, so that most of them are whole tars: a
// header of any format, which claims any size by any of the ways that there are, with or without extensions before it.
// TAR_TO=FILE keeps the tar that fails.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "tests/oci/fetch/tar_by_libarchive.h"

namespace {

using tests::TarSeen;

class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  unsigned next() {
    if (bytes_.empty()) return 0;
    const auto out = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    return out;
  }
  template <std::size_t N>
  char one_of(const char (&choices)[N]) {
    return choices[next() % (N - 1)];
  }
  std::size_t size() {
    constexpr std::size_t kSizes[] = {0, 0, 1, 5, 511, 512, 513, 600, 1024, 1536, 5000};
    return kSizes[next() % std::size(kSizes)];
  }

 private:
  std::string_view bytes_;
};

void put_octal(char* field, std::size_t width, std::size_t value) {
  std::snprintf(field, width, "%0*zo", static_cast<int>(width - 1), value);
}

enum class Magic { kUstar, kGnu };

std::string header(const std::string& name, char type, std::size_t size, const std::string& link, Magic magic,
                   bool base256 = false) {
  std::string out(512, '\0');
  std::memcpy(out.data(), name.data(), std::min<std::size_t>(name.size(), 100));
  put_octal(&out[100], 8, 0644);
  put_octal(&out[108], 8, 0);
  put_octal(&out[116], 8, 0);
  put_octal(&out[124], 12, size);
  if (base256) {
    std::memset(&out[124], 0, 12);
    out[124] = static_cast<char>(0x80);
    for (std::size_t i = 0; i < 4; ++i) out[135 - i] = static_cast<char>(size >> (8 * i) & 0xff);
  }
  put_octal(&out[136], 12, 1'600'000'000);
  out[156] = type;
  std::memcpy(&out[157], link.data(), std::min<std::size_t>(link.size(), 100));
  std::memcpy(&out[257], magic == Magic::kGnu ? "ustar  \0" : "ustar\00000", 8);
  return out;
}

std::string sealed(std::string block) {
  std::memset(&block[148], ' ', 8);
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  std::snprintf(&block[148], 7, "%06o", sum & 0777777);
  return block;
}

std::string filled(std::string bytes) {
  bytes.append((512 - bytes.size() % 512) % 512, '\0');
  return bytes;
}

std::string record(const std::string& key, const std::string& value) {
  const std::string rest = " " + key + "=" + value + "\n";
  std::size_t size = rest.size() + 1;
  while (std::to_string(size).size() + rest.size() != size) size = std::to_string(size).size() + rest.size();
  return std::to_string(size) + rest;
}

std::string extensions(Bytes& in, const std::string& name) {
  std::string out;
  const unsigned which = in.next();
  const Magic magic = (which & 64) != 0 ? Magic::kGnu : Magic::kUstar;
  std::string records;
  if ((which & 1) != 0) records += record("comment", "hello");
  if ((which & 2) != 0) records += record("size", std::to_string(in.size()));
  if ((which & 4) != 0) records += record("path", name + "-pax" + ((which & 128) != 0 ? "/" : ""));
  if ((which & 8) != 0) {
    constexpr const char* kKeys[] = {"GNU.sparse.major",
                                     "GNU.sparse.size",
                                     "GNU.sparse.realsize",
                                     "SCHILY.realsize",
                                     "GNU.sparse.map",
                                     "GNU.sparse.minor",
                                     "mtime",
                                     "linkpath"};
    records += record(kKeys[in.next() % std::size(kKeys)], "1");
  }
  if (!records.empty())
    out += sealed(header("PaxHeader", in.one_of("xxxxg"), records.size(), "", magic)) + filled(records);
  if ((which & 16) != 0) {
    const std::string text = name + "-gnu" + ((which & 128) != 0 ? "/" : "") + std::string(1, '\0');
    out += sealed(header("././@LongLink", in.one_of("LLK"), text.size(), "", Magic::kGnu)) + filled(text);
  }
  return out;
}

/// One entry; now and then with a field that is anything.
std::string entry(Bytes& in, int number) {
  const std::string name = "n" + std::to_string(number) + (in.next() % 8 == 0 ? "/" : "");
  std::string out = extensions(in, name);
  const char type = in.one_of("0011122345\0006701S");
  const std::size_t claimed = in.size();
  const unsigned how = in.next();
  std::string block = header(name, type, claimed, "n0", (how & 1) != 0 ? Magic::kGnu : Magic::kUstar, (how & 2) != 0);
  if ((how & 12) == 12) block[in.next() * 2 % 512] = static_cast<char>(in.next());
  if ((how & 48) == 48) block[386 + in.next() % 110] = static_cast<char>('0' + in.next() % 8);
  out += sealed(std::move(block));
  // A body where there is one, and at times where there is none, or less of it.
  const bool has_body = type == '0' || type == '\0' || type == '7' || type == 'S' || (how & 192) == 192;
  if (has_body) out += filled(std::string((how & 64) != 0 ? in.size() : claimed, static_cast<char>('a' + number % 26)));
  return out;
}

std::string tar_of(Bytes& in) {
  std::string out;
  for (int number = 0; !in.empty() && number < 40; ++number) out += entry(in, number);
  return out + std::string(1024, '\0');
}

void show(const char* who, const std::vector<TarSeen>& entries) {
  for (const TarSeen& e : entries) {
    std::fprintf(stderr, "%s: '%c' %s -> %s, %zu bytes\n", who, e.type, e.name.c_str(), e.link.c_str(),
                 e.content.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in({reinterpret_cast<const char*>(data), size});
  const std::size_t pieces = 1 + in.next() * 37;
  const std::string tar = tar_of(in);
  const auto expected = tests::TarReading(tar).entries();
  const auto got = tests::entries_by_libarchive(tar, pieces);
  if (!expected) return 0;
  if (got && *got == *expected) return 0;
  show("expected", *expected);
  if (got) show("got", *got);
  if (!got) std::fprintf(stderr, "got an error\n");
  if (const char* path = std::getenv("TAR_TO")) {
    if (std::FILE* file = std::fopen(path, "wb")) std::fwrite(tar.data(), 1, tar.size(), file), std::fclose(file);
  }
  std::abort();
}
