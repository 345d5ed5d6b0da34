#include "driver/host/stats.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <initializer_list>
#include <span>

#include "base/file.h"
#include "base/text.h"

namespace driver {

using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kProcBytesMax = 4u << 20;  ///< cpuinfo of a machine with a thousand cores
constexpr std::size_t kStatBytesMax = 8u << 10;  ///< memory.stat has about 2 KiB
constexpr std::size_t kNumberBytesMax = 32;
constexpr std::uint64_t kReaderFilesMax = 8;
constexpr std::size_t kFiguresBytesMax = 256u << 10;                ///< a line or two for each device
constexpr std::uint64_t kNoLimitBytes = (1ull << 63) - (1u << 20);  ///< v1 says "none" as the last page below 2^63

std::atomic<std::uint64_t> kept_by_all{0};

Result<Fd> open_if_there(const std::string& path);
Result<std::string_view> read_at_start(const Fd& file, std::span<char> buffer);
Result<std::uint64_t> read_number(const Fd& file);
struct Wanted {
  std::string_view key;
  std::uint64_t* value;
};
Status read_keys(const Fd& file, std::initializer_list<Wanted> wanted);
void parse_keys(std::string_view text, std::initializer_list<Wanted> wanted);
std::uint64_t nanoseconds_of_ticks(std::uint64_t ticks);
double own_core_mhz();
std::uint64_t leading_number(std::string_view text);
void add_block_bytes(std::string_view text, CgroupFigures& figures);

}  // namespace

CgroupMode parse_cgroup_mode(std::string_view mountinfo) {
  while (!mountinfo.empty()) {
    const std::size_t end = std::min(mountinfo.find('\n'), mountinfo.size());
    // Blanks at both ends, so that every token can be found by blank + token + blank.
    const std::string line = str(" ", mountinfo.substr(0, end), " ");
    mountinfo.remove_prefix(std::min(end + 1, mountinfo.size()));
    if (line.find(" /sys/fs/cgroup ") == std::string::npos) continue;
    if (line.find(" tmpfs ") != std::string::npos) return CgroupMode::kV1;
    if (line.find(" cgroup2 ") != std::string::npos) return CgroupMode::kV2;
    return CgroupMode::kOff;
  }
  return CgroupMode::kOff;
}

CgroupMode detect_cgroup_mode() {
  // Once: it does not change, and with a thousand tasks the file has a thousand long lines.
  static const CgroupMode kMode = [] {
    const auto mountinfo = base::read_file("/proc/self/mountinfo", kProcBytesMax);
    return mountinfo ? parse_cgroup_mode(*mountinfo) : CgroupMode::kOff;
  }();
  return kMode;
}

Result<CgroupSample> CgroupReader::read() {
  if (!open_) TRY_VOID(open_files());
  auto sample = location_.mode == CgroupMode::kV2 ? read_v2() : read_v1();
  const bool gone = !sample && sample.error().sys_errno == ENODEV;  // kernfs: the directory was removed
  if (!kept_) kept_ = KeptFiles::take();
  if (gone || !kept_) *this = CgroupReader(std::move(location_));  // a later one of that name has other files
  if (gone) return Error::not_found(str("cgroup ", location_.path, " is gone"));
  return sample;
}

KeptFiles KeptFiles::take() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
  KeptFiles files;
  if (kept_by_all.fetch_add(kReaderFilesMax) + kReaderFilesMax <= limit.rlim_cur / 4) {
    files.count_ = kReaderFilesMax;
  } else {
    kept_by_all -= kReaderFilesMax;
  }
  return files;
}

KeptFiles::~KeptFiles() {
  kept_by_all -= count_;
}

StatsSampler::StatsSampler(CgroupLocation location, double core_mhz)
    : reader_(std::move(location)), core_mhz_(core_mhz > 0 ? core_mhz : own_core_mhz()) {}

Result<TaskStats> StatsSampler::sample() {
  TRY(CgroupSample now, reader_.read());
  TaskStats stats;
  stats.time = std::chrono::system_clock::now();
  stats.memory = now.memory;
  stats.cpu = cpu_usage_between(previous_ ? *previous_ : now, now, core_mhz_);
  previous_ = now;
  return stats;
}

CpuUsage cpu_usage_between(const CgroupSample& earlier, const CgroupSample& later, double core_mhz) {
  CpuUsage usage;
  usage.throttled_periods = later.throttled_periods;
  usage.throttled_ns = later.throttled_ns;
  const double wall_ns = std::chrono::duration<double, std::nano>(later.at - earlier.at).count();
  if (wall_ns <= 0) return usage;
  // A counter that went back is a new cgroup under the old name: no sample rather than a wrong one.
  const auto percent = [&](std::uint64_t before, std::uint64_t after) {
    return after < before ? 0.0 : static_cast<double>(after - before) / wall_ns * 100;
  };
  usage.percent = percent(earlier.cpu_ns, later.cpu_ns);
  usage.user_percent = percent(earlier.user_ns, later.user_ns);
  usage.system_percent = percent(earlier.system_ns, later.system_ns);
  usage.total_ticks = usage.percent / 100 * core_mhz;
  return usage;
}

Result<std::uint64_t> read_oom_kills(const CgroupLocation& location) {
  if (location.mode == CgroupMode::kOff) return std::uint64_t{0};
  const std::string path = location.mode == CgroupMode::kV2
                               ? str(location.root, location.path, "/memory.events")
                               : str(location.root, "/memory", location.path, "/memory.oom_control");
  TRY(const std::string text, base::read_file(path, kStatBytesMax));
  std::uint64_t kills = 0;
  parse_keys(text, {{"oom_kill", &kills}});
  return kills;
}

Result<CgroupFigures> read_figures(const CgroupLocation& location) {
  const bool v2 = location.mode == CgroupMode::kV2;
  const auto read = [&](const char* controller, const char* file) -> Result<std::string> {
    const std::string dir = str(location.root, v2 ? "" : str("/", controller), location.path);
    auto text = base::read_file(str(dir, "/", file), kFiguresBytesMax);
    if (!text && text.error().code == base::Code::kNotFound) return std::string();
    return text;
  };
  CgroupFigures figures;
  TRY(const std::string limit, read("memory", v2 ? "memory.max" : "memory.limit_in_bytes"));
  if (const std::uint64_t bytes = leading_number(limit); bytes < kNoLimitBytes) figures.memory_limit_bytes = bytes;
  TRY(const std::string processes, read("pids", "pids.current"));
  figures.processes = leading_number(processes);
  TRY(const std::string blocks, read("blkio", v2 ? "io.stat" : "blkio.throttle.io_service_bytes_recursive"));
  add_block_bytes(blocks, figures);
  return figures;
}

// Two lines of titles, then "  eth0: 1024 3 0 0 0 0 0 0 512 …": bytes received first, bytes sent ninth.
InterfaceBytes parse_interfaces(std::string_view net_dev) {
  constexpr std::size_t kSentColumn = 8;
  InterfaceBytes sum;
  while (!net_dev.empty()) {
    const std::size_t end = std::min(net_dev.find('\n'), net_dev.size());
    const std::string_view line = net_dev.substr(0, end);
    net_dev.remove_prefix(std::min(end + 1, net_dev.size()));
    const std::size_t colon = line.find(':');
    const std::size_t name = line.find_first_not_of(' ');
    if (colon == std::string_view::npos || line.substr(name, colon - name) == "lo") continue;
    std::size_t column = 0;
    for (const std::string_view text : base::split(line.substr(colon + 1), ' ')) {
      if (text.empty()) continue;
      if (column == 0) sum.received += leading_number(text);
      if (column == kSentColumn) sum.sent += leading_number(text);
      ++column;
    }
  }
  return sum;
}

double parse_core_mhz(std::string_view cpuinfo) {
  constexpr std::string_view kKey = "cpu MHz";
  double sum = 0;
  int cores = 0;
  for (std::size_t at = cpuinfo.find(kKey); at != std::string_view::npos; at = cpuinfo.find(kKey, at + 1)) {
    const std::size_t digits = cpuinfo.find_first_of("0123456789\n", at);
    if (digits == std::string_view::npos) break;
    double mhz = 0;
    if (std::from_chars(cpuinfo.data() + digits, cpuinfo.data() + cpuinfo.size(), mhz).ec != std::errc()) continue;
    sum += mhz;
    ++cores;
  }
  return cores == 0 ? 0 : sum / cores;
}

Status CgroupReader::open_files() {
  if (location_.mode == CgroupMode::kOff) {
    return Error::failed_precondition("this host has no cgroups at /sys/fs/cgroup: resource use cannot be measured");
  }
  TRY_VOID(location_.mode == CgroupMode::kV2 ? open_v2() : open_v1());
  if (!cpu_usage_ && !cpu_stat_ && !memory_usage_) {
    return Error::not_found(str("cgroup ", location_.path, " does not exist"));
  }
  open_ = true;
  return {};
}

Status CgroupReader::open_v1() {
  const std::string cpuacct = str(location_.root, "/cpuacct", location_.path);
  const std::string cpu = str(location_.root, "/cpu", location_.path);
  const std::string memory = str(location_.root, "/memory", location_.path);
  TRY(cpu_usage_, open_if_there(cpuacct + "/cpuacct.usage"));
  TRY(cpu_split_, open_if_there(cpuacct + "/cpuacct.stat"));
  TRY(cpu_stat_, open_if_there(cpu + "/cpu.stat"));
  TRY(memory_stat_, open_if_there(memory + "/memory.stat"));
  TRY(memory_usage_, open_if_there(memory + "/memory.usage_in_bytes"));
  TRY(memory_max_usage_, open_if_there(memory + "/memory.max_usage_in_bytes"));
  TRY(kernel_usage_, open_if_there(memory + "/memory.kmem.usage_in_bytes"));
  TRY(kernel_max_usage_, open_if_there(memory + "/memory.kmem.max_usage_in_bytes"));
  return {};
}

Status CgroupReader::open_v2() {
  const std::string dir = str(location_.root, location_.path);
  TRY(cpu_stat_, open_if_there(dir + "/cpu.stat"));
  TRY(memory_stat_, open_if_there(dir + "/memory.stat"));
  TRY(memory_usage_, open_if_there(dir + "/memory.current"));
  TRY(memory_max_usage_, open_if_there(dir + "/memory.peak"));
  TRY(memory_swap_, open_if_there(dir + "/memory.swap.current"));
  return {};
}

Result<CgroupSample> CgroupReader::read_v1() {
  CgroupSample sample;
  sample.at = base::Clock::now();
  TRY(sample.cpu_ns, read_number(cpu_usage_));
  std::uint64_t user_ticks = 0;
  std::uint64_t system_ticks = 0;
  TRY_VOID(read_keys(cpu_split_, {{"user", &user_ticks}, {"system", &system_ticks}}));
  sample.user_ns = nanoseconds_of_ticks(user_ticks);
  sample.system_ns = nanoseconds_of_ticks(system_ticks);
  TRY_VOID(
      read_keys(cpu_stat_, {{"nr_throttled", &sample.throttled_periods}, {"throttled_time", &sample.throttled_ns}}));
  MemoryUsage& memory = sample.memory;
  // total_*: with the children that an exec or an inner cgroup manager makes.
  TRY_VOID(read_keys(memory_stat_,
                     {{"total_rss", &memory.rss}, {"total_cache", &memory.cache}, {"total_swap", &memory.swap}}));
  TRY(memory.usage, read_number(memory_usage_));
  TRY(memory.max_usage, read_number(memory_max_usage_));
  TRY(memory.kernel_usage, read_number(kernel_usage_));
  TRY(memory.kernel_max_usage, read_number(kernel_max_usage_));
  memory.has_max_usage = static_cast<bool>(memory_max_usage_);
  memory.has_kernel_usage = static_cast<bool>(kernel_usage_);
  return sample;
}

Result<CgroupSample> CgroupReader::read_v2() {
  CgroupSample sample;
  sample.at = base::Clock::now();
  std::uint64_t usage_us = 0;
  std::uint64_t user_us = 0;
  std::uint64_t system_us = 0;
  std::uint64_t throttled_us = 0;
  TRY_VOID(read_keys(cpu_stat_, {{"usage_usec", &usage_us},
                                 {"user_usec", &user_us},
                                 {"system_usec", &system_us},
                                 {"nr_throttled", &sample.throttled_periods},
                                 {"throttled_usec", &throttled_us}}));
  sample.cpu_ns = usage_us * 1000;
  sample.user_ns = user_us * 1000;
  sample.system_ns = system_us * 1000;
  sample.throttled_ns = throttled_us * 1000;
  MemoryUsage& memory = sample.memory;
  TRY_VOID(read_keys(memory_stat_, {{"anon", &memory.rss}, {"file", &memory.cache}}));
  TRY(memory.usage, read_number(memory_usage_));
  TRY(memory.max_usage, read_number(memory_max_usage_));
  TRY(memory.swap, read_number(memory_swap_));
  memory.has_max_usage = static_cast<bool>(memory_max_usage_);
  return sample;
}

namespace {

Result<Fd> open_if_there(const std::string& path) {
  auto file = base::open_file(path, O_RDONLY);
  if (!file && file.error().code == base::Code::kNotFound) return Fd();
  return file;
}

// "" for a file that is not there.
Result<std::string_view> read_at_start(const Fd& file, std::span<char> buffer) {
  if (!file) return std::string_view();
  const ssize_t size = ::pread(file.get(), buffer.data(), buffer.size(), 0);
  if (size < 0) {
    const int err = errno;
    return Error::from_errno(err, "reading a cgroup file");
  }
  return std::string_view(buffer.data(), static_cast<std::size_t>(size));
}

Result<std::uint64_t> read_number(const Fd& file) {
  std::array<char, kNumberBytesMax> buffer;
  TRY(const std::string_view text, read_at_start(file, buffer));
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Status read_keys(const Fd& file, std::initializer_list<Wanted> wanted) {
  std::array<char, kStatBytesMax> buffer;
  TRY(const std::string_view text, read_at_start(file, buffer));
  parse_keys(text, wanted);
  return {};
}

// Lines of "key value".
void parse_keys(std::string_view text, std::initializer_list<Wanted> wanted) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t blank = line.find(' ');
    if (blank == std::string_view::npos) continue;
    for (const Wanted& one : wanted) {
      if (line.substr(0, blank) != one.key) continue;
      std::from_chars(line.data() + blank + 1, line.data() + line.size(), *one.value);
    }
  }
}

// "max" is no number, and no limit either.
std::uint64_t leading_number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// v1 "8:0 Read 4096", v2 "8:0 rbytes=4096 wbytes=0 …".
void add_block_bytes(std::string_view text, CgroupFigures& figures) {
  for (const auto& [word, sum] : {std::pair{std::string_view(" Read "), &figures.block_read_bytes},
                                  {" Write ", &figures.block_written_bytes},
                                  {" rbytes=", &figures.block_read_bytes},
                                  {" wbytes=", &figures.block_written_bytes}}) {
    for (std::size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
      *sum += leading_number(text.substr(at + word.size()));
    }
  }
}

std::uint64_t nanoseconds_of_ticks(std::uint64_t ticks) {
  static const std::uint64_t kPerTick =
      1'000'000'000ull / static_cast<std::uint64_t>(std::max(::sysconf(_SC_CLK_TCK), 1L));
  return ticks * kPerTick;
}

double own_core_mhz() {
  static const double kMhz = [] {
    const auto cpuinfo = base::read_file("/proc/cpuinfo", kProcBytesMax);
    return cpuinfo ? parse_core_mhz(*cpuinfo) : 0.0;
  }();
  return kMhz;
}

}  // namespace
}  // namespace driver
