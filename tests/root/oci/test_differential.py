"""What we unpack, beside what umoci unpacks: the trees must be equal in all that an image says."""

import io
import os
import random
import shutil
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


NIGHTLY = bool(os.environ.get("NIGHTLY"))
STACKS = 3000 if NIGHTLY else 300
STACKS_A_TEST = 20
# What the header of a hard link can say of a body that is not there: nothing, a size in the header, one that only pax
# records have room for, a size behind pax records of other things.
LINK_CLAIMS = ("none", "header", "pax", "header behind pax")
FIRST_SEED = int(os.environ.get("STACK_SEED", random.SystemRandom().randrange(1 << 32) if NIGHTLY else 0))


@pytest.mark.parametrize("number", range(0, STACKS, STACKS_A_TEST))
def test_generated_stacks(memory_store, tmp_path, number):
    """To see one again: STACK_SEED=<the seed that is told> and the first of these tests."""
    store = memory_store
    seen = set()
    with Server() as server:
        for seed in range(FIRST_SEED + number, FIRST_SEED + number + STACKS_A_TEST):
            stack = Stack(seed)
            server.add_image(f"a{seed}", [(layouts.compress(tar, 1), tar) for tar in stack.layers()])
            assert_same_as_umoci(store, f"{server.address}/a{seed}:1", tmp_path, f"seed {seed}", stack.correct)
            seen |= stack.link_kinds
    assert seen == {(claim, own) for claim in LINK_CLAIMS for own in (True, False)} or NIGHTLY


def test_names_are_bytes(store, tmp_path):
    """Composed and decomposed accents are two names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("caf\u00e9", "cafe\u0301", "new\nline", "-dash", "back\\slash"):
            tar.addfile(tarfile.TarInfo(name))
    with Server() as server:
        server.add_image("a", [(layouts.compress(out.getvalue()), out.getvalue())])
        assert_same_as_umoci(store, f"{server.address}/a:1", tmp_path)


def assert_same_as_umoci(store, reference, tmp_path, what="", correct=lambda tree: None):
    store.pull(reference)
    theirs = unpacked_by_umoci(f"{store.path}:{reference}", tmp_path)
    correct(theirs)
    assert_same(store, reference, theirs, what)


def unpacked_by_umoci(image, tmp_path):
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", image, bundle], check=True, capture_output=True)
    theirs = tree(bundle / "rootfs")
    shutil.rmtree(bundle)
    return theirs


def assert_same(store, reference, theirs, what=""):
    with store.mounted(reference) as root:
        ours = tree(root)
    for path in sorted(set(ours) | set(theirs)):
        assert ours.get(path) == theirs.get(path), (what, path)


class Stack:
    """Layers at random over a small set of names, so that they often meet; a model of what is there keeps them such
    that all readers agree (a link's target exists, a parent is a directory)."""

    NAMES = ["a", "b", "c", "d"]

    def __init__(self, seed, links_below=True):
        self._random, self._links_below = random.Random(seed), links_below
        self._infos, self._linked = {}, set()
        self._inodes = {}  # path → [mode, uid, gid, mtime], one list for all names of a file
        self.link_kinds = set()
        self._kinds = {"": "dir"}  # what the layers so far make of each path

    def correct(self, tree):
        """umoci keeps the attributes of a file's first entry; docker, containerd and podman take the last one's."""
        for path, (mode, uid, gid, mtime) in self._inodes.items():
            if path in self._linked and self._kinds.get(path) == "file":
                tree[path][:4] = [oct(0o100000 | mode), uid, gid, mtime]

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
        kind = self._random.choice(["file"] * 4 + ["dir"] * 3 + ["symlink", "hardlink", "hardlink", "fifo", "device", "whiteout", "whiteout", "opaque"])
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
            # Of this layer, or of one below: then the file comes up here, and may not be removed here any more.
            # Overlay knows no links between layers: a file with several names below would come up with one of them.
            targets = [p for p in sorted(self._kinds) if self._kinds[p] == "file" and p != path
                       and (p in self._written or self._links_below and p not in self._linked)]
            if not targets:
                return
            target = self._random.choice(targets)
            self._kinds[path] = "file"
            self._add(path, tarfile.LNKTYPE, link=target)
            self._written.add(target)
            self._linked |= {path, target}
            return
        self._kinds[path] = kind
        kinds = {"file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
        self._add(path, kinds[kind], link="../a" if kind == "symlink" else "")

    def _add(self, path, kind, link="", mark=None):
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.linkname = kind, link
        info.mode = self._random.choice([0o755, 0o700, 0o644, 0o4755, 0o1777])
        info.uid, info.gid, info.mtime = self._random.choice([0, 1, 1000]), self._random.choice([0, 5]), 1_600_000_000 + self._random.randint(0, 10**8)
        data = b""
        if kind == tarfile.REGTYPE and "/.wh." not in "/" + path:
            data = self._random.randbytes(self._random.choice([0, 1, 511, 512, 513, 5000]))
        if kind in (tarfile.REGTYPE, tarfile.DIRTYPE) and "/.wh." not in "/" + path:
            if self._random.random() < 0.2:
                info.pax_headers = {"SCHILY.xattr.user.note": f"value {self._random.random()}"}
        if kind == tarfile.CHRTYPE:
            info.devmajor, info.devminor = 1, self._random.choice([3, 5, 260])
        info.size = len(data)
        if kind == tarfile.LNKTYPE:
            self._describe_link(info, link)
        elif mark is None:
            self._inodes[info.name] = [info.mode, info.uid, info.gid, info.mtime]
        if mark is None:
            self._infos[info.name] = info
        self._tar.addfile(info, None if kind == tarfile.LNKTYPE else io.BytesIO(data))
        self._written.add(mark or path.lstrip("/"))

    def _describe_link(self, info, link):
        own = self._random.random() < 0.5
        inode = self._inodes[info.name] = self._inodes[link]
        if own:
            inode[:] = [info.mode, info.uid, info.gid, info.mtime]
        info.mode, info.uid, info.gid, info.mtime = inode
        claim = self._random.choice(LINK_CLAIMS)
        if claim.startswith("header"):
            info.size = self._random.choice([1, 512, 513, 5000])
        if claim == "pax":
            info.pax_headers = {"size": str(self._random.choice([1, 700, 5000]))}
        if claim == "header behind pax":
            info.pax_headers = {"comment": "hello"}
        self.link_kinds.add((claim, own))

    def _parent(self):
        # Written in this layer, so that its attributes are no question of taste.
        dirs = [p for p, kind in sorted(self._kinds.items()) if kind == "dir" and (not p or p in self._written) and p.count("/") < 3]
        return self._random.choice(dirs)

    def _written_below(self, path):
        return any(p == path or p.startswith(path + "/") for p in self._written)

    def _forget(self, path):
        for below in [p for p in self._kinds if p == path or p.startswith(path + "/")]:
            del self._kinds[below]
