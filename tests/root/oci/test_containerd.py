"""What we unpack, beside containerd's own snapshots."""

import os
import random
import subprocess

import pytest

import layout as layouts
from containerd import Containerd
from helper import tree
from server import Server
from test_differential import Stack, assert_same

NIGHTLY = bool(os.environ.get("NIGHTLY"))
STACKS = 300 if NIGHTLY else 20  # containerd takes half a second for each
FIRST_SEED = int(os.environ.get("STACK_SEED", random.SystemRandom().randrange(1 << 32) if NIGHTLY else 0))


def unpacked(containerd, reference, folder):
    """The tree of an image, from its snapshot."""
    containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", reference)
    folder.mkdir()
    containerd.ctr("images", "mount", "--snapshotter", "overlayfs", "--platform", "linux/amd64", reference, str(folder))
    try:
        return tree(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def containerd(tmp_path_factory):
    running = Containerd(tmp_path_factory.mktemp("containerd"))
    yield running
    running.stop()


def test_snapshots_of_generated_stacks(memory_store, containerd, tmp_path):
    # containerd finds no targets of hard links in the layers below.
    with Server() as server:
        for seed in range(FIRST_SEED, FIRST_SEED + STACKS):
            server.add_image(f"a{seed}", [(layouts.compress(tar, 1), tar) for tar in Stack(seed, links_below=False).layers()])
            reference = f"{server.address}/a{seed}:1"
            memory_store.pull(reference)
            theirs = unpacked(containerd, reference, tmp_path / f"mounted{seed}")
            assert_same(memory_store, reference, theirs, f"seed {seed}")


@pytest.mark.parametrize("image", ["library/busybox:latest", "library/redis:alpine", "library/ubuntu:16.04"])
def test_snapshots_of_test_images(memory_store, registry, containerd, tmp_path, image):
    reference = f"{registry}/{image}"
    memory_store.pull(reference)
    assert_same(memory_store, reference, unpacked(containerd, reference, tmp_path / "mounted"))
