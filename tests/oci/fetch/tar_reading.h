// Tar headers, read a second time and apart from the product: whole in memory, strict, and with no more than what all
// readers of image layers agree on. Tests compare what comes out of libarchive with it.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tests {

struct TarSeen {
  std::string name;
  std::string link;     ///< of links
  char type = '0';      ///< '0' to '6'
  std::string content;  ///< of files
  bool operator==(const TarSeen&) const = default;
};

/// The entries of `tar`; nullopt if it is malformed, or holds what readers take differently (sparse files, types beyond
/// the seven, names given twice, names that are not ASCII).
class TarReading {
 public:
  explicit TarReading(std::string_view tar) : tar_(tar) {}

  std::optional<std::vector<TarSeen>> entries() {
    std::vector<TarSeen> out;
    for (;;) {
      if (tar_.size() - at_ == 0) return pending_ ? std::nullopt : std::optional(out);
      if (tar_.size() - at_ < 512) return std::nullopt;
      const std::string_view block = take(512);
      if (is_zero(block)) {
        const bool ends = tar_.size() == at_ || (tar_.size() - at_ >= 512 && is_zero(tar_.substr(at_, 512)));
        return ends && !pending_ ? std::optional(out) : std::nullopt;
      }
      if (!is_sound(block)) return std::nullopt;
      const char type = block[156];
      const auto size = number(block.substr(124, 12));
      if (!size) return std::nullopt;
      if (type == 'x' || type == 'g' || type == 'L' || type == 'K') {
        const auto body = body_of(*size);
        if (!body || *size > 1u << 20 || !extend(type, *body)) return std::nullopt;
        continue;
      }
      const auto entry = entry_of(block, type, *size);
      if (!entry) return std::nullopt;
      out.push_back(*entry);
    }
  }

 private:
  std::string_view take(std::size_t size) {
    const auto out = tar_.substr(at_, size);
    at_ += size;
    return out;
  }
  static bool is_zero(std::string_view block) { return block.find_first_not_of('\0') == std::string_view::npos; }
  static bool is_ascii(std::string_view text) {
    for (const char c : text) {
      if (static_cast<unsigned char>(c) >= 0x80 || c == '\0') return false;
    }
    return true;
  }

  static bool is_sound(std::string_view block) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? 32u : static_cast<unsigned char>(block[i]);
    const bool numbers = number(block.substr(100, 8)) && number(block.substr(108, 8)) && number(block.substr(116, 8)) &&
                         number(block.substr(136, 12)) && number(block.substr(329, 8)) && number(block.substr(337, 8));
    if (!numbers) return false;
    const auto stated = number(block.substr(148, 8));
    return stated && *stated == sum && block.substr(257, 5) == "ustar";
  }

  // Digits with blanks or NULs around them, or 8 bytes behind a 0x80.
  static std::optional<std::uint64_t> number(std::string_view field) {
    if (static_cast<unsigned char>(field[0]) == 0x80) {
      std::uint64_t value = 0;
      for (std::size_t i = 1; i < field.size(); ++i) {
        if (i + 8 < field.size() + 1 && field[i] != 0) return std::nullopt;
        value = value << 8 | static_cast<unsigned char>(field[i]);
      }
      return value < 1ull << 62 ? std::optional(value) : std::nullopt;
    }
    const auto first = field.find_first_not_of(' ');
    if (first == std::string_view::npos) return std::nullopt;
    field.remove_prefix(first);
    const auto end = field.find_first_not_of("01234567");
    const auto rest = end == std::string_view::npos ? std::string_view() : field.substr(end);
    if (rest.find_first_not_of(std::string_view(" \0", 2)) != std::string_view::npos) return std::nullopt;
    std::uint64_t value = 0;
    for (const char c : field.substr(0, end)) value = value * 8 + static_cast<unsigned>(c - '0');
    return value;
  }

  std::optional<std::string_view> body_of(std::uint64_t size) {
    const std::uint64_t whole = (size + 511) / 512 * 512;
    if (size > tar_.size() || whole > tar_.size() - at_) return std::nullopt;
    return take(static_cast<std::size_t>(whole)).substr(0, static_cast<std::size_t>(size));
  }

  bool extend(char type, std::string_view body) {
    if (type == 'g') return true;
    pending_ = true;
    if (type == 'x') return has_pax_++ == 0 && read_pax(body);
    auto& text = type == 'L' ? long_name_ : long_link_;
    if (text || body.empty() || body.back() != '\0') return false;
    text = std::string(body.substr(0, body.size() - 1));
    return is_ascii(*text) && !text->empty();
  }

  bool read_pax(std::string_view body) {
    while (!body.empty()) {
      const auto blank = body.find(' ');
      if (blank == 0 || blank == std::string_view::npos || blank > 7) return false;
      std::size_t length = 0;
      for (const char c : body.substr(0, blank)) {
        if (c < '0' || c > '9') return false;
        length = length * 10 + static_cast<std::size_t>(c - '0');
      }
      if (length > body.size() || length < blank + 4 || body[length - 1] != '\n') return false;
      const auto record = body.substr(blank + 1, length - blank - 2);
      const auto equals = record.find('=');
      if (equals == std::string_view::npos || equals == 0 || equals + 1 == record.size()) return false;
      if (!keep(record.substr(0, equals), record.substr(equals + 1))) return false;
      body.remove_prefix(length);
    }
    return true;
  }

  bool keep(std::string_view key, std::string_view value) {
    if (key == "path") pax_path_ = value;
    if (key == "linkpath") pax_link_ = value;
    if ((key == "path" || key == "linkpath") && !is_ascii(value)) return false;
    if (key.substr(0, 11) == "GNU.sparse." || key == "SCHILY.realsize") sparse_ = true;
    if (key != "size") return true;
    if (value.size() > 15 || value.find_first_not_of("0123456789") != std::string_view::npos) return false;
    pax_size_ = std::stoull(std::string(value));
    return true;
  }

  std::optional<TarSeen> entry_of(std::string_view block, char type, std::uint64_t size) {
    const bool gnu = block.substr(257, 8) == std::string_view("ustar  \0", 8);
    TarSeen out;
    out.type = type;
    if ((long_name_ && pax_path_) || (long_link_ && pax_link_)) return std::nullopt;
    const auto text = [&](std::size_t at, std::size_t width) {
      const auto field = block.substr(at, width);
      return std::string(field.substr(0, field.find('\0')));
    };
    out.name = text(0, 100);
    if (const auto prefix = gnu ? "" : text(345, 155); !prefix.empty()) out.name = prefix + "/" + out.name;
    out.name = pax_path_.value_or(long_name_.value_or(out.name));
    if (type == '1' || type == '2') out.link = pax_link_.value_or(long_link_.value_or(text(157, 100)));
    if (type == '\0') out.type = out.name.ends_with('/') ? '5' : '0';
    if (out.type < '0' || out.type > '6' || out.name.empty() || !is_ascii(out.name) || !is_ascii(out.link))
      return std::nullopt;
    if (out.link.empty() && (type == '1' || type == '2')) return std::nullopt;
    if (out.type == '0') {
      // A file stays one with a slash behind its name; the root and "." are none.
      while (out.name.ends_with('/')) out.name.pop_back();
      if (out.name.empty() || out.name == ".") return std::nullopt;
      const auto body = sparse_ ? std::nullopt : body_of(pax_size_.value_or(size));
      if (!body) return std::nullopt;
      out.content = *body;
    }
    pending_ = sparse_ = false;
    has_pax_ = 0;
    pax_path_ = pax_link_ = long_name_ = long_link_ = std::nullopt;
    pax_size_ = std::nullopt;
    return out;
  }

  std::string_view tar_;
  std::size_t at_ = 0;
  bool pending_ = false;
  bool sparse_ = false;
  int has_pax_ = 0;
  std::optional<std::string> pax_path_, pax_link_, long_name_, long_link_;
  std::optional<std::uint64_t> pax_size_;
};

}  // namespace tests
