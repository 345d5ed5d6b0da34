"""The store after a power cut in the middle of a pull: whatever is visible is complete, and a pull repairs the rest.

The store lies on an ext4 of its own, which is shut down without a last flush at a random moment: what the kernel had not
written by then is lost, as when the power goes. POWER_CUTS says how often (default 40),
POWER_CUT_SEED repeats a run.
"""

import fcntl
import hashlib
import json
import os
import random
import struct
import subprocess
import time
from pathlib import Path

import pytest

from helper import Store

CUTS = int(os.environ.get("POWER_CUTS", "40"))
SEED = int(os.environ.get("POWER_CUT_SEED", str(random.SystemRandom().randrange(1 << 32))))
EXT4_SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, 2  # linux/ext4.h: EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH


class Disk:
    """An ext4 in a file, mounted."""

    def __init__(self, folder):
        self.image, self.mount_point = folder / "disk", folder / "mnt"
        self.mount_point.mkdir()
        self.make()

    def make(self):
        """Anew: a file system that was cut off many times is no better than one that was cut off once."""
        with open(self.image, "wb") as file:
            file.truncate(0)
            file.truncate(256 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-N", "8192", self.image], check=True)
        self.mount()

    def mount(self):
        # A short commit interval, so that cuts fall between the journal's commits as well.
        subprocess.run(["mount", "-o", "loop,commit=1", self.image, self.mount_point], check=True)

    def unmount(self):
        """Until the file system is gone. A helper that still dies has it in its mount namespace: mounted anew it would be
        the same one, shut down."""
        subprocess.run(["umount", self.mount_point], check=True)
        end = time.monotonic() + 30
        while subprocess.run(["losetup", "-j", self.image], check=True, capture_output=True).stdout:
            assert time.monotonic() < end, f"{self.image} is still in use"
            time.sleep(0.005)

    def cut(self):
        fd = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(fd)


def tree(root):
    """Every path below `root` with what it is; contents by hash."""
    found = {}
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = Path(folder, name)
            info = path.lstat()
            content = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, content)
    return found


def check(data, layers):
    """Nothing visible is incomplete. Returns what there is: (blobs, layers, entries)."""
    blobs = list((data / "blobs/sha256").glob("*")) if (data / "blobs").exists() else []
    for blob in blobs:
        if blob.name.startswith(".tmp-"):
            continue  # of an atomic write that did not come to its rename
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name, f"blob {blob.name} is not what it is called"
    visible = list((data / "layers").glob("*")) if (data / "layers").exists() else []
    for layer in visible:
        assert tree(layer) == layers[layer.name], f"layer {layer.name} is incomplete"
    index = data / "index.json"
    entries = json.loads(index.read_text())["manifests"] if index.exists() else []
    for entry in entries:
        assert {layer.name for layer in visible} == set(layers), "an image whose layers are missing is listed"
        assert (data / "blobs/sha256" / entry["digest"].split(":")[1]).exists()
    return len(blobs), len(visible), len(entries)


@pytest.fixture
def disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if subprocess.run(["losetup", "-f"], capture_output=True).returncode != 0:
        pytest.skip("this machine has no loop devices")
    disk = Disk(tmp_path)
    yield disk
    disk.unmount()


def start_pull(data, image):
    return Store(data).start(image)


def pull(data, image):
    Store(data).pull(image)


def test_power_cuts(disk, tmp_path, registry):
    image = f"{registry}/library/ubuntu:16.04"
    whole = tmp_path / "whole"
    pull(whole, image)
    layers = {layer.name: tree(layer) for layer in (whole / "layers").iterdir()}

    data = disk.mount_point / "store"
    begin = time.monotonic()
    pull(data, image)
    duration = time.monotonic() - begin
    assert check(data, layers)[1:] == (len(layers), 1)

    print(f"POWER_CUT_SEED={SEED}; a pull takes {duration:.2f} s")
    moments = random.Random(SEED)
    seen = {}
    for number in range(CUTS):
        subprocess.run(["rm", "-rf", data], check=True)
        os.sync()  # the cut shall not bring back the round before
        process = start_pull(data, image)
        moment = moments.uniform(0, 1.3 * duration)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            pass
        disk.cut()
        process.kill()
        process.wait()
        disk.unmount()
        disk.mount()
        try:
            state = check(data, layers)
        except AssertionError as error:
            raise AssertionError(f"cut {number} after {moment:.3f} s: {error}") from error
        seen[state] = seen.get(state, 0) + 1
    print(f"{CUTS} cuts; (blobs, layers, entries) afterwards: {dict(sorted(seen.items()))}")

    # The last one is repaired by a pull.
    pull(data, image)
    assert check(data, layers)[1:] == (len(layers), 1)
