// What plugins answer: results of ADD in the forms of 0.3.0 to 1.1.0, errors, versions. Pure.
//
// spec  CNI SPEC.md "Section 5: Result Types"
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cni/types.h"

namespace cni {

inline constexpr std::size_t kOutputBytesMax = 1u << 20;  ///< of a plugin

struct Interface {
  std::string name;
  std::string mac;
  std::string sandbox;  ///< the namespace's path; "" = the host's
  std::optional<std::int64_t> mtu;
  std::string socket_path;
  std::string pci_id;
};

struct Address {
  std::string address;  ///< with its prefix: "10.1.2.3/24"
  std::string gateway;  ///< "" = none
  std::optional<std::size_t> interface;
  bool is_v6() const { return address.find(':') != std::string::npos; }
  /// Without the prefix.
  std::string ip() const { return address.substr(0, address.find('/')); }
};

struct Route {
  std::string dst;
  std::string gw;
  std::optional<std::int64_t> mtu, advmss, priority, table, scope;
};

struct Dns {
  std::vector<std::string> nameservers;
  std::string domain;
  std::vector<std::string> search;
  std::vector<std::string> options;
};

/// What an ADD has made, whichever version says so.
struct AddResult {
  std::vector<Interface> interfaces;
  std::vector<Address> ips;
  std::vector<Route> routes;
  Dns dns;
};

/// A result in the version that it names, or else in `expected`, its list's.
///   errors  kInvalidArgument not JSON, not a result, an address that is none, an index that leads nowhere
base::Result<AddResult> parse_result(std::string_view text, const Version& expected);
/// One document in the form of `version`: for prevResult, and for the cache.
std::string result_text(const AddResult& result, const Version& version);

/// An error in a plugin's own words.
struct PluginError {
  std::int64_t code = 0;
  std::string message;
};
/// nullopt: `text` is no error object.
std::optional<PluginError> parse_error(std::string_view text);
/// What its code means for us: 11 try again later, 50, 51 not available kUnavailable · 1, 2, 4, 6, 7
/// kInvalidArgument · anything else kFailedPrecondition. (3, container unknown, is success for DEL: see plugin.h.)
base::Code code_of(const PluginError& error);

/// The answer to VERSION.
base::Result<std::vector<std::string>> parse_versions(std::string_view text);

/// "10.1.2.3/24" or "fd00::1/64".
bool is_cidr(std::string_view text);
bool is_ip(std::string_view text);

}  // namespace cni
