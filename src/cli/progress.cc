#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "cli/input.h"
#include "cli/verb.h"

namespace cli {

using base::str;

namespace {

std::string to_first_line(std::size_t drawn);
struct Screen {
  std::size_t rows = 24;
  std::size_t columns = 80;
};
Screen screen_of(int fd);
std::string fit(std::uint64_t done, std::uint64_t total, std::size_t bar_max, const std::string& head,
                const std::string& tail, std::size_t columns);
std::string bar(std::uint64_t done, std::uint64_t total, std::size_t width);

}  // namespace

void Progress::show(const oci::PullProgress& now) {
  if (style_ == ProgressStyle::kNone) return;
  const auto time = base::Clock::now();
  const bool complete = now.layers_total > 0 && now.layers_done == now.layers_total;
  if (time - drawn_at_ < std::chrono::milliseconds(100) && !complete) return;
  drawn_at_ = time;
  if (style_ == ProgressStyle::kJsonLines) {
    base::Json under_way = base::Json::array();
    for (const oci::LayerProgress& layer : now.under_way) {
      under_way.push_back(
          {{"digest", layer.digest.text()}, {"bytes_done", layer.bytes_done}, {"bytes_total", layer.bytes_total}});
    }
    return print_json_line(io_, {{"event", "progress"},
                                 {"bytes_done", now.bytes_done},
                                 {"bytes_total", now.bytes_total},
                                 {"layers_done", now.layers_done},
                                 {"layers_total", now.layers_total},
                                 {"under_way", std::move(under_way)}});
  }
  if (!counting_ && now.bytes_total > 0) {
    counting_ = true;
    begin_ = time;
    bytes_before_ = now.bytes_done;
  }
  const double seconds = std::chrono::duration<double>(time - begin_).count();
  const std::uint64_t fetched = counting_ && now.bytes_done > bytes_before_ ? now.bytes_done - bytes_before_ : 0;
  const auto rate = seconds < 1 ? 0 : static_cast<std::uint64_t>(static_cast<double>(fetched) / seconds);
  const Screen screen = screen_of(STDERR_FILENO);
  std::string text = progress_line(now, rate, screen.columns);
  const std::size_t layers = std::min({now.under_way.size(), kLayerLinesMax, screen.rows - 1});
  for (std::size_t i = 0; i < layers; ++i) text += "\n" + layer_line(now.under_way[i], screen.columns);
  io_.err << to_first_line(drawn_lines_) << text << std::flush;
  drawn_lines_ = 1 + layers;
}

void Progress::finish() {
  if (drawn_lines_ == 0) return;
  io_.err << to_first_line(std::exchange(drawn_lines_, 0)) << std::flush;
}

std::string progress_line(const oci::PullProgress& now, std::uint64_t bytes_per_second, std::size_t columns) {
  constexpr std::size_t kWidth = 24;
  if (now.bytes_total == 0) return "resolving …";
  std::string numbers = str(show_size(now.bytes_done), " of ", show_size(now.bytes_total), ", ", now.layers_done,
                            " of ", now.layers_total, " layers unpacked");
  if (bytes_per_second > 0) numbers += str(", ", show_size(bytes_per_second), "/s");
  return fit(now.bytes_done, now.bytes_total, kWidth, "", numbers, columns);
}

std::string layer_line(const oci::LayerProgress& layer, std::size_t columns) {
  constexpr std::size_t kDigits = 12;
  constexpr std::size_t kWidth = 16;
  const std::string name = str("  ", layer.digest.hex().substr(0, kDigits), " ");
  if (layer.bytes_done >= layer.bytes_total) return str(name, "unpacking").substr(0, columns - 1);
  return fit(layer.bytes_done, layer.bytes_total, kWidth, name,
             str(show_size(layer.bytes_done), " of ", show_size(layer.bytes_total)), columns);
}

namespace {

// Up to the first of the lines drawn, where everything below is wiped.
std::string to_first_line(std::size_t drawn) {
  return str(drawn > 1 ? str("\x1b[", drawn - 1, "A") : "", "\r\x1b[J");
}

Screen screen_of(int fd) {
  const auto size = terminal_size(fd);
  return size.width > 1 && size.height > 1 ? Screen{size.height, size.width} : Screen{};
}

// The last column stays free: some terminals begin a new line when it is written to.
std::string fit(std::uint64_t done, std::uint64_t total, std::size_t bar_max, const std::string& head,
                const std::string& tail, std::size_t columns) {
  constexpr std::size_t kBarMin = 4;
  constexpr std::size_t kBrackets = 3;  // "[" and "] "
  const std::size_t used = head.size() + tail.size() + kBrackets + 1;
  const std::size_t width = columns > used ? std::min(bar_max, columns - used) : 0;
  if (width < kBarMin) return (head + tail).substr(0, columns - 1);
  return str(head, "[", bar(done, total, width), "] ", tail);
}

std::string bar(std::uint64_t done, std::uint64_t total, std::size_t width) {
  const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const auto filled = static_cast<std::size_t>(part * static_cast<double>(width));
  std::string text(filled, '=');
  if (filled < width) text += '>';
  text.resize(width, ' ');
  return text;
}

}  // namespace
}  // namespace cli
