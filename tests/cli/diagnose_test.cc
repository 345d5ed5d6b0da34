// clang-format off
#include "cli/doctor/diagnose.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include <algorithm>
#include <functional>

namespace {

/// A node on which nothing is wrong.
cli::NodeFacts healthy() {
  cli::NodeFacts facts;
  facts.is_root = true;
  facts.kernel = "6.1.0-18-amd64";
  facts.cgroup_mode = "v2";
  facts.controllers = {"cpu", "cpuset", "memory", "pids"};
  facts.overlay = true;
  facts.user_namespaces_max = 1000;
  facts.seccomp = true;
  facts.apparmor = true;
  facts.apparmor_parser = true;
  facts.programs = {{"shim", "shim", "/usr/bin/shim", "", false, "1.6.20", "", "0:0 755"}};
  facts.iptables = true;
  facts.ip_forward = true;
  facts.bridge_netfilter = true;
  facts.data_dir = "/data";
  facts.disk = oci::GcDisk{1000, 500, 1000, 900};
  facts.unit = cli::UnitFact{"nomad.service", "process", "yes", "infinity"};
  return facts;
}

}  // namespace

TEST_CASE("nothing is wrong with a healthy node") {
  for (const cli::Finding& finding : cli::diagnose(healthy())) {
    CAPTURE(finding.check);
    CHECK(finding.verdict == cli::Verdict::kOk);
    CHECK(finding.remedy.empty());
    CHECK_FALSE(finding.text.empty());
  }
}

TEST_CASE("a module that is loaded when it is needed is there") {
  cli::NodeFacts facts = healthy();
  facts.overlay = false;
  facts.overlay_module = true;
  for (const cli::Finding& finding : cli::diagnose(facts)) CHECK(finding.verdict == cli::Verdict::kOk);
}

TEST_CASE("one thing is wrong") {
  using cli::NodeFacts;
  using cli::Verdict;
  struct Case {
    const char* check;
    Verdict verdict;
    const char* words;
    std::function<void(NodeFacts&)> spoil;
  };
  const Case cases[] = {
      {"user", Verdict::kFail, "root", [](NodeFacts& f) { f.is_root = false; }},
      {"kernel", Verdict::kFail, "too old", [](NodeFacts& f) { f.kernel = "5.11.22"; }},
      {"kernel", Verdict::kFail, "too old", [](NodeFacts& f) { f.kernel = "4.19.0"; }},
      {"kernel", Verdict::kWarn, "not understood", [](NodeFacts& f) { f.kernel = "Linux"; }},
      {"cgroups", Verdict::kFail, "none are mounted", [](NodeFacts& f) { f.cgroup_mode = ""; }},
      {"cgroups", Verdict::kFail, "without memory", [](NodeFacts& f) { f.controllers.erase("memory"); }},
      {"overlay", Verdict::kFail, "does not have it", [](NodeFacts& f) { f.overlay = false; }},
      {"overlay", Verdict::kWarn, "cannot be read", [](NodeFacts& f) { f.overlay.reset(); }},
      {"user namespaces", Verdict::kWarn, "not allowed", [](NodeFacts& f) { f.user_namespaces_max = 0; }},
      {"seccomp", Verdict::kWarn, "no seccomp", [](NodeFacts& f) { f.seccomp = false; }},
      {"apparmor", Verdict::kWarn, "apparmor_parser", [](NodeFacts& f) { f.apparmor_parser = false; }},
      {"shim", Verdict::kFail, "not there",
       [](NodeFacts& f) { f.programs[0].path = "", f.programs[0].problem = "not there"; }},
      {"shim", Verdict::kFail, "exit code 1", [](NodeFacts& f) { f.programs[0].problem = "exit code 1"; }},
      {"shim", Verdict::kWarn, "did not answer", [](NodeFacts& f) { f.programs[0].is_slow = true; }},
      {"shim", Verdict::kFail, "can change /usr", [](NodeFacts& f) { f.programs[0].writable_by_others = "/usr"; }},
      {"cni", Verdict::kWarn, "portmap", [](NodeFacts& f) { f.cni_missing = {"portmap"}; }},
      {"cni", Verdict::kWarn, "no iptables", [](NodeFacts& f) { f.iptables = false; }},
      {"ip_forward", Verdict::kWarn, "off", [](NodeFacts& f) { f.ip_forward = false; }},
      {"br_netfilter", Verdict::kWarn, "not loaded", [](NodeFacts& f) { f.bridge_netfilter = false; }},
      {"disk", Verdict::kWarn, "85%", [](NodeFacts& f) { f.disk->bytes_free = 150; }},
      {"disk", Verdict::kFail, "99% of the inodes", [](NodeFacts& f) { f.disk->inodes_free = 10; }},
      {"disk", Verdict::kFail, "broken", [](NodeFacts& f) { f.disk.reset(), f.disk_problem = "broken"; }},
      {"images", Verdict::kFail, "damaged", [](NodeFacts& f) { f.store_problem = "index.json is damaged"; }},
      {"images", Verdict::kWarn, "a; b; c; and 1 more",
       [](NodeFacts& f) {
         f.damaged_images = {"a", "b", "c", "d"};
       }},
      {"hosts.toml", Verdict::kFail, "x: no", [](NodeFacts& f) { f.hosts_problems = {"x: no"}; }},
      {"agent's unit", Verdict::kFail, "KillMode", [](NodeFacts& f) { f.unit->kill_mode = "control-group"; }},
      {"agent's unit", Verdict::kWarn, "Delegate", [](NodeFacts& f) { f.unit->delegate = "no"; }},
      {"agent's unit", Verdict::kWarn, "TasksMax", [](NodeFacts& f) { f.unit->tasks_max = "4915"; }},
      {"tasks", Verdict::kWarn, "record", [](NodeFacts& f) { f.unreadable_records = {"the record of x"}; }},
      {"tasks", Verdict::kFail, "listed", [](NodeFacts& f) { f.tasks_problem = "cannot be listed"; }},
      {"leftovers", Verdict::kWarn, "no", [](NodeFacts& f) { f.leftovers_problem = "no"; }},
      {"leftovers", Verdict::kWarn, "/b", [](NodeFacts& f) { f.leftovers = {"/b"}; }},
  };
  for (const Case& one : cases) {
    CAPTURE(one.check);
    CAPTURE(one.words);
    cli::NodeFacts facts = healthy();
    one.spoil(facts);
    for (const cli::Finding& finding : cli::diagnose(facts)) {
      const bool is_it = finding.check == one.check;
      CHECK(finding.verdict == (is_it ? one.verdict : Verdict::kOk));
      CHECK(finding.remedy.empty() != is_it);
      if (is_it) CHECK_MESSAGE(finding.text.find(one.words) != std::string::npos, finding.text);
    }
  }
}
