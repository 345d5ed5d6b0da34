#include "driver/net/groups.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "cni/netns.h"
#include "tests/temp_dir.h"

using base::Context;
using base::ProcessId;

namespace {

/// The folders of a node, and what agents do there.
struct Node {
  Node() {
    places.state_dir = dir / "run";
    places.netns_dir = dir / "netns";
  }
  base::Result<driver::GroupNetwork> make(const std::string& alloc_id, const ProcessId& agent = {},
                                          const std::string& hostname = "") const {
    return driver::make_group_network(Context::cleanup(), places, alloc_id, hostname, agent);
  }
  bool remove(const std::string& alloc_id) const {
    return driver::remove_group_network(Context::cleanup(), places, alloc_id).has_value();
  }
  void settle(const ProcessId& agent, bool wanted = false) const {
    driver::settle_group_networks(Context::cleanup(), places, agent, [&](const std::string&) { return wanted; });
  }
  bool has(const std::string& alloc_id) const { return *cni::is_netns(places.netns_dir + "/" + alloc_id); }
  bool has_claim(const std::string& alloc_id) const {
    return std::filesystem::exists(places.state_dir + "/groups/" + alloc_id + ".json");
  }
  tests::TempDir dir;
  driver::GroupPlaces places;
};

const ProcessId kGone{1, 1};  // nobody has ever had this pair

}  // namespace

TEST_CASE("a group's namespace is made once, found again, and removed as often as asked") {
  const Node node;
  const auto made = node.make("a1");
  REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().message));
  CHECK(made->created);
  CHECK(node.has("a1"));
  const auto again = node.make("a1");
  CHECK_FALSE(again->created);
  CHECK_EQ(again->path, made->path);
  CHECK(node.remove("a1"));
  CHECK(node.remove("a1"));
  CHECK_FALSE(node.has("a1"));
  CHECK_FALSE(node.has_claim("a1"));
}

TEST_CASE("one that an agent made before the node changed is kept, and goes with its allocation") {
  const Node node;
  REQUIRE(cni::make_netns(node.places.netns_dir + "/a1"));
  CHECK_FALSE(node.make("a1")->created);
  CHECK(node.remove("a1"));
  CHECK_FALSE(node.has("a1"));
}

TEST_CASE("ids and host names that cannot be") {
  const Node node;
  for (const char* id : {"", "../a", "a/b", ".", "a b"}) {
    CHECK_EQ(node.make(id).error().code, base::Code::kInvalidArgument);
  }
  for (const std::string& name : {std::string(300, 'x'), std::string("a b"), std::string("a\nb"), std::string("a/b")}) {
    CHECK_EQ(node.make("a1", {}, name).error().code, base::Code::kInvalidArgument);
  }
  CHECK_FALSE(node.has("a1"));
  CHECK(node.remove("../a"));
}

TEST_CASE("what an agent that is gone has left is removed, and nothing else") {
  const Node node;
  const ProcessId agent = *base::identify(::getpid());
  REQUIRE(node.make("of-this-agent", agent));
  REQUIRE(node.make("of-nobody-known"));
  REQUIRE(node.make("of-one-that-is-gone", kGone));
  REQUIRE(node.make("asked-for-again", kGone));
  REQUIRE(node.make("asked-for-again", agent));
  node.settle({});  // no agent is there
  node.settle(agent, true);
  CHECK(node.has("of-one-that-is-gone"));
  REQUIRE(base::write_file_atomic(node.places.state_dir + "/groups/damaged.json", "{", 0600, base::Durable::kNo));
  node.settle(agent);
  CHECK_FALSE(node.has("of-one-that-is-gone"));
  CHECK_FALSE(node.has_claim("of-one-that-is-gone"));
  CHECK(node.has_claim("damaged"));
  for (const char* kept : {"of-this-agent", "of-nobody-known", "asked-for-again"}) {
    CHECK(node.has(kept));
    CHECK(node.remove(kept));
  }
}

TEST_CASE("one whose allocation's folder is gone is removed, whatever agent it was made for") {
  const Node node;
  const ProcessId agent = *base::identify(::getpid());
  const std::string folder = node.dir / "alloc";
  REQUIRE(base::make_dirs(folder, 0755));
  REQUIRE(node.make("a1", agent));
  const auto note = [&](const std::string& alloc_id) {
    return driver::note_group_folder(Context::cleanup(), node.places, alloc_id, folder).has_value();
  };
  CHECK(note("a1"));
  CHECK(note("not-ours"));
  CHECK_FALSE(node.has_claim("not-ours"));
  CHECK_FALSE(node.make("a1", kGone)->created);  // what was noted stays
  node.settle(agent);
  CHECK(node.has("a1"));
  std::filesystem::remove(folder);
  node.settle(agent);
  CHECK_FALSE(node.has("a1"));
  CHECK_FALSE(node.has_claim("a1"));
}

TEST_CASE("a namespace with a process in it is kept") {
  const Node node;
  const auto made = node.make("busy", kGone);
  REQUIRE(made);
  std::array<int, 2> to = {};
  std::array<int, 2> from = {};
  REQUIRE_EQ(::pipe2(to.data(), O_CLOEXEC), 0);
  REQUIRE_EQ(::pipe2(from.data(), O_CLOEXEC), 0);
  base::Fd theirs(to[0]);
  base::Fd end(to[1]);
  const base::Fd in(from[0]);
  base::Fd out(from[1]);
  base::SpawnOptions options;
  options.argv = {"/usr/bin/nsenter", "--net=" + made->path, "/bin/sh", "-c", "echo in; exec /bin/cat"};
  options.stdin_fd = theirs.get();
  options.stdout_fd = out.get();
  auto process = base::Process::spawn(options);
  REQUIRE(process);
  char first = 0;
  REQUIRE_EQ(::read(in.get(), &first, 1), 1);
  node.settle(*base::identify(::getpid()));
  CHECK(node.has("busy"));
  end.reset();
  CHECK(process->wait(Context::cleanup()));
  node.settle(*base::identify(::getpid()));
  CHECK_FALSE(node.has("busy"));
}
