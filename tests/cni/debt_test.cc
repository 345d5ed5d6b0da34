#include "cni/debt.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "cni/directory.h"
#include "cni/lock.h"
#include "cni/netns.h"
#include "tests/cni/lists.h"
#include "tests/cni/scripts.h"

using base::Code;
using base::Context;
using base::str;

namespace {

cni::Debt debt_of(const tests::Scripts& scripts, const std::string& id = "c1") {
  cni::Debt debt;
  debt.network = "net";
  debt.list_text = tests::list_of({R"({"type":"one"})"}).text;
  debt.attachment.container_id = id;
  debt.attachment.netns = "/no/such/netns";
  debt.attachment.supplied.port_mappings = {{8080, 80, "tcp", ""}};
  debt.runtime = scripts.options();
  return debt;
}

}  // namespace

TEST_CASE("a debt is on disk until its DEL has succeeded") {
  const tests::Scripts scripts;
  const cni::Ledger ledger(scripts.dir() / "owed");
  CHECK(ledger.all()->empty());
  scripts.add("one", "exit 1");
  REQUIRE(ledger.owe(debt_of(scripts)));
  REQUIRE(ledger.owe(debt_of(scripts, "c2")));
  CHECK_EQ(ledger.all()->size(), 2);
  const auto owed = ledger.of_container("c1");
  REQUIRE_EQ(owed->size(), 1);
  const auto& debt = owed->at(0).debt;
  REQUIRE_MESSAGE(debt.has_value(), (debt ? "" : debt.error().message));
  CHECK(debt->this_boot());
  CHECK(debt->attachment.supplied.port_mappings == debt_of(scripts).attachment.supplied.port_mappings);
  CHECK_FALSE(ledger.pay(Context::cleanup(), *debt, ""));
  CHECK_EQ(ledger.of_container("c1")->size(), 1);
  scripts.add("one", "exit 0");
  CHECK(ledger.pay(Context::cleanup(), *debt, ""));
  CHECK(scripts.text("one.env").find("CNI_NETNS=\n") != std::string::npos);  // of a namespace that is gone
  CHECK(ledger.of_container("c1")->empty());
  CHECK(ledger.pay(Context::cleanup(), *debt, ""));
  CHECK_EQ(ledger.all()->size(), 1);
}

TEST_CASE("a debt of another boot is paid without its namespace") {
  const tests::Scripts scripts;
  const std::string folder = scripts.dir() / "owed";
  const cni::Ledger ledger(folder);
  scripts.add("one", "exit 0");
  cni::Debt debt = debt_of(scripts);
  debt.attachment.netns = "/proc/self/ns/net";
  debt.boot = "01234567";
  REQUIRE(ledger.owe(debt));
  const auto owed = ledger.all();
  REQUIRE_EQ(owed->size(), 1);
  REQUIRE(owed->at(0).debt);
  CHECK_FALSE(owed->at(0).debt->this_boot());
  CHECK(ledger.pay(Context::cleanup(), *owed->at(0).debt, ""));
  CHECK(scripts.text("one.env").find("CNI_NETNS=\n") != std::string::npos);
}

TEST_CASE("a debt that cannot be read stays, and is told") {
  const tests::Scripts scripts;
  const std::string folder = scripts.dir() / "owed";
  const cni::Ledger ledger(folder);
  REQUIRE(ledger.owe(debt_of(scripts)));
  const std::string file = std::filesystem::directory_iterator(folder)->path();
  for (const char* damage : {"", "{", "[]", "{}", R"({"container_id":"c1"})"}) {
    std::ofstream(file) << damage;
    const auto owed = ledger.all();
    REQUIRE_EQ(owed->size(), 1);
    CHECK_EQ(owed->at(0).container_id, "c1");
    REQUIRE_FALSE(owed->at(0).debt);
    CHECK_EQ(owed->at(0).debt.error().code, Code::kDataLoss);
    CHECK(owed->at(0).debt.error().message.find(file) != std::string::npos);
  }
  std::ofstream(folder + "/README") << "not a debt";
  CHECK_EQ(ledger.all()->size(), 1);
}

TEST_CASE("locks by name wait for each other, shared ones do not") {
  const tests::Scripts scripts;
  const std::string path = scripts.dir() / "sub/locks";
  const auto soon = [] { return Context::background().with_timeout(std::chrono::milliseconds(50)); };
  {
    const auto shared = cni::lock_name(soon(), path, "a", cni::Share::kShared);
    REQUIRE(shared);
    CHECK(cni::lock_name(soon(), path, "a", cni::Share::kShared));
    CHECK(cni::lock_name(soon(), path, "b", cni::Share::kExclusive));
    const auto refused = cni::lock_name(soon(), path, "a", cni::Share::kExclusive);
    REQUIRE_FALSE(refused);
    CHECK_EQ(refused.error().code, Code::kDeadlineExceeded);
  }
  CHECK(cni::lock_name(soon(), path, "a", cni::Share::kExclusive));
}

TEST_CASE("the networks of a folder: broken files are named and do not stop the others") {
  const tests::TempDir dir;
  const std::string folder = dir / "net.d";
  std::filesystem::create_directories(folder + "/beside");
  const auto put = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder + "/" + name) << text;
  };
  put("10-broken.conflist", "{");
  put("20-a.conf", R"({"cniVersion":"0.4.0","name":"a","type":"single"})");
  put("30-a.conflist", R"({"cniVersion":"0.4.0","name":"a","plugins":[{"type":"listed"}]})");
  put("40-a.conflist", R"({"cniVersion":"0.4.0","name":"a","plugins":[{"type":"second"}]})");
  put("50-beside.conflist", R"({"cniVersion":"1.0.0","name":"beside","plugins":[{"type":"t"}]})");
  put("beside/10.conf", R"({"type":"more"})");
  put("60-none.conflist", R"({"cniVersion":"1.0.0","name":"none","plugins":[]})");
  put("README", "not a network");
  const std::vector<std::string> dirs = {dir / "missing", folder};
  CHECK_EQ(cni::networks_in(dirs)->size(), 6);
  CHECK_EQ(cni::find_network(dirs, "a")->plugins.at(0).type, "listed");
  const auto beside = cni::find_network(dirs, "beside");
  REQUIRE(beside);
  REQUIRE_EQ(beside->plugins.size(), 2);
  CHECK_EQ(beside->plugins[1].type, "more");
  const auto missing = cni::find_network(dirs, "none");
  REQUIRE_FALSE(missing);
  CHECK_EQ(missing.error().code, Code::kNotFound);
  CHECK(missing.error().message.find("60-none.conflist has no plugins") != std::string::npos);
  CHECK(missing.error().message.find("10-broken.conflist") != std::string::npos);
  for (const char* bad : {"", "a/b", "../../etc", ".."}) {
    CHECK_EQ(cni::find_network(dirs, bad).error().code, Code::kInvalidArgument);
  }
  CHECK_FALSE(cni::networks_in({folder + "/README"}));
}

TEST_CASE("a FIFO in the folder of networks blocks nobody") {
  const tests::TempDir dir;
  REQUIRE(::mkfifo((dir / "a.conflist").c_str(), 0600) == 0);
  const auto found = cni::networks_in({dir.path()});
  REQUIRE(found);
  CHECK_FALSE(found->at(0).list);
}

TEST_CASE("what is no network namespace") {
  const tests::TempDir dir;
  CHECK_FALSE(*cni::is_netns(dir / "missing"));
  std::ofstream(dir / "file") << "";
  CHECK_FALSE(*cni::is_netns(dir / "file"));
  CHECK(*cni::is_netns("/proc/self/ns/net"));
  CHECK_FALSE(*cni::is_netns("/proc/self/ns/mnt"));
  CHECK(cni::remove_netns(dir / "missing"));
  CHECK(cni::remove_netns(dir / "file"));
  CHECK_FALSE(std::filesystem::exists(dir / "file"));
}
