"""What we unpack, beside containerd's own snapshots. Only in the nightly run: a containerd of one's own takes its time."""

import os
import random
import subprocess
import time

import pytest

import layout as layouts
from helper import tree
from server import Server
from test_differential import Stack, assert_same

pytestmark = pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="nightly only")


class Containerd:
    """A daemon with folders and a socket of its own, and no plugin that would look at the host."""

    def __init__(self, folder):
        self._socket = folder / "containerd.sock"
        (folder / "config.toml").write_text(f"""
            version = 2
            root = "{folder}/root"
            state = "{folder}/state"
            disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.zfs",
                                "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
            [grpc]
            address = "{self._socket}"
        """)
        self._log = open(folder / "log", "wb")
        self._process = subprocess.Popen(["containerd", "--config", folder / "config.toml"], stdout=self._log, stderr=self._log)
        end = time.monotonic() + 30
        while subprocess.run(self._ctr("version"), capture_output=True).returncode:
            assert time.monotonic() < end and self._process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def _ctr(self, *arguments):
        return ["ctr", "--address", self._socket, *arguments]

    def ctr(self, *arguments):
        return subprocess.run(self._ctr(*arguments), check=True, capture_output=True, text=True).stdout

    def unpacked(self, reference, folder):
        """The tree of an image, from its snapshot."""
        self.ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", reference)
        folder.mkdir()
        self.ctr("images", "mount", "--snapshotter", "overlayfs", "--platform", "linux/amd64", reference, str(folder))
        try:
            return tree(folder)
        finally:
            subprocess.run(["umount", folder], check=True)

    def stop(self):
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@pytest.fixture
def containerd(tmp_path):
    running = Containerd(tmp_path)
    yield running
    running.stop()


def test_snapshots_of_generated_stacks(memory_store, containerd, tmp_path):
    # containerd finds no targets of hard links in the layers below.
    first = int(os.environ.get("STACK_SEED", random.SystemRandom().randrange(1 << 32)))
    with Server() as server:
        for seed in range(first, first + 100):
            server.add_image(f"a{seed}", [(layouts.compress(tar, 1), tar) for tar in Stack(seed, links_below=False).layers()])
            reference = f"{server.address}/a{seed}:1"
            memory_store.pull(reference)
            theirs = containerd.unpacked(reference, tmp_path / f"mounted{seed}")
            assert_same(memory_store, reference, theirs, f"seed {seed}")


@pytest.mark.parametrize("image", ["library/busybox:latest", "library/redis:alpine", "library/ubuntu:16.04"])
def test_snapshots_of_test_images(memory_store, registry, containerd, tmp_path, image):
    reference = f"{registry}/{image}"
    memory_store.pull(reference)
    assert_same(memory_store, reference, containerd.unpacked(reference, tmp_path / "mounted"))
