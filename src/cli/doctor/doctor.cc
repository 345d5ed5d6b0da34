// Whether this node can run containers, and what to do where it cannot.
#include "base/json.h"
#include "cli/doctor/diagnose.h"
#include "cli/doctor/gather.h"
#include "cli/verb.h"

namespace cli {

namespace {

constexpr std::chrono::milliseconds kDoctorTimeout{2000};

base::Json json_of_findings(const std::vector<Finding>& findings);
void print_findings(Io& io, const std::vector<Finding>& findings);

}  // namespace

int doctor_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  const auto ctx = base::Context::background().with_timeout(kDoctorTimeout);
  const auto findings = diagnose(gather_facts(ctx, call.globals.options()));
  if (output == "json") {
    print_json(call.io, json_of_findings(findings));
  } else {
    print_findings(call.io, findings);
  }
  for (const Finding& finding : findings) {
    if (finding.verdict == Verdict::kFail) return kExitFailure;
  }
  return kExitOk;
}

namespace {

base::Json json_of_findings(const std::vector<Finding>& findings) {
  base::Json out = base::Json::array();
  for (const Finding& finding : findings) {
    out.push_back({{"verdict", name_of(finding.verdict)}, {"check", finding.check}, {"text", finding.text}});
    if (!finding.remedy.empty()) out.back()["remedy"] = finding.remedy;
  }
  return out;
}

void print_findings(Io& io, const std::vector<Finding>& findings) {
  std::vector<std::vector<std::string>> rows;
  for (const Finding& finding : findings) {
    rows.push_back({name_of(finding.verdict), finding.check, finding.text});
    if (!finding.remedy.empty()) rows.push_back({"", "", base::str("do: ", finding.remedy)});
  }
  print_rows(io, rows);
}

}  // namespace
}  // namespace cli
