// A pull's progress for a person (a bar for all of it and one for each layer under way, redrawn) or a program (JSON
// lines).
#pragma once

#include <cstdint>
#include <string>

#include "base/context.h"
#include "cli/cli.h"
#include "oci/images.h"

namespace cli {

enum class ProgressStyle {
  kNone,
  kBar,  ///< a terminal that knows ANSI's cursor movements
  kJsonLines,  ///< {"event":"progress","bytes_done":…,"bytes_total":…,"layers_done":…,"layers_total":…,"under_way":[…]}
};

/// threads  one at a time (oci::Images calls on the pulling thread)
class Progress {
 public:
  /// The bar goes to io.err, JSON lines to io.out.
  Progress(Io& io, ProgressStyle style) : io_(io), style_(style) {}
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Draws at most ten times a second.
  void show(const oci::PullProgress& now);
  /// Wipes the bars.
  void finish();

 private:
  Io& io_;
  ProgressStyle style_;
  base::Clock::time_point begin_ = base::Clock::now();  // when the first bytes were counted
  std::uint64_t bytes_before_ = 0;                      // what was here then already
  bool counting_ = false;
  base::Clock::time_point drawn_at_;
  std::size_t drawn_lines_ = 0;
};

/// Lines of the bars: more layers than this are counted in the first line only, so that they fit on any screen.
constexpr std::size_t kLayerLinesMax = 8;

/// "[=====>    ] 12.3 MB of 54.0 MB, 3 of 7 layers unpacked, 8.1 MB/s" in `columns`, and without the rate if that is
/// 0. Where there is no room the bar goes first, then the end of the line. Pure.
std::string progress_line(const oci::PullProgress& now, std::uint64_t bytes_per_second, std::size_t columns);
/// "  0123456789ab [====>   ] 12.3 MB of 54.0 MB". Pure.
std::string layer_line(const oci::LayerProgress& layer, std::size_t columns);

}  // namespace cli
