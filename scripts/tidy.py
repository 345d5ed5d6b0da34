#!/usr/bin/env python3
"""Checks the rules of the tree that a compiler does not: layers, confinement of libraries, sizes, words.

Prints one line a finding (file:line: rule) and exits 1 if there is one. Run by `meson test tidy`.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE_DIRS = ["src", "ttrpc", "oci", "cni", "tests"]
LINES_MAX = 800
FUNCTION_LINES_MAX = 70
TEST_FUNCTION_LINES_MAX = 100  # a table of cases is long but not deep
COLUMNS_MAX = 120

# A folder may include itself and what stands here: only downwards, never a sibling.
LAYERS = {
    "base": set(),
    "ttrpc": {"base"},
    "oci": {"base"},
    "cni": {"base"},
    "shim": {"base", "ttrpc"},
    "grpc": {"base"},
    "driver": {"base", "oci", "cni", "shim"},
    "plugin": {"base", "grpc", "driver"},
    "cli": {"base", "oci", "driver"},
}
ALL_LAYERS = set(LAYERS)

# Folders with rooms in them: which of its neighbours a room may include. The files beside the rooms may include all of
# them, and no room includes those.
ROOMS = {
    "oci/fetch": {"registry": set(), "unpack": set(), "sandbox": set()},
    "src/driver": {
        "values": set(),
        "host": {"values"},
        "files": {"values", "host"},
        "spec": {"values", "host", "files"},
        "net": {"values"},
        "image": {"values", "host", "files", "spec"},
        "options": {"values", "host", "files", "spec", "image"},
        "life": {"values", "host", "files", "spec", "net", "image"},
    },
}
# Nothing but these may lie in such a folder outside of its rooms.
OUTSIDE_ROOMS = {
    "src/driver": {"driver.h", "driver_impl.h", "driver.cc",
                   *(f"driver_{verb}.cc" for verb in ("exec", "recover", "start", "status", "stop", "upkeep"))},
}

# A library's header may be included only in these files (prefixes of paths from the root).
CONFINED = [
    (r"<uv\.h>", ["src/base/loop.cc"]),
    (r"<nghttp2/", ["src/grpc/http2.cc", "tests/grpc/", "tests/fuzz/", "tests/plugin/", "tests/fakes/"]),
    (r"<openssl/", ["oci/digest.cc"]),
    (r"<curl/", ["oci/fetch/registry/"]),
    (r"<archive(_entry)?\.h>", ["oci/fetch/unpack/", "oci/fetch/import_archive.cc", "tests/oci/", "tests/root/oci/"]),
    (r"<(isa-l|zlib|zstd)", ["oci/fetch/unpack/", "tests/oci/"]),
    (r"\.pb\.h[\">]", ["ttrpc/", "src/shim/", "src/plugin/", "tests/ttrpc/", "tests/shim/", "tests/plugin/",
                       "tests/fakes/", "tests/fuzz/"]),
    (r"<nlohmann/", ["src/base/json.h", "src/base/json_fwd.h"]),
]

# The repository speaks about the product only.
FORBIDDEN_WORDS = [r"\.\./shared", r"/work/"]


def folder_of(path):
    """The layer a file belongs to, or None for programs and tests (which may include anything)."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "src":
        return parts[1] if len(parts) > 2 else None
    if parts[0] == "tests":
        return None
    return parts[0]


def included_folder(name):
    head = name.split("/")[0]
    return head if head in ALL_LAYERS else None


def check_rooms(path, number, name, report):
    """`name` is what the line includes, as the tree's folders call it."""
    relative = str(path.relative_to(ROOT))
    for folder, rooms in ROOMS.items():
        included = folder.removeprefix("src/")
        if not relative.startswith(folder + "/") or not name.startswith(included + "/"):
            continue
        owner, target = relative[len(folder) + 1:].rpartition("/")[0], name[len(included) + 1:].rpartition("/")[0]
        if owner and target != owner and target not in rooms.get(owner, set()):
            report(path, number, f"{folder}/{owner} must not include {name}")


def check_includes(path, number, line, report):
    match = re.match(r'\s*#\s*include\s+([<"])([^>"]+)', line)
    if not match:
        return
    owner, target = folder_of(path), included_folder(match.group(2))
    if owner in LAYERS and target and target != owner and target not in LAYERS[owner]:
        report(path, number, f"{owner} must not include {target}")
    check_rooms(path, number, match.group(2), report)
    relative = str(path.relative_to(ROOT))
    for pattern, allowed in CONFINED:
        if re.search(pattern, line) and not any(relative.startswith(prefix) for prefix in allowed):
            report(path, number, f"{match.group(2)} belongs into {', '.join(allowed)} only")
    if relative.startswith("oci/") and not relative.startswith("oci/fetch/") and "oci/fetch/" in line:
        report(path, number, "oci must not include oci/fetch: the plugin links it")


def check_functions(path, lines, report):
    """A function is what clang-format leaves starting with a brace at a line's end in column 0 code."""
    start = None
    limit = TEST_FUNCTION_LINES_MAX if "tests" in path.relative_to(ROOT).parts else FUNCTION_LINES_MAX
    for number, line in enumerate(lines, 1):
        opens = re.match(r"^[A-Za-z].*\) ?(const)? ?(noexcept)? ?(override)? ?\{$", line) or re.match(
            r"^ {4,}.*\) ?(const)? ?(:.*)?\{$", line) and start is None and number > 1 and re.match(
                r"^[A-Za-z].*[,(]$", lines[number - 2])
        if opens and start is None:
            start = number
        elif line == "}" and start is not None:
            if number - start + 1 > limit:
                report(path, start, f"function of {number - start + 1} lines, the limit is {limit}")
            start = None


def check_file(path, report):
    lines = path.read_text(errors="replace").splitlines()
    outside = OUTSIDE_ROOMS.get(str(path.parent.relative_to(ROOT)))
    if outside is not None and path.name not in outside:
        report(path, 1, "belongs into a room")
    if len(lines) > LINES_MAX:
        report(path, 1, f"{len(lines)} lines, the limit is {LINES_MAX}")
    for number, line in enumerate(lines, 1):
        check_includes(path, number, line, report)
        if len(line) > COLUMNS_MAX and "R\"(" not in line and "http" not in line:
            report(path, number, f"{len(line)} columns, the limit is {COLUMNS_MAX}")
        for word in FORBIDDEN_WORDS:
            if re.search(word, line):
                report(path, number, f"names {word}")
    if path.suffix == ".h" and "#pragma once" not in lines:
        report(path, 1, "header without #pragma once")
    check_functions(path, lines, report)


# The known defects of the Go driver: each has a row in docs/migration.md.
DEFECTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, *range(10, 27), *range(30, 34), *range(40, 47), *range(50, 54), *range(60, 65),
           70, 71, 80, 81, *range(90, 94)]


def check_migration(report):
    """Every defect has one row, and a test that is named there exists."""
    path = ROOT / "docs/migration.md"
    rows = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not re.fullmatch(r"S-\d\d", cells[0]):
            continue
        if len(cells) != 4 or cells[0] in rows:
            report(path, number, f"{cells[0]} has another row, or not four columns")
            continue
        rows[cells[0]] = number
        if not re.match(r"(fixed|same|dropped: .)", cells[2]):
            report(path, number, f"{cells[0]} is neither fixed nor same nor dropped with a reason")
        if cells[2].startswith("fixed") and not test_exists(cells[3]):
            report(path, number, f"there is no test {cells[3]}")
    for defect in DEFECTS:
        if f"S-{defect:02}" not in rows:
            report(path, 1, f"S-{defect:02} has no row")


def test_exists(named):
    """`path` name, where the name is a function's, or in quotes a text of the file."""
    match = re.fullmatch(r"`(tests/[\w./]+)` (\w+|\"[^\"]+\")", named)
    if not match or not (ROOT / match[1]).exists():
        return False
    text = (ROOT / match[1]).read_text()
    name = match[2]
    return name in text if name.startswith('"') else bool(re.search(rf"^(def|func) {name}\(", text, re.M))


def main():
    findings = []

    def report(path, number, text):
        findings.append(f"{path.relative_to(ROOT)}:{number}: {text}")

    files = [p for d in SOURCE_DIRS for suffix in ("*.h", "*.cc") for p in sorted((ROOT / d).rglob(suffix))]
    for path in files:
        check_file(path, report)
    check_migration(report)
    print("\n".join(findings) if findings else f"tidy: {len(files)} files, nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
