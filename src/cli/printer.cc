#include "cli/printer.h"

#include <unistd.h>

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "base/fd.h"
#include "base/json.h"
#include "base/text.h"

namespace cli {

using base::str;

namespace {

std::size_t columns_of(std::string_view text);

}  // namespace

OutputBuffer::OutputBuffer(int fd) : fd_(fd) {
  setp(buffer_.data(), buffer_.data() + buffer_.size());
}

OutputBuffer::int_type OutputBuffer::overflow(int_type c) {
  if (sync() != 0) return traits_type::eof();
  if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
  return traits_type::not_eof(c);
}

int OutputBuffer::sync() {
  if (error_) return -1;
  const std::string_view text(pbase(), static_cast<std::size_t>(pptr() - pbase()));
  auto written = base::write_all(base::Context::background(), fd_, text);
  setp(buffer_.data(), buffer_.data() + buffer_.size());
  if (written) return 0;
  error_ = std::move(written).error();
  return -1;
}

void print_line(Io& io, std::string_view text) {
  io.out << base::printable(text) << '\n';
}

void print_text(Io& io, std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of("\n\t"), text.size());
    io.out << base::printable(text.substr(0, end)) << text.substr(end, 1);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void print_rows(Io& io, const std::vector<std::vector<std::string>>& rows) {
  io.out << table(rows);
}

void print_json(Io& io, const base::Json& value) {
  io.out << base::printable_json(base::dump_json_pretty(value));
}

void print_json_line(Io& io, const base::Json& value) {
  io.out << base::printable_json(base::dump_json(value)) << std::endl;
}

void print_own(Io& io, std::string_view text) {
  io.out << text;
}

void print_note(Io& io, std::string_view text) {
  io.err << "containerd-driver: " << base::printable(text) << '\n' << std::flush;
}

int fail(Io& io, const base::Error& error, int exit_code) {
  const bool needs_root = error.code == base::Code::kPermissionDenied && ::geteuid() != 0;
  print_note(io, needs_root ? str("this needs root: ", error.message) : error.message);
  return exit_code;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> shown;
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    auto& cells = shown.emplace_back();
    for (const std::string& cell : row) cells.push_back(base::printable(cell));
    widths.resize(std::max(widths.size(), cells.size()));
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], columns_of(cells[i]));
  }
  std::string out;
  for (const auto& cells : shown) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      out += cells[i];
      if (i + 1 < cells.size()) out += std::string(widths[i] + 2 - columns_of(cells[i]), ' ');
    }
    out += '\n';
  }
  return out;
}

std::string show_size(std::uint64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {" kB", " MB", " GB", " TB"};
  constexpr double kStep = 1000;
  if (bytes < 1000) return str(bytes, " B");
  double value = static_cast<double>(bytes) / kStep;
  std::size_t unit = 0;
  for (; value >= kStep && unit + 1 < kUnits.size(); ++unit) value /= kStep;
  std::ostringstream out;
  out << std::fixed << std::setprecision(value < 100 ? 1 : 0) << value << kUnits[unit];
  return out.str();
}

std::string show_age(std::chrono::seconds age) {
  const auto seconds = std::max<std::int64_t>(age.count(), 0);
  constexpr std::int64_t kMinute = 60;
  constexpr std::int64_t kHour = 60 * kMinute;
  constexpr std::int64_t kDay = 24 * kHour;
  if (seconds < 2 * kMinute) return str(seconds, "s");
  if (seconds < 2 * kHour) return str(seconds / kMinute, "m");
  if (seconds < 2 * kDay) return str(seconds / kHour, "h");
  return str(seconds / kDay, "d");
}

std::string show_duration(std::chrono::seconds duration) {
  struct Unit {
    const char* name;
    std::int64_t seconds;
    std::int64_t below;  // so many of it
  };
  constexpr std::int64_t kHour = 3600;
  constexpr std::int64_t kDay = 24 * kHour;
  constexpr std::array<Unit, 4> kUnits = {
      {{" hours", kHour, 48}, {" days", kDay, 14}, {" weeks", 7 * kDay, 9}, {" months", 30 * kDay, 25}}};
  const std::int64_t seconds = duration.count();
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return str(seconds, " seconds");
  if (seconds < 120) return "About a minute";
  if (seconds < kHour) return str(seconds / 60, " minutes");
  if (seconds < 2 * kHour) return "About an hour";
  for (const Unit& unit : kUnits) {
    if (seconds / unit.seconds < unit.below) return str(seconds / unit.seconds, unit.name);
  }
  return str(seconds / (365 * kDay), " years");
}

namespace {

// Characters: good enough for what stands in names, and right for more than bytes are.
std::size_t columns_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace
}  // namespace cli
