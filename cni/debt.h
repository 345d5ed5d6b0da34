// What is owed to networks: each DEL that has to come, as a file, from before the ADD until the DEL has succeeded.
//
// Whatever dies in between (a plugin, an agent, a host) finds what it must give back in the folder of debts, with all
// that it takes: the list as it was at the ADD, the plugins' folders, the namespace.
//
// disk     <dir>/<boot>:<container id>:<interface>.json, written before the ADD and synced to the disk. <boot> is the
//          head of the boot id: of another boot no namespace is left, and the DEL goes without.
// rule     A debt that cannot be read is still owed: it stays, and is told.
// threads  any
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "cni/runtime.h"

namespace cni {

struct Debt {
  std::string network;
  std::string list_text;
  Attachment attachment;
  RuntimeOptions runtime;   ///< what the ADD was made with; its timeouts are not kept
  std::string result_text;  ///< of the ADD as far as it has come, in the form of kNewest; "" = not known (yet)
  std::string boot;         ///< set by the ledger
  bool this_boot() const;
};

/// A file of the ledger.
struct Owed {
  std::string container_id;
  base::Result<Debt> debt;  ///< or why it cannot be read
};

class Ledger {
 public:
  explicit Ledger(std::string dir) : dir_(std::move(dir)) {}

  /// Writes it down, or again with what is known by now.
  base::Status owe(const Debt& debt) const;
  /// Those of one container, or of all. Missing folder: none.
  ///   errors  by errno: the folder cannot be listed
  base::Result<std::vector<Owed>> of_container(const std::string& container_id) const;
  base::Result<std::vector<Owed>> all() const;

  /// Unless somebody else has paid it meanwhile: sends the DEL, removes the namespace if it is ours (`own_netns`, the
  /// path that we made), and then the debt.
  ///   blocks  for del_timeout, or until ctx ends
  ///   errors  the DEL's, or the namespace's: the debt stays
  base::Status pay(const base::Context& ctx, const Debt& debt, const std::string& own_netns) const;

 private:
  base::Result<std::vector<Owed>> matching(const std::string& container_id) const;
  std::string path_of(const Debt& debt) const;
  std::string dir_;
};

}  // namespace cni
