// clang-format off
#include "cli/template.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "base/json.h"

namespace {

const char* const kDocument = R"({
  "Id": "abc", "Name": "web", "Count": 3, "On": true, "Off": false, "None": null, "Empty": [], "Text": "a b\nc",
  "State": {"Status": "running", "Pid": 42, "OOMKilled": false},
  "Config": {"Env": ["A=b", "C=d"], "Labels": {"k": "v w", "x.y/z": "1"}},
  "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]},
  "Mounts": [{"Source": "/a", "Destination": "/b"}, {"Source": "/c", "Destination": "/d"}]
})";

std::string run(std::string_view text) {
  const auto parsed = cli::Template::parse(text);
  if (!parsed) return parsed.error().message;
  const auto document = base::parse_json(kDocument, "test");
  const auto out = parsed->apply(*document);
  return out ? *out : out.error().message;
}

}  // namespace

TEST_CASE("templates") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", ""},
      {"plain } text {", "plain } text {"},
      {R"(a\tb\nc)", "a\tb\nc"},
      {"{{.Id}}", "abc"},
      {"{{ .Id }}-{{.State.Status}}", "abc-running"},
      {"{{$.Id}}", "abc"},
      {"{{.ID}} {{.State.OomKilled}}", "abc false"},
      {"{{.Count}} {{.On}} {{.None}} {{.Empty}}", "3 true <nil> []"},
      {"{{.Config.Env}}", "[A=b C=d]"},
      {"{{.Config.Labels}}", "map[k:v w x.y/z:1]"},
      {"{{.Config.Labels.k}}|{{.Config.Labels.no}}", "v w|<no value>"},
      {R"({{index .Config.Labels "x.y/z"}}{{index .Config.Labels "no"}})", "1"},
      {R"({{.Config.Label "k"}}{{.Config.Label "no"}})", "v w"},
      {R"({{(index (index .Ports "80/tcp") 0).HostPort}})", "8080"},
      {R"({{(index .Ports "80/tcp" 0).HostPort}})", "8080"},
      {"{{json .Config.Env}}", R"(["A=b","C=d"])"},
      {"{{.Config.Env | json}}", R"(["A=b","C=d"])"},
      {"{{json .Text}}", R"("a b\nc")"},
      {"{{range .Config.Env}}{{.}};{{end}}", "A=b;C=d;"},
      {"{{range .Config.Env}}{{println .}}{{end}}", "A=b\nC=d\n"},
      {"{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "k=v w x.y/z=1 "},
      {"{{range $i,$v := .Config.Env}}{{$i}}{{$v}}{{end}}", "0A=b1C=d"},
      {"{{range $v := .Config.Env}}{{$v}}{{$.Id}}{{end}}", "A=babcC=dabc"},
      {"{{range $p, $c := .Ports}}{{$p}} -> {{(index $c 0).HostPort}}{{end}}", "80/tcp -> 8080"},
      {"{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "/a:/b /c:/d "},
      {"{{range .Empty}}x{{else}}none{{end}}", "none"},
      {"{{range .None}}x{{else}}none{{end}}", "none"},
      {"{{if .On}}yes{{else}}no{{end}}{{if .Off}}yes{{else}}no{{end}}", "yesno"},
      {"{{if .Off}}a{{else if .Empty}}b{{else if .On}}c{{else}}d{{end}}", "c"},
      {R"({{if eq .State.Status "exited" "running"}}up{{end}})", "up"},
      {R"({{if and .On (not .Off)}}{{or .Off "x"}}{{end}})", "x"},
      {"{{with .State}}{{.Pid}}{{$.Id}}{{end}}{{with .None}}x{{else}}none{{end}}", "42abcnone"},
      {"{{$x := .Id}}{{$x}}{{$x = .Name}}{{$x}}", "abcweb"},
      {"{{len .Config.Env}}{{len .Id}}{{len .Ports}}{{len .None}}", "2310"},
      {R"({{join .Config.Env ", "}})", "A=b, C=d"},
      {R"({{join (split "a.b.c" ".") "/"}})", "a/b/c"},
      {R"({{join .Config.Env "\n"}})", "A=b\nC=d"},
      {"{{upper .Name}}{{.Name | upper | lower}}{{title .Name}}{{truncate .Name 2}}", "WEBwebWebwe"},
      {R"({{printf "%s-%d-%v-%q-%t-%%-%x" .Id .Count .Config.Env .Name .On 255}})",
       R"(abc-3-[A=b C=d]-"web"-true-%-ff)"},
      {R"({{printf "[%-6s][%5d][%03d]" .Id .Count .Count}})", "[abc   ][    3][003]"},
      {R"({{.Id | printf "%s/%s" "x"}})", "x/abc"},
      {R"({{print "a" 1 2 "b"}}{{println "a" 1}})", "a1 2ba 1\n"},
      {"a {{- .Id -}} b", "aabcb"},
      {"{{/* nothing */}}x", "x"},
      {"{{`raw\\n`}}", "raw\\n"},
      {"{{lt 1 2}}{{ge .Count 4}}{{ne .Id .Name}}", "truefalsetrue"},
  };
  for (const auto& [text, want] : cases) {
    const std::string& given = text;
    CAPTURE(given);
    CHECK(run(text) == want);
  }
}

TEST_CASE("templates that are none say where, and what is wrong") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{{.No.Such}}", "at character 3: there is no field No"},
      {"{{.State.Statos}}", "at character 3: there is no field Statos, did you mean Status?"},
      {"{{.Id.X}}", "there is no field X in abc"},
      {"{{.None.X}}", "there is no field X in <nil>"},
      {"{{.Config.Env.X}}", "there is no field X in a list"},
      {"{{.State", "}} is missing"},
      {"{{", "}} is missing"},
      {"{{}}", "at character 3: a value is missing"},
      {"{{.Id |}}", "a value is missing"},
      {"{{if .On}}x", "at character 5: the block has no {{end}}"},
      {"x{{end}}", "there is no block that this ends"},
      {"{{else}}", "there is no block that this ends"},
      {"{{(.Id}}", "the parenthesis is not closed"},
      {"{{nosuch .Id}}", "at character 3: there is no function nosuch"},
      {"{{\"x}}", "the string has no end"},
      {"{{$x}}", "there is no variable $x"},
      {"{{.Id 3}}", "no function"},
      {"{{index .Config.Env 7}}", "there is no 7 in a list of 2"},
      {"{{join .Id \",\"}}", "abc is no list"},
      {"{{range .Id}}{{end}}", "this is no list"},
      {"{{len .Count}}", "3 has no length"},
      {"{{len}}", "len takes 1 argument"},
      {"{{printf \"%d\" .Id}}", "abc is not a whole number"},
      {"{{printf \"%s\"}}", "fewer values"},
      {"{{eq .Id 3}}", "cannot be compared"},
      {"{{/* x", "the comment has no end"},
      {"{{.Id}", "'}' makes no sense"},
      {std::string(100, '(').insert(0, "{{"), "too many parentheses"},
  };
  for (const auto& [text, want] : cases) {
    const std::string& given = text;
    CAPTURE(given);
    const std::string said = run(text);
    CHECK_MESSAGE(said.find(want) != std::string::npos, said);
    CHECK(said.starts_with("--format, at character "));
  }
}
