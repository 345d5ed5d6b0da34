"""What we unpack, beside what umoci unpacks: the trees must be equal in all that an image says."""

import io
import random
import subprocess
import tarfile

import pytest

import layout as layouts
from helper import tree
from server import Server


@pytest.mark.parametrize("image", ["library/busybox:latest", "library/redis:alpine", "library/ubuntu:16.04",
                                   "library/probe:latest", "shm32/signal_handler:1.0"])
def test_test_images(store, registry, tmp_path, image):
    assert_same_as_umoci(store, f"{registry}/{image}", tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_generated_stacks(store, tmp_path, seed):
    stack = Stack(seed)
    with Server() as server:
        server.add_image("a", [(layouts.compress(tar, 1), tar) for tar in stack.layers()])
        assert_same_as_umoci(store, f"{server.address}/a:1", tmp_path)


def test_names_are_bytes(store, tmp_path):
    """Composed and decomposed accents are two names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("caf\u00e9", "cafe\u0301", "new\nline", "-dash", "back\\slash"):
            tar.addfile(tarfile.TarInfo(name))
    with Server() as server:
        server.add_image("a", [(layouts.compress(out.getvalue()), out.getvalue())])
        assert_same_as_umoci(store, f"{server.address}/a:1", tmp_path)


def assert_same_as_umoci(store, reference, tmp_path):
    store.pull(reference)
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{store.path}:{reference}", bundle], check=True, capture_output=True)
    theirs = tree(bundle / "rootfs")
    with store.mounted(reference) as root:
        ours = tree(root)
    for path in sorted(set(ours) | set(theirs)):
        assert ours.get(path) == theirs.get(path), path


class Stack:
    """Layers at random over a small set of names, so that they often meet; a model of what is there keeps them such
    that all readers agree (a link's target exists, a parent is a directory)."""

    NAMES = ["a", "b", "c", "d"]

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._kinds = {"": "dir"}  # what the layers so far make of each path

    def layers(self):
        return [self._layer() for _ in range(self._random.randint(2, 5))]

    def _layer(self):
        out = io.BytesIO()
        self._written = set()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as self._tar:
            for _ in range(self._random.randint(3, 25)):
                self._entry()
        return out.getvalue()

    def _entry(self):
        parent = self._parent()
        path = f"{parent}/{self._random.choice(self.NAMES)}".lstrip("/")
        if path in self._written:
            return
        kind = self._random.choice(["file"] * 4 + ["dir"] * 3 + ["symlink", "hardlink", "fifo", "whiteout", "whiteout", "opaque"])
        if kind == "whiteout":
            if path in self._kinds and not self._written_below(path):
                self._forget(path)
                self._add(f"{parent}/.wh.{path.rpartition('/')[2]}", tarfile.REGTYPE, mark=path)
            return
        if kind == "opaque":
            if parent and not self._written_below(parent):
                for below in [p for p in self._kinds if p.startswith(parent + "/")]:
                    del self._kinds[below]
                self._add(f"{parent}/.wh..wh..opq", tarfile.REGTYPE)
            return
        self._make(kind, path)

    def _make(self, kind, path):
        if kind == "dir":
            if self._kinds.get(path, "dir") != "dir":
                return  # a directory over a file: in its own layer that is a whiteout's work
            self._kinds[path] = "dir"
            self._add(path, tarfile.DIRTYPE)
            return
        if self._kinds.get(path) == "dir":
            return
        if kind == "hardlink":
            targets = [p for p in sorted(self._kinds) if self._kinds[p] == "file" and p != path and p in self._written]
            if not targets:
                return
            self._kinds[path] = "file"
            self._add(path, tarfile.LNKTYPE, link=self._random.choice(targets))
            return
        self._kinds[path] = kind
        kinds = {"file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}
        self._add(path, kinds[kind], link="../a" if kind == "symlink" else "")

    def _add(self, path, kind, link="", mark=None):
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.linkname = kind, link
        info.mode = self._random.choice([0o755, 0o700, 0o644, 0o4755, 0o1777])
        info.uid, info.gid, info.mtime = self._random.choice([0, 1, 1000]), self._random.choice([0, 5]), 1_600_000_000 + self._random.randint(0, 10**8)
        data = b""
        if kind == tarfile.REGTYPE and "/.wh." not in "/" + path:
            data = self._random.randbytes(self._random.choice([0, 1, 511, 512, 513, 5000]))
            if self._random.random() < 0.2:
                info.pax_headers = {"SCHILY.xattr.user.note": f"value {self._random.random()}"}
        if kind == tarfile.LNKTYPE:  # readers differ in whose attributes count: the same ones
            original = self._tar.getmember(link)
            info.mode, info.uid, info.gid, info.mtime = original.mode, original.uid, original.gid, original.mtime
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        self._written.add(mark or path.lstrip("/"))

    def _parent(self):
        # Written in this layer, so that its attributes are no question of taste.
        dirs = [p for p, kind in sorted(self._kinds.items()) if kind == "dir" and (not p or p in self._written) and p.count("/") < 3]
        return self._random.choice(dirs)

    def _written_below(self, path):
        return any(p == path or p.startswith(path + "/") for p in self._written)

    def _forget(self, path):
        for below in [p for p in self._kinds if p == path or p.startswith(path + "/")]:
            del self._kinds[below]
