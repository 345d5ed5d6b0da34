#include "cli/progress.h"

#include <algorithm>

#include "base/json.h"
#include "cli/verb.h"

namespace cli {

using base::str;

void Progress::show(const oci::PullProgress& now) {
  if (style_ == ProgressStyle::kNone) return;
  const auto time = base::Clock::now();
  const bool complete = now.layers_total > 0 && now.layers_done == now.layers_total;
  if (time - drawn_at_ < std::chrono::milliseconds(100) && !complete) return;
  drawn_at_ = time;
  if (style_ == ProgressStyle::kJsonLines) {
    io_.out << base::dump_json({{"event", "progress"},
                                {"bytes_done", now.bytes_done},
                                {"bytes_total", now.bytes_total},
                                {"layers_done", now.layers_done},
                                {"layers_total", now.layers_total}})
            << std::endl;  // a reader wants each line as it comes
    return;
  }
  std::string line = progress_line(now, std::chrono::duration<double>(time - begin_).count());
  const std::size_t width = line.size();
  line.resize(std::max(width, drawn_width_), ' ');
  drawn_width_ = width;
  io_.err << "\r" << line << std::flush;
}

void Progress::finish() {
  if (drawn_width_ == 0) return;
  io_.err << "\r" << std::string(drawn_width_, ' ') << "\r" << std::flush;
  drawn_width_ = 0;
}

std::string progress_line(const oci::PullProgress& now, double seconds) {
  if (now.bytes_total == 0) return "resolving …";
  constexpr std::size_t kBarWidth = 24;
  const double part = std::min(1.0, static_cast<double>(now.bytes_done) / static_cast<double>(now.bytes_total));
  const auto filled = static_cast<std::size_t>(part * kBarWidth);
  std::string bar(filled, '=');
  if (filled < kBarWidth) bar += '>';
  bar.resize(kBarWidth, ' ');
  std::string line = str("[", bar, "] ", show_size(now.bytes_done), " of ", show_size(now.bytes_total), ", ",
                         now.layers_done, " of ", now.layers_total, " layers unpacked");
  if (seconds >= 1) {
    line += str(", ", show_size(static_cast<std::uint64_t>(static_cast<double>(now.bytes_done) / seconds)), "/s");
  }
  return line;
}

}  // namespace cli
