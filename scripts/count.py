"""Counts what a test command did: python3 count.py [--show] STATUS LOG COMMAND…

Prints "PASSED FAILED". With --show it prints the failures instead. Knows `meson test` (doctest and pytest programs by
their test cases), `pytest --junit-xml`, and Go test programs. A command that fails without a failed test counts as one
failure.
"""

import json
import re
import sys
import xml.etree.ElementTree
from pathlib import Path

DOCTEST = re.compile(r"\[doctest\] test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")
PYTEST = re.compile(r"(\d+) (passed|failed|error)")


def main():
    show = sys.argv[1] == "--show"
    status, log, *command = sys.argv[1 + show:]
    text = Path(log).read_text(errors="replace")
    if "meson" in command[0]:
        folder = command[command.index("-C") + 1]
        good, bad, failures = meson(Path(folder) / "meson-logs/testlog.json")
    elif "pytest" in command:
        xml_file = next(a for a in command if a.startswith("--junit-xml="))
        good, bad, failures = pytest(Path(xml_file.partition("=")[2]))
    else:
        good, bad, failures = go(text)
    if int(status) and not bad:
        bad, failures = 1, [f"the command ends with {status}; its output ends with:\n" + "\n".join(text.splitlines()[-40:])]
    if show:
        print("\n\n".join(failures))
    else:
        print(good, bad)


def meson(path):
    good, bad, failures = 0, 0, []
    for line in path.read_text().splitlines() if path.exists() else []:
        test = json.loads(line)
        out = test.get("stdout", "") + test.get("stderr", "")
        counts = DOCTEST.search(re.sub(r"\x1b\[[0-9;]*m", "", out))
        ok = test["result"] in ("OK", "EXPECTEDFAIL")
        if test["result"] == "SKIP":
            continue
        if counts:
            passes, fails = int(counts[2]), int(counts[3])
        elif "pytest" in test.get("command", []):
            words = PYTEST.findall(out.strip().rpartition("\n")[2])
            passes = sum(int(n) for n, word in words if word == "passed")
            fails = sum(int(n) for n, word in words if word != "passed")
        else:
            passes, fails = int(ok), 0
        if not ok:
            fails = max(fails, 1)
            failures.append(f"--- {test['name']}: {test['result']}\n" + "\n".join(out.splitlines()[-60:]))
        good, bad = good + passes, bad + fails
    return good, bad, failures


def pytest(path):
    good, bad, failures = 0, 0, []
    for case in xml.etree.ElementTree.parse(path).iter("testcase") if path.exists() else []:
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if problem is not None:
            bad += 1
            text = "\n".join((problem.text or "").splitlines()[-30:])
            failures.append(f"--- {case.get('classname')}.{case.get('name')}: {problem.get('message')}\n{text}")
        elif case.find("skipped") is None:
            good += 1
    return good, bad, failures


def go(text):
    results = dict(re.findall(r"^\s*--- (?:PASS|FAIL|SKIP): (\S+)()", text, re.M))
    states = {name: state for state, name in re.findall(r"^\s*--- (PASS|FAIL|SKIP): (\S+)", text, re.M)}
    leaves = {n: s for n, s in states.items() if not any(o.startswith(n + "/") for o in results)}
    # A parent may fail by itself, after its parts passed.
    failed = [n for n, s in states.items() if s == "FAIL" and (n in leaves or not any(
        o.startswith(n + "/") and states[o] == "FAIL" for o in states))]
    failures = []
    if failed:
        failures = ["--- failed: " + " ".join(failed), _go_output(text)]
    return sum(s == "PASS" for s in leaves.values()), len(failed), failures


def _go_output(text):
    """The output without the plugin's own log, which is long; the file has all of it."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith('{"@')]
    return "\n".join(lines[-150:])


if __name__ == "__main__":
    main()
