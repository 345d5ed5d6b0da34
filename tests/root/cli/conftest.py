import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/images"))

import registry as registries  # noqa: E402

PROGRAM = os.environ.get("CONTAINERD_DRIVER", str(ROOT / "build/src/containerd-driver"))


@pytest.fixture(scope="session")
def registry():
    """host:port of a docker-registry with all test images."""
    with registries.images_registry() as running:
        yield running.address


class Node:
    """The command line over directories of its own."""

    def __init__(self, folder, registry):
        self.folder = folder
        self.registry = registry
        self.flags = ["--data-dir", str(folder / "data"), "--state-dir", str(folder / "state")]

    def image(self, name):
        return f"{self.registry}/{name}"

    def argv(self, verb, *args):
        return [PROGRAM, verb, *self.flags, *args]

    def call(self, verb, *args, **options):
        return subprocess.run(self.argv(verb, *args), capture_output=True, text=True, timeout=60, **options)

    def start(self, verb, *args, **options):
        return subprocess.Popen(self.argv(verb, *args), text=True, **options)

    def run(self, *args, image="library/busybox:latest", flags=(), **options):
        return self.call("run", "--rm", *flags, self.image(image), *args, **options)

    def leftovers(self):
        """What is still there of any container, in words."""
        found = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(self.folder) in line]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                cwd = os.readlink(process / "cwd")
            except OSError:
                continue
            if str(self.folder) in command + cwd and PROGRAM not in command:
                found.append(f"process {process.name}: {command}")
        for folder in ("data/tasks", "state/bundles", "state/s", "state/cli"):
            found += [str(path) for path in (self.folder / folder).glob("*") if path.name != ".containers"]
        found += [str(path) for path in (self.folder / "data/tasks/.containers").glob("*") if path.name != ".lock"]
        return found


@pytest.fixture
def node(tmp_path, registry):
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    (tmp_path / "data").mkdir(mode=0o700)  # a folder that is named has to be there
    node = Node(tmp_path, registry)
    yield node
    left = node.leftovers()
    assert not left, left
