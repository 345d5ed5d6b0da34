"""The processes of the image helper, looked at from outside while they work; and an unpacker that does whatever an
image says, inside them."""

import io
import json
import os
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

import layout as layouts
from helper import BROKEN_PROGRAM, BROKEN_UNPACK, PROGRAM, PullError, Store, tree
from images import ARCH
from layout import Layer
from server import Answer, Server

CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP = 0, 1, 3, 4, 27, 31


@pytest.fixture
def stages(store):
    """The processes, by name, while a layer has half arrived; a secret is in the request."""
    content = os.urandom(3_000_000)
    layer = Layer().file("f", content)
    arrived, go_on = threading.Event(), threading.Event()

    def stall(body):
        yield body[:1_000_000]
        arrived.set()
        go_on.wait(60)
        yield body[1_000_000:]

    with Server() as server:
        below = Layer().file("below", "x")
        server.add_image("below", [(below.blob(), below.tar())])
        store.pull(f"{server.address}/below:1")
        server.add_image("a", [(below.blob(), below.tar()), (layer.blob(0), layer.tar())])
        [path] = [p for p, (_, data) in server.content.items() if len(data) > 1_000_000]
        body = server.content[path][1]
        server.rules[path] = lambda request: Answer(200, {}, stall(body), length=len(body))
        process = store.start(f"{server.address}/a:1", "alice", SECRET)
        try:
            assert arrived.wait(30)
            wait_for(lambda: list(store.path.glob("ingest/layers-*/1/f")))
            yield processes_of(process.pid)
        finally:
            go_on.set()
            out, err = process.communicate(timeout=30)
        assert '"done"' in out, out + err


SECRET = "sandbox-" + "s3cr3t" * 9


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def processes_of(pid):
    """fetch, starter, unpack: each the child of the one before."""
    out = {"fetch": pid}
    for parent, child in (("fetch", "starter"), ("starter", "unpack")):
        children = [int(c) for task in os.listdir(f"/proc/{out[parent]}/task")
                    for c in Path(f"/proc/{out[parent]}/task/{task}/children").read_text().split()]
        [out[child]] = children
    return out


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def capabilities(*numbers):
    return f"{sum(1 << n for n in numbers):016x}"


def test_rights(stages):
    for name, caps in (("fetch", capabilities(DAC_OVERRIDE, FOWNER)),
                       ("unpack", capabilities(CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP))):
        seen = status(stages[name])
        for kind in ("CapPrm", "CapEff", "CapBnd"):
            assert seen[kind] == caps, (name, kind)
        for kind in ("CapInh", "CapAmb"):
            assert seen[kind] == capabilities(), (name, kind)
        assert seen["Seccomp"] == "2"
    for pid in stages.values():
        assert status(pid)["NoNewPrivs"] == "1"


def test_what_the_unpack_stage_sees(stages, store):
    pid = stages["unpack"]
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    seen = {m[4]: m[5].split(",") for m in mounts}
    assert sorted(seen) == ["/", "/layers/0", "/proc/self/fd", "/staging"]
    assert "ro" in seen["/"] and "ro" in seen["/layers/0"] and "rw" in seen["/staging"]
    for place in ("/", "/layers/0", "/staging"):
        assert {"nosuid", "nodev", "noexec"} <= set(seen[place])
    for place in ("/layers/0", "/staging"):
        assert "nosymfollow" in seen[place]
    assert sorted(os.listdir(f"/proc/{pid}/root")) == ["layers", "proc", "staging"]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for kind in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    assert [line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]] == ["lo"]


def test_what_the_unpack_stage_holds(stages, store):
    """Its blob for reading only, pipes and a socket; no folder that is not its own."""
    pid = stages["unpack"]
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        assert target.startswith(("pipe:", "socket:", "anon_inode:", "/staging", "/dev/null")) or "/ingest/" in target \
            or target == os.readlink("/proc/self/fd/2"), target
        flags = next(line for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines() if "flags" in line)
        if "ingest" in target:
            assert int(flags.split()[1], 8) & os.O_ACCMODE == os.O_RDONLY
    limits = Path(f"/proc/{pid}/limits").read_text()
    for name in ("Max address space", "Max file size", "Max cpu time"):
        [line] = [line for line in limits.splitlines() if line.startswith(name)]
        assert "unlimited" not in line


def test_no_secret_where_images_are_unpacked(stages):
    secret = SECRET.encode()
    found = {name: memory_holds(pid, secret) for name, pid in stages.items()}
    assert found == {"fetch": True, "starter": False, "unpack": False}  # the first shows that we can find it


def memory_holds(pid, needle):
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if "r" not in rights or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            memory.seek(start)
            try:
                if needle in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


def test_what_the_fetch_stage_sees(stages, store):
    pid = stages["fetch"]
    mounts = {line.split()[4]: line.split()[5].split(",") for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}
    data_dir = str(store.path.resolve())
    writable = [place for place, flags in mounts.items() if "rw" in flags and not place.startswith("/proc")]
    assert writable == [data_dir]
    assert all({"nosuid", "nodev"} <= set(flags) for flags in mounts.values())
    assert "ro" in mounts[f"{data_dir}/tasks"] and "noexec" in mounts[data_dir]
    seen = set(os.listdir(f"/proc/{pid}/root"))
    assert {"etc", "proc", "usr", data_dir.split("/")[1]} <= seen and seen.isdisjoint({"dev", "run", "sys", "boot", "home"})
    assert sorted(os.listdir(f"/proc/{pid}/root/proc")) == ["self"]
    assert set(os.listdir(f"/proc/{pid}/root/etc")).isdisjoint({"shadow", "passwd", "ssh", "nomad.d"})
    assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")


def load(store, archive):
    """What the helper says last about an archive that it is given."""
    request = {"data_dir": str(store.path), "reference": "", "username": "", "password": "", "hosts_dir": "",
               "archive": True}
    done = subprocess.run([PROGRAM], input=json.dumps(request), capture_output=True, text=True, timeout=30,
                          preexec_fn=lambda: os.dup2(archive, 3), pass_fds=[3])
    return json.loads(done.stdout.splitlines()[-1])


def test_a_device_is_no_archive(store):
    with open("/dev/zero", "rb") as device:
        assert "is a device" in load(store, device.fileno())["error"]["message"]


@pytest.mark.parametrize("form", ["folder", "file", "file from its middle", "pipe"])
def test_forms_of_an_archive(store, tmp_path, form):
    """A file and a folder are read by a view of the helper's own, a pipe as it is."""
    layer = Layer().file("f", "x")
    layout = layouts.Layout(tmp_path / "layout")
    layout.name("1", layout.image([(layer.blob(), layer.tar())], {}, ARCH))
    layout.close()
    packed = tmp_path / "archive.tar"
    junk = b"junk" if form == "file from its middle" else b""
    with open(packed, "wb") as out:
        out.write(junk)
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.add(layout.folder, ".")
    if form == "pipe":
        with subprocess.Popen(["cat", packed], stdout=subprocess.PIPE) as cat:
            last = load(store, cat.stdout.fileno())
    else:
        fd = os.open(layout.folder if form == "folder" else packed, os.O_RDONLY)
        try:
            if junk:
                os.lseek(fd, len(junk), os.SEEK_SET)
            last = load(store, fd)
        finally:
            os.close(fd)
    assert last == {"done": {"references": ["localhost/archive:1"]}}


# What a broken unpacker does with these is to write where it must not.
def harmful(canary):
    up = "../" * 40 + str(canary).lstrip("/")
    yield "up", lambda t: t.file(f"{up}/file", "harm")
    yield "absolute", lambda t: t.file(f"{canary}/file", "harm")
    yield "new file", lambda t: t.file(f"{up}/new", "harm")
    yield "through a symlink", lambda t: t.symlink("l", str(canary)).file("l/file", "harm")
    yield "through a relative symlink", lambda t: t.symlink("l", up).file("l/file", "harm")
    yield "onto a symlink", lambda t: t.symlink("l", f"{canary}/file").file("l", "harm")
    yield "mode of a symlink's target", lambda t: t.symlink("l", f"{canary}/file").add("l", tarfile.FIFOTYPE)
    yield "hard link outside", lambda t: t.hardlink("h", f"{canary}/file")
    yield "hard link, then content", lambda t: t.hardlink("h", up + "/file").file("h", "harm")
    yield "folder outside", lambda t: t.add(f"{up}/dir", tarfile.DIRTYPE)
    yield "by a descriptor", lambda t: [t.file(f"/proc/self/fd/{n}{'/..' * 9}{canary}/file", "harm") for n in range(40)]


class Tar:
    def __init__(self):
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind, data=b"", link=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode, info.size = kind, link, 0o777, len(data)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def file(self, name, text):
        return self.add(name, tarfile.REGTYPE, text.encode())

    def symlink(self, name, target):
        return self.add(name, tarfile.SYMTYPE, link=target)

    def hardlink(self, name, target):
        return self.add(name, tarfile.LNKTYPE, link=target)

    def done(self):
        self._tar.close()
        return self._out.getvalue()


@pytest.fixture
def canary(tmp_path):
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "file").write_text("untouched")
    return folder


def looks(canary):
    return tree(canary), [(p.stat().st_nlink, p.stat().st_ctime_ns) for p in sorted(canary.rglob("*"))]


CASES = [name for name, _ in harmful("/x")]


@pytest.mark.parametrize("case", CASES)
def test_a_broken_unpacker_does_no_harm(tmp_path, canary, case):
    tar = Tar()
    dict(harmful(canary))[case](tar)
    tar = tar.done()
    before = looks(canary)
    store = Store(tmp_path / "store", BROKEN_PROGRAM)
    with Server() as server:
        server.add_image("a", [(layouts.compress(tar), tar)])
        try:
            store.pull(f"{server.address}/a:1")
        except PullError:
            pass
    assert looks(canary) == before
    assert store.litter() == []


@pytest.mark.parametrize("case", [c for c in CASES if c != "by a descriptor"])
def test_it_would_without_the_sandbox(tmp_path, canary, case):
    tar = Tar()
    dict(harmful(canary))[case](tar)
    before = looks(canary)
    folder = tmp_path / "folder"
    folder.mkdir()
    subprocess.run([BROKEN_UNPACK, folder], input=tar.done(), check=True)
    assert looks(canary) != before
