#include "driver/spec/seccomp_profile.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/json.h"
#include "driver/files/named_file.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::array<std::string_view, 8> kActions = {"SCMP_ACT_KILL",  "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS",
                                                      "SCMP_ACT_TRAP",  "SCMP_ACT_ERRNO",       "SCMP_ACT_TRACE",
                                                      "SCMP_ACT_ALLOW", "SCMP_ACT_LOG"};
constexpr std::array<std::string_view, 7> kOperators = {
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"};
constexpr std::array<std::string_view, 8> kProfileMembers = {
    "defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags", "syscalls", "comment"};
constexpr std::array<std::string_view, 10> kRuleMembers = {"names", "name",    "action",   "errnoRet", "errno",
                                                           "args",  "comment", "includes", "excludes", "priority"};
constexpr std::array<std::string_view, 3> kConditionMembers = {"caps", "arches", "minKernel"};
constexpr std::array<std::string_view, 4> kArgMembers = {"index", "value", "valueTwo", "op"};
constexpr base::JsonLimits kLimits = {
    .bytes_max = kSeccompProfileBytesMax, .depth_max = 16, .nodes_max = 200'000, .duplicate_keys = false};
constexpr std::uint64_t kErrnoMax = 4095;  // MAX_ERRNO of the kernel
constexpr std::uint64_t kArgIndexMax = 5;  // six arguments a call

Status check_members(const Json& object, const std::string& where, const std::string_view* begin,
                     const std::string_view* end);
Result<Json> architectures_of(const Json& profile, std::string_view arch);
Result<std::optional<Json>> resolve_rule(const Json& rule, const std::string& where, const SeccompTarget& target);
Result<Json> plain_rule(const Json& rule, const std::string& where);
Status copy_args(const Json& rule, const std::string& where, Json& out);
Result<std::string> action_of(const Json& object, std::string_view member, const std::string& where);
Status copy_number(const Json& object, const char* member, std::uint64_t most, const std::string& where, Json& out);
/// How many of the conditions' parts hold; a part that is not there holds neither way.
struct Match {
  bool all = true;   ///< every capability, one of the architectures, the kernel is new enough
  bool any = false;  ///< at least one of them
};
Result<Match> match(const Json& rule, const char* member, const std::string& where, const SeccompTarget& target);
Result<bool> kernel_at_least(const std::string& version, const std::string& where, const SeccompTarget& target);
bool has(const std::vector<std::string>& list, std::string_view word);
std::string_view seccomp_arch(std::string_view go_arch);

Error invalid(const std::string& where, std::string_view why) {
  return Error::invalid_argument(str("seccomp profile: ", where, " ", why));
}

template <std::size_t N>
Status check_members(const Json& object, const std::string& where, const std::array<std::string_view, N>& known) {
  return check_members(object, where, known.data(), known.data() + N);
}

}  // namespace

Result<std::string> read_seccomp_profile(const std::string& path) {
  auto text = read_named_file(path, kSeccompProfileBytesMax);
  if (!text) {
    return std::move(text)
        .error()
        .recode(base::Code::kInvalidArgument)
        .wrap(str("seccomp_profile ", path, " cannot be used"));
  }
  return text;
}

Result<Json> resolve_seccomp_profile(std::string_view text, const SeccompTarget& target) {
  const auto parsed = base::parse_json(text, "seccomp profile", kLimits);
  // The parser's words may quote the text, which may be any file of the node.
  if (!parsed || !parsed->is_object()) return Error::invalid_argument("seccomp profile: the file is not a JSON object");
  const Json& profile = *parsed;
  if (profile.contains("listenerPath") || profile.contains("listenerMetadata")) {
    return invalid("listenerPath", "is not supported: there is no supervisor to notify");
  }
  if (!profile.contains("defaultAction"))
    return invalid("the file", "has no defaultAction, so it is not a seccomp profile");
  TRY_VOID(check_members(profile, "the profile", kProfileMembers));
  Json out = Json::object();
  TRY(out["defaultAction"], action_of(profile, "defaultAction", "the profile"));
  TRY_VOID(copy_number(profile, "defaultErrnoRet", kErrnoMax, "the profile", out));
  TRY(out["architectures"], architectures_of(profile, target.arch));
  TRY(const auto flags, base::get_string_list(profile, "flags"));
  if (flags && !flags->empty()) out["flags"] = *flags;

  out["syscalls"] = Json::array();
  TRY(const Json* rules, base::get_array(profile, "syscalls"));
  if (rules == nullptr) return out;
  std::size_t number = 0;
  for (const Json& rule : *rules) {
    const std::string where = str("syscalls[", number++, "]");
    if (!rule.is_object()) return invalid(where, "is not an object");
    TRY(auto resolved, resolve_rule(rule, where, target));
    if (resolved) out["syscalls"].push_back(std::move(*resolved));
  }
  return out;
}

namespace {

Status check_members(const Json& object, const std::string& where, const std::string_view* begin,
                     const std::string_view* end) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(begin, end, key) != end) continue;
    return invalid(where, str("has an unknown member: ", key));
  }
  return {};
}

// OCI lists the architectures; Docker maps the host's to those that it also runs.
Result<Json> architectures_of(const Json& profile, std::string_view arch) {
  TRY(const auto listed, base::get_string_list(profile, "architectures"));
  TRY(const Json* map, base::get_array(profile, "archMap"));
  if (map == nullptr) return Json(listed.value_or(std::vector<std::string>()));
  if (listed && !listed->empty()) return invalid("the profile", "has both architectures and archMap: keep one");
  Json out = Json::array();
  for (const Json& entry : *map) {
    TRY(const auto own, base::get_string(entry, "architecture"));
    if (!own || *own != seccomp_arch(arch)) continue;
    TRY(const auto subs, base::get_string_list(entry, "subArchitectures"));
    out.push_back(*own);
    for (const std::string& sub : subs.value_or(std::vector<std::string>())) out.push_back(sub);
    break;
  }
  return out;
}

Result<std::optional<Json>> resolve_rule(const Json& rule, const std::string& where, const SeccompTarget& target) {
  TRY_VOID(check_members(rule, where, kRuleMembers));
  TRY(const Match includes, match(rule, "includes", where, target));
  TRY(const Match excludes, match(rule, "excludes", where, target));
  TRY(Json plain, plain_rule(rule, where));
  if (!includes.all || excludes.any) return std::optional<Json>();
  return std::optional(std::move(plain));
}

Result<Json> plain_rule(const Json& rule, const std::string& where) {
  Json out = Json::object();
  TRY(const auto name, base::get_string(rule, "name"));  // Docker's oldest form
  TRY(auto names, base::get_string_list(rule, "names"));
  if (name && !name->empty() && names && !names->empty()) return invalid(where, "has both name and names: keep one");
  if (!names) names.emplace();
  if (name && !name->empty()) names->push_back(*name);
  if (names->empty()) return invalid(where, "does not name a system call");
  out["names"] = *names;
  TRY(out["action"], action_of(rule, "action", where));
  if (rule.contains("errno") && !rule.contains("errnoRet")) {
    return invalid(where, "gives errno as a name only: add errnoRet with its number");
  }
  TRY_VOID(copy_number(rule, "errnoRet", kErrnoMax, where, out));
  TRY_VOID(copy_args(rule, where, out));
  return out;
}

Status copy_args(const Json& rule, const std::string& where, Json& out) {
  TRY(const Json* args, base::get_array(rule, "args"));
  if (args == nullptr || args->empty()) return {};
  Json copied = Json::array();
  for (const Json& arg : *args) {
    const std::string place = str(where, ".args[", copied.size(), "]");
    if (!arg.is_object()) return invalid(place, "is not an object");
    TRY_VOID(check_members(arg, place, kArgMembers));
    Json one = {{"index", 0}, {"value", 0}};
    TRY_VOID(copy_number(arg, "index", kArgIndexMax, place, one));
    TRY_VOID(copy_number(arg, "value", ~0ull, place, one));
    TRY_VOID(copy_number(arg, "valueTwo", ~0ull, place, one));
    TRY(const auto op, base::get_string(arg, "op"));
    if (std::find(kOperators.begin(), kOperators.end(), op.value_or("")) == kOperators.end()) {
      return invalid(str(place, ".op"), "is not a seccomp comparison, like SCMP_CMP_EQ");
    }
    one["op"] = *op;
    copied.push_back(std::move(one));
  }
  out["args"] = std::move(copied);
  return {};
}

Result<std::string> action_of(const Json& object, std::string_view member, const std::string& where) {
  TRY(const auto action, base::get_string(object, member));
  if (action == "SCMP_ACT_NOTIFY") {
    return invalid(where, "uses SCMP_ACT_NOTIFY, which is not supported: there is no supervisor to notify");
  }
  if (action && !action->empty() && std::find(kActions.begin(), kActions.end(), *action) != kActions.end()) {
    return *action;
  }
  return invalid(str(where, "'s ", member), "is not a seccomp action, like SCMP_ACT_ALLOW");
}

Status copy_number(const Json& object, const char* member, std::uint64_t most, const std::string& where, Json& out) {
  const auto it = object.find(member);
  if (it == object.end() || it->is_null()) return {};
  if (!it->is_number_unsigned() || it->get<std::uint64_t>() > most) {
    return invalid(str(where, "'s ", member), str("is not a number from 0 to ", most));
  }
  out[member] = *it;
  return {};
}

Result<Match> match(const Json& rule, const char* member, const std::string& where, const SeccompTarget& target) {
  Match found;
  TRY(const Json* conditions, base::get_object(rule, member));
  if (conditions == nullptr) return found;
  const std::string place = str(where, ".", member);
  TRY_VOID(check_members(*conditions, place, kConditionMembers));
  const auto count = [&](bool holds) {
    found.all = found.all && holds;
    found.any = found.any || holds;
  };
  TRY(const auto caps, base::get_string_list(*conditions, "caps"));
  for (const std::string& name : caps.value_or(std::vector<std::string>())) {
    auto normal = normalize_capability(name);
    if (!normal) return invalid(place, normal.error().message);
    count(target.caps.contains(*normal));
  }
  TRY(const auto arches, base::get_string_list(*conditions, "arches"));
  if (arches && !arches->empty()) count(has(*arches, target.arch));
  TRY(const auto kernel, base::get_string(*conditions, "minKernel"));
  if (kernel && !kernel->empty()) {
    TRY(const bool newer, kernel_at_least(*kernel, place, target));
    count(newer);
  }
  return found;
}

// "4.8"
Result<bool> kernel_at_least(const std::string& version, const std::string& where, const SeccompTarget& target) {
  int major = 0;
  int minor = 0;
  const char* end = version.data() + version.size();
  const auto [dot, error] = std::from_chars(version.data(), end, major);
  if (error != std::errc() || dot == end || *dot != '.') return invalid(where, "has a minKernel that is not like 4.8");
  const auto [stop, minor_error] = std::from_chars(dot + 1, end, minor);
  if (minor_error != std::errc() || stop != end) return invalid(where, "has a minKernel that is not like 4.8");
  return target.kernel_major > major || (target.kernel_major == major && target.kernel_minor >= minor);
}

bool has(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

std::string_view seccomp_arch(std::string_view go_arch) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kNames = {
      {{"amd64", "SCMP_ARCH_X86_64"},
       {"386", "SCMP_ARCH_X86"},
       {"arm64", "SCMP_ARCH_AARCH64"},
       {"arm", "SCMP_ARCH_ARM"},
       {"ppc64le", "SCMP_ARCH_PPC64LE"},
       {"riscv64", "SCMP_ARCH_RISCV64"},
       {"s390x", "SCMP_ARCH_S390X"}}};
  for (const auto& [go, seccomp] : kNames) {
    if (go == go_arch) return seccomp;
  }
  return "";
}

}  // namespace
}  // namespace driver
