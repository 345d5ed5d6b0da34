// --filter of `ps`: which containers are shown.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "cli/containers.h"

namespace cli {

/// A container, and the document that `inspect` has of it.
struct ListedContainer {
  Container container;
  std::shared_ptr<const base::Json> document;
};

/// Values of one filter are alternatives, but every label has to be there; different filters hold together.
class PsFilters {
 public:
  /// "KEY=VALUE" each: id, name, status, exited, label, label!, ancestor, before, since, until, network, volume, task,
  /// alloc.
  ///   errors  kInvalidArgument naming the filter
  static base::Result<PsFilters> parse(const std::vector<std::string>& filters);

  /// Those of `all` that they let through, in the same order.
  ///   errors  as find_container: what `before` or `since` names
  base::Result<std::vector<ListedContainer>> select(const std::vector<ListedContainer>& all) const;
  /// Whether containers in every state are meant: some filters say so.
  bool names_states() const { return by_key_.contains("status") || by_key_.contains("exited"); }

 private:
  std::map<std::string, std::vector<std::string>> by_key_;
};

}  // namespace cli
