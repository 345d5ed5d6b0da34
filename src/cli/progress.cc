#include "cli/progress.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "cli/verb.h"

namespace cli {

using base::str;

namespace {

std::string to_first_line(std::size_t drawn);
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
  std::string text = progress_line(now, std::chrono::duration<double>(time - begin_).count());
  const std::size_t layers = std::min(now.under_way.size(), kLayerLinesMax);
  for (std::size_t i = 0; i < layers; ++i) text += "\n" + layer_line(now.under_way[i]);
  io_.err << to_first_line(drawn_lines_) << text << std::flush;
  drawn_lines_ = 1 + layers;
}

void Progress::finish() {
  if (drawn_lines_ == 0) return;
  io_.err << to_first_line(std::exchange(drawn_lines_, 0)) << std::flush;
}

std::string progress_line(const oci::PullProgress& now, double seconds) {
  if (now.bytes_total == 0) return "resolving …";
  constexpr std::size_t kWidth = 24;
  std::string line = str(bar(now.bytes_done, now.bytes_total, kWidth), ", ", now.layers_done, " of ", now.layers_total,
                         " layers unpacked");
  if (seconds >= 1) {
    line += str(", ", show_size(static_cast<std::uint64_t>(static_cast<double>(now.bytes_done) / seconds)), "/s");
  }
  return line;
}

std::string layer_line(const oci::LayerProgress& layer) {
  constexpr std::size_t kWidth = 16;
  constexpr std::size_t kDigits = 12;
  const std::string name = str("  ", layer.digest.hex().substr(0, kDigits), " ");
  if (layer.bytes_done >= layer.bytes_total) return name + "unpacking";
  return name + bar(layer.bytes_done, layer.bytes_total, kWidth);
}

namespace {

// Up to the first of the lines drawn, where everything below is wiped.
std::string to_first_line(std::size_t drawn) {
  return str(drawn > 1 ? str("\x1b[", drawn - 1, "A") : "", "\r\x1b[J");
}

std::string bar(std::uint64_t done, std::uint64_t total, std::size_t width) {
  const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const auto filled = static_cast<std::size_t>(part * static_cast<double>(width));
  std::string text(filled, '=');
  if (filled < width) text += '>';
  text.resize(width, ' ');
  return str("[", text, "] ", show_size(done), " of ", show_size(total));
}

}  // namespace
}  // namespace cli
