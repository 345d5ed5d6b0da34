#!/usr/bin/env python3
"""Writes a bill of materials (SPDX 2.3, JSON) of the programs of a build, from what was really linked and included.

    packaging/sbom.py BUILD VERSION PROGRAM… > sbom.spdx.json

BUILD is a folder of meson's in which the programs were built, PROGRAM a path in it. Each program is linked once more, for
the linker's own list of archive members; shared libraries are those that the program names; code from headers is that of
the packages whose headers the compiler read and of which nothing is linked. Everything is told as the Debian source
package that it is from. SOURCE_DATE_EPOCH is the time of the document.
"""
import datetime
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

NOTHING_KNOWN = "NOASSERTION"


def main():
    build, version, programs = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3:]
    document = Document(version)
    for program in programs:
        document.add_program(build / program)
        linked = set()
        for kind, files in (("STATIC_LINK", static_files(build, program)), ("DYNAMIC_LINK", shared_files(build / program))):
            sources = sources_of(files)
            linked |= sources
            document.relate(build / program, kind, sources)
        headers = sources_of(included_files(build, program)) - linked
        document.relate(build / program, "STATIC_LINK", headers, "from headers")
    json.dump(document.finished(), sys.stdout, indent=1, sort_keys=True)
    print()


def output_of(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def static_files(build, program):
    """Archives of which at least one member is in the program, and object files, that are not of this build."""
    link = shlex.split(output_of("ninja", "-C", str(build), "-t", "commands", "-s", program).splitlines()[-1])
    with tempfile.TemporaryDirectory() as scratch:
        link[link.index("-o") + 1] = os.path.join(scratch, "program")
        listing = os.path.join(scratch, "map")
        subprocess.run([*link, f"-Wl,-Map={listing}"], cwd=build, check=True)
        text = pathlib.Path(listing).read_text(errors="replace")
    members = re.findall(r"^(\S+\.a)\(", text.partition("\nDiscarded input sections")[0], re.MULTILINE)
    objects = re.findall(r"^LOAD (/\S+\.o)$", text, re.MULTILINE)
    return {os.path.realpath(build / name) for name in {*members, *objects}
            if not os.path.realpath(build / name).startswith(str(build) + "/")}


def shared_files(program):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output_of("readelf", "--dynamic", str(program)))
    if not needed:
        return set()  # a static program
    found = dict(re.findall(r"^\s*(\S+) => (/\S+)", output_of("ldd", str(program)), re.MULTILINE))
    loader = re.findall(r"^\s*(/\S+) \(0x", output_of("ldd", str(program)), re.MULTILINE)
    return {os.path.realpath(found.get(name) or loader[0]) for name in needed}


def included_files(build, program):
    """Headers of the system that the compiler read for a program; the kernel's have constants, and no code of it."""
    inputs = set(output_of("ninja", "-C", str(build), "-t", "inputs", program).splitlines())
    headers, ours = set(), False
    for line in output_of("ninja", "-C", str(build), "-t", "deps").splitlines():
        if not line.startswith(" "):
            ours = line.partition(": ")[0] in inputs
        elif ours and line.startswith("    /usr/include/"):
            headers.add(os.path.realpath(line.strip()))
    return {name for name in headers if not re.match(r"/usr/include/(linux|asm-generic|[a-z0-9_]+-linux-gnu/asm)/", name)}


def sources_of(files):
    """(name, version) of the source packages that `files` are from."""
    owners = set()
    for name in files:
        # dpkg knows some of them by the path before /lib became a link to /usr/lib.
        for path in (name, name.removeprefix("/usr")):
            found = subprocess.run(["dpkg", "-S", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
            if found:
                owners.add(found.splitlines()[0].partition(": ")[0].partition(",")[0])
                break
        else:
            sys.exit(f"error: {name} is linked, and of no package")
    if not owners:
        return set()
    rows = output_of("dpkg-query", "-W", "-f", "${source:Package} ${source:Version}\n", *sorted(owners)).splitlines()
    return {tuple(row.split(" ")) for row in rows}


class Document:
    def __init__(self, version):
        self.version = version
        self.files, self.packages, self.relations = {}, {}, []

    def add_program(self, path):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.files[path] = {"SPDXID": f"SPDXRef-File-{path.name}", "fileName": f"./programs/{path.name}",
                            "fileTypes": ["BINARY"], "copyrightText": NOTHING_KNOWN,
                            "checksums": [{"algorithm": "SHA256", "checksumValue": digest}]}
        self.relations.append({"spdxElementId": "SPDXRef-Package", "relationshipType": "CONTAINS",
                               "relatedSpdxElement": f"SPDXRef-File-{path.name}"})

    def relate(self, path, kind, sources, comment=None):
        for name, version in sorted(sources):
            spdx_id = "SPDXRef-Package-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)
            self.packages[spdx_id] = self.package(spdx_id, name, version, f"pkg:deb/debian/{name}@{version}?arch=source")
            relation = {"spdxElementId": f"SPDXRef-File-{path.name}", "relationshipType": kind, "relatedSpdxElement": spdx_id}
            if comment:
                relation["comment"] = comment
            self.relations.append(relation)

    @staticmethod
    def package(spdx_id, name, version, locator):
        return {"SPDXID": spdx_id, "name": name, "versionInfo": version, "downloadLocation": NOTHING_KNOWN,
                "filesAnalyzed": False, "licenseConcluded": NOTHING_KNOWN, "licenseDeclared": NOTHING_KNOWN,
                "copyrightText": NOTHING_KNOWN,
                "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                                  "referenceLocator": locator}]}

    def finished(self):
        own = self.package("SPDXRef-Package", "containerd-driver", self.version,
                           f"pkg:generic/containerd-driver@{self.version}")
        own["licenseDeclared"] = "Apache-2.0"
        checksums = "".join(sorted(entry["checksums"][0]["checksumValue"] for entry in self.files.values()))
        created = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
        return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
                "name": f"containerd-driver-{self.version}",
                "documentNamespace": "https://spdx.org/spdxdocs/containerd-driver-"
                                     f"{self.version}-{hashlib.sha256(checksums.encode()).hexdigest()}",
                "creationInfo": {"created": created.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: packaging/sbom.py"]},
                "documentDescribes": ["SPDXRef-Package"],
                "packages": [own, *(self.packages[key] for key in sorted(self.packages))],
                "files": [self.files[key] for key in sorted(self.files)],
                "relationships": self.relations}


if __name__ == "__main__":
    main()
