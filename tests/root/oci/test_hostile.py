"""Images made to do harm, one case each. Every one is refused with a sentence, or does no harm: nothing outside the store
changes, nothing half-done is left, no process grows beyond measure, and all that within seconds."""

import json
import os
import resource
import re
import stat
import subprocess
import threading
from pathlib import Path

import pytest

import layout as layouts
from helper import FAILED_PRECONDITION, INVALID_ARGUMENT, DATA_LOSS, UNAVAILABLE, tree
from rawtar import END, Tar, base256, header, padded, record
from server import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST

SECONDS_MAX = 10
RESIDENT_MIB_MAX = 128  # of all processes of the helper together
NIGHTLY = bool(os.environ.get("NIGHTLY"))

CASES = {}


def hostile(refused=None, code=None):
    """`refused`: words of the message; None: it is pulled, and what the case returns may look at the mounted root."""
    def add(build):
        CASES[build.__name__] = (build, refused, (code,) if code else (INVALID_ARGUMENT, FAILED_PRECONDITION, DATA_LOSS))
        return build
    return add


class Fixture:
    def __init__(self, server, canary):
        self.server, self.canary = server, str(canary)
        self.up = "../" * 30 + self.canary.lstrip("/")

    def image(self, *tars, **options):
        self.server.add_image("a", [(layouts.compress(tar, 1), tar) for tar in tars], **options)

    def blobs(self, *packed, **options):
        """Pairs of what is sent and what it unpacks to (or b"" where nobody will get to know)."""
        self.server.add_image("a", list(packed), **options)

    def config(self, **config):
        tar = Tar().file("f").done()
        self.image(tar, config={"config": config})

    def manifest(self, document, media_type=OCI_MANIFEST):
        data = document if isinstance(document, bytes) else layouts.dump(document)
        self.server.add_manifest("a", data, media_type, "1")

    def good_manifest(self):
        """A correct one, to make something wrong of."""
        self.image(Tar().file("f").done())
        return json.loads(self.server.content["/v2/a/manifests/1"][1])


# ---- 1 to 17, 40: names, links, whiteouts, special files ---------------------------------------------------------

@hostile()
def dot_dot_file(f):
    f.image(Tar().file(f"{f.up}/file").file("../../../../etc/x").done())


@hostile()
def absolute_path(f):
    f.image(Tar().file(f"{f.canary}/file").done())


@hostile()
def write_through_a_symlink(f):
    f.image(Tar().symlink("l", f.canary).file("l/file").symlink("m", f.up).file("m/file").done())


@hostile()
def mode_owner_and_attributes_through_a_symlink(f):
    xattr = [("SCHILY.xattr.user.x", "y")]
    f.image(Tar().symlink("l", f"{f.canary}/file", mode=0o777, uid=7, pax=xattr)
            .hardlink("h", "l", mode=0o6777, uid=7).done())


@hostile(refused="is a hard link to")
def hard_link_to_an_absolute_path(f):
    f.image(Tar().hardlink("h", f"{f.canary}/file").done())


@hostile(refused="is a hard link to")
def hard_link_through_a_symlinked_parent(f):
    f.image(Tar().symlink("d", f.canary).hardlink("h", "d/file").done())


@hostile()
def hard_link_to_what_is_replaced_later(f):
    f.image(Tar().file("t", "one").hardlink("h", "t").symlink("t", f"{f.canary}/file").file("h", "two").done())

    def check(root):
        assert (root / "h").read_text() == "two" and (root / "t").is_symlink()
    return check


@hostile()
def whiteout_through_a_symlink(f):
    f.image(Tar().symlink("l", f.canary).done(), Tar().file("l/.wh.file", "").done())


@hostile()
def opaque_whiteout_of_a_symlinked_folder(f):
    f.image(Tar().symlink("l", f.canary).done(), Tar().symlink("l", f.canary).file("l/.wh..wh..opq", "").done())


@hostile()
def reserved_whiteout_names(f):
    f.image(Tar().file(".wh..wh.aufs").file("d/.wh..wh.plnk").dir(".wh..wh.orph").done())
    return lambda root: not list(root.rglob("*wh*")) or pytest.fail("visible")


@hostile(refused="is a whiteout of nothing")
def whiteout_of_the_parent(f):
    f.image(Tar().file("d/.wh...", "").done())


@hostile()
def whiteout_and_file_in_one_layer(f):
    f.image(Tar().file("x", "below").done(), Tar().file("x", "above").file(".wh.x", "").done())

    def check(root):
        assert (root / "x").read_text() == "above"
    return check


@hostile(refused="a loop of symlinks")
def loop_of_symlinks(f):
    f.image(Tar().symlink("a", "b").symlink("b", "a").file("a/x").done())


@hostile()
def folder_replaced_by_a_symlink_in_the_next_layer(f):
    f.image(Tar().dir("d").file("d/a").done(), Tar().symlink("d", f.canary).file("d/file").done())


@hostile()
def folder_replaced_by_a_symlink_between_two_files(f):  # CVE-2025-47290
    f.image(Tar().dir("d").file("d/a").symlink("d", f.canary).file("d/file").done())


@hostile()
def device_of_a_disk(f):
    """As the image says; no container may open it that was not given it."""
    f.image(Tar().add("sda", b"4", major=8, minor=0, mode=0o666).done())

    def check(root):
        assert stat.S_ISBLK((root / "sda").lstat().st_mode)
    return check


@hostile()
def overlay_whiteout_by_hand(f):
    f.image(Tar().file("x", "below").done(), Tar().add("x", b"3", major=0, minor=0).done())

    def check(root):
        assert (root / "x").read_text() == "below"
    return check


@hostile()
def setuid_and_file_capabilities(f):
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    f.image(Tar().file("s", mode=0o4755).file("c", pax=[("SCHILY.xattr.security.capability", capability)]).done())

    def check(root):
        assert (root / "s").stat().st_mode & 0o7777 == 0o4755
        assert os.getxattr(root / "c", "security.capability") == capability
    return check


@hostile()
def attributes_that_overlay_obeys(f):
    names = ("trusted.overlay.redirect", "trusted.overlay.opaque", "trusted.overlay.metacopy", "user.overlay.redirect",
             "trusted.overlay.overlay.opaque", "security.selinux", "security.ima", "system.nfs4_acl", "nonsense", "")
    tar = Tar()
    for i, name in enumerate(names):
        tar.dir(f"d{i}", pax=[(f"SCHILY.xattr.{name}", "/../../..")])
    f.image(tar.done())

    def check(root):
        assert [os.listxattr(root / f"d{i}") for i in range(len(names))] == [[]] * len(names)
    return check


@hostile()
def special_files_where_files_are_read(f):
    f.image(Tar().dir("etc").add("etc/passwd", b"6").add("etc/resolv.conf", b"6").symlink("etc/group", "/dev/zero").done())


@hostile(refused="would replace the root directory")
def root_as_a_symlink(f):  # CVE-2021-29136
    f.image(Tar().symlink(".", f.canary).file("file").done())


@hostile()
def folders_of_the_runtime_as_symlinks(f):  # CVE-2026-47766, CVE-2024-5154
    f.image(Tar().symlink("dev", f.canary).symlink("proc", f.canary).symlink("sys", "/").symlink("etc", f.up).done())


# ---- 18 to 20, 28 to 30, 37: size --------------------------------------------------------------------------------

def old_gnu_sparse(name, real_size):
    block = bytearray(header(name, b"S", size=0, magic=b"ustar  \0"))
    block[386:398] = base256(real_size, 12)
    block[398:410] = base256(0, 12)
    block[483:495] = base256(real_size, 12)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@hostile(refused="unpacks to more than")
def sparse_file_of_8_eib(f):
    f.image(Tar().raw(old_gnu_sparse("big", 2**63 - 1)).done())


@hostile(refused="unpacks to more than")
def sparse_file_past_the_limit(f):
    records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "big"),
               ("GNU.sparse.realsize", str(40 << 30))]
    f.image(Tar().add("GNUSparseFile.0/big", data=b"0\n".ljust(512, b"\0"), pax=records).done())


def piped(command, pieces):
    """What `command` makes of the pieces, and their digest."""
    import hashlib
    digest = hashlib.sha256()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out = []
    reader = threading.Thread(target=lambda: out.append(process.stdout.read()))
    reader.start()
    for piece in pieces:
        digest.update(piece)
        process.stdin.write(piece)
    process.stdin.close()
    reader.join()
    assert process.wait() == 0
    return out[0], "sha256:" + digest.hexdigest()


def zeros(size):
    yield header("zeros", size=size)
    for _ in range(size >> 20):
        yield bytes(1 << 20)
    yield END


def bomb(f, command, pieces):
    blob, digest = piped(command, pieces)
    f.blobs((blob, b""), diff_ids=[digest])


@hostile(refused="times its size")
def gzip_bomb(f):
    bomb(f, ["gzip", "-9"], zeros(300 << 20))


@hostile(refused="times its size")
def zstd_bomb(f):
    bomb(f, ["zstd", "-q", "-c"], zeros(300 << 20))


@hostile(refused="times its size")
def padding_without_end(f):  # CVE-2017-14992
    def pieces():
        yield Tar().file("f").done()
        for _ in range(300):
            yield bytes(1 << 20)
    bomb(f, ["zstd", "-q", "-c"], pieces())


@hostile(refused="cannot be decompressed")
def zstd_window_of_2_gib(f):
    blob, digest = piped(["zstd", "-q", "-c", "--ultra", "--long=31", "-1"], [Tar().file("f", os.urandom(100)).done()])
    # The one that is stated, not what the small content needs: a frame of unknown size with the largest window.
    blob = b"\x28\xb5\x2f\xfd" + bytes([0x00, (31 - 10) << 3]) + blob[-20:]
    f.blobs((blob, b""), diff_ids=[digest])


@hostile()
def hundreds_of_thousands_of_empty_files(f):
    count = 1_000_000 if NIGHTLY else 100_000

    def pieces():
        for i in range(count):
            yield header(f"d{i % 100}/{i}", size=0)
        yield END
    bomb(f, ["gzip", "-1"], pieces())


@hostile(refused="is deeper than 255 directories")
def folders_4096_deep(f):
    f.image(Tar().add("x", b"5", pax=[("path", "/".join("d" * 1900))]).done())


@hostile(refused="longer than 4095 bytes")
def path_of_8000_bytes(f):
    f.image(Tar().add("x", b"5", pax=[("path", "/".join(["d" * 80] * 100))]).done())


@hostile()
def names_of_any_bytes(f):
    names = [b"\xff\xfe\x80", b"n\newline", b"-rf", b"back\\slash", b"n" * 255, "cafe\u0301".encode(), b"%n%s", b" "]
    f.image(b"".join(Tar().add("x", pax=[("path", name)]).done(b"") for name in names) + END)

    def check(root):
        assert sorted(os.listdir(os.fsencode(root))) == sorted(names)
    return check


@hostile(refused="longer than 255 bytes")
def name_of_256_bytes(f):
    f.image(Tar().add("x", pax=[("path", "n" * 256)]).done())


@hostile(refused="at most 128 are supported")
def a_thousand_layers(f):
    tar = Tar().file("f").done()
    f.image(*[tar] * 1000)


# ---- 31 to 39: framing, documents, numbers -----------------------------------------------------------------------

def whole():
    return Tar().file("f", os.urandom(5000)).done()


@hostile(refused="cut off")
def gzip_without_its_trailer(f):
    tar = whole()
    f.blobs((layouts.compress(tar)[:-8], tar))


@hostile(refused="cut off")
def zstd_cut_off(f):
    tar = whole()
    f.blobs((piped(["zstd", "-q", "-c"], [tar])[0][:-20], tar))


@hostile(refused="Truncated tar archive")
def tar_cut_off(f):
    tar = whole()[:3000]
    f.image(tar)


@hostile(refused="is corrupt")
def gzip_with_a_wrong_checksum(f):
    tar = whole()
    blob = bytearray(layouts.compress(tar))
    blob[-8] ^= 1
    f.blobs((bytes(blob), tar))


@hostile()
def gzip_of_two_members(f):
    tar = whole()
    f.blobs((layouts.compress(tar[:1000]) + layouts.compress(tar[1000:]), tar))


@hostile(refused="garbage after its gzip data")
def gzip_with_trailing_garbage(f):
    tar = whole()
    f.blobs((layouts.compress(tar) + b"garbage" * 10, tar))


@hostile(refused="is not a readable tar archive")
def gzip_of_gzip(f):
    tar = whole()
    f.blobs((layouts.compress(layouts.compress(tar)), layouts.compress(tar)))


@hostile(refused="but xz")
def xz(f):  # CVE-2014-9357: nobody starts a program for it
    tar = whole()
    f.blobs((piped(["xz", "-c"], [tar])[0], tar))


@hostile(refused="diff id")
def wrong_diff_id(f):
    f.image(whole(), diff_ids=[layouts.digest_of(b"other")])


@hostile(refused="diff id")
def swapped_diff_ids(f):
    one, two = whole(), Tar().file("g").done()
    f.image(one, two, diff_ids=[layouts.digest_of(two), layouts.digest_of(one)])


@hostile(refused="diff ids")
def fewer_diff_ids_than_layers(f):
    f.image(whole(), whole(), diff_ids=[layouts.digest_of(b"one")])


@hostile(refused="ended the answer early", code=UNAVAILABLE)  # as when the connection breaks
def layer_smaller_than_it_says(f):
    document = f.good_manifest()
    document["layers"][0]["size"] += 5
    f.manifest(document)


@hostile(refused="more than the")
def layer_larger_than_it_says(f):
    document = f.good_manifest()
    document["layers"][0]["size"] -= 5
    f.manifest(document)


@hostile(refused="arrived damaged")
def index_that_names_itself(f):
    """As far as one can: by a digest that its bytes do not have."""
    digest = layouts.digest_of(b"self")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX,
             "manifests": [{"mediaType": OCI_INDEX, "digest": digest, "size": 300}]}
    data = layouts.dump(index)
    f.manifest(data, OCI_INDEX)
    f.server.content[f"/v2/a/manifests/{digest}"] = (OCI_INDEX, data)


@hostile(refused="nested more than")
def index_of_index_of_index(f):
    descriptor = {"mediaType": OCI_INDEX, "digest": layouts.digest_of(b""), "size": 1}
    for _ in range(20):
        data = layouts.dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]})
        descriptor = f.server.add_manifest("a", data, OCI_INDEX)
    f.manifest(data, OCI_INDEX)


@hostile(refused="ambiguous")
def manifest_that_is_an_index_too(f):  # CVE-2021-41190
    f.manifest({**f.good_manifest(), "manifests": []})


@hostile(refused="was announced as")
def manifest_under_another_type(f):
    f.manifest(f.good_manifest(), OCI_INDEX)


@hostile(refused="schema 1")
def schema_1(f):
    f.manifest({"schemaVersion": 1, "name": "a", "fsLayers": [{"blobSum": layouts.digest_of(b"")}]},
               "application/vnd.docker.distribution.manifest.v1+prettyjws")


@hostile(refused="encrypted layers are not supported")
def encrypted_layer(f):
    document = f.good_manifest()
    document["layers"][0]["mediaType"] = OCI_LAYER + "+encrypted"
    f.manifest(document)


@hostile(refused="malformed")
def digest_that_is_a_path(f):  # CVE-2024-3727
    document = f.good_manifest()
    document["layers"][0]["digest"] = "sha256:../../../../../../etc/passwd"
    f.manifest(document)


@hostile(refused="larger than the limit of 4194304 bytes")
def manifest_of_5_mib(f):  # CVE-2020-1702
    f.manifest(layouts.dump({**f.good_manifest(), "annotations": {"x": "y" * (5 << 20)}}))


@hostile(refused="nested deeper than 32")
def manifest_1000_deep(f):
    text = layouts.dump(f.good_manifest())[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}"
    f.manifest(text)


@hostile(refused="appears twice")
def key_twice(f):
    text = layouts.dump(f.good_manifest())[:-1] + b',"layers":[]}'
    f.manifest(text)


@hostile(refused="out of range")
def sizes_that_are_no_sizes(f):
    document = f.good_manifest()
    document["layers"][0]["size"] = -1
    f.manifest(document)


@hostile()
def pax_size_and_path_twice(f):
    """The last one counts, as with everybody else: who checks one must not unpack another."""
    f.image(Tar().add("x", data="four", size=0, pax=[("path", "first"), ("path", "last"), ("size", "1"), ("size", "4")]).done())

    def check(root):
        assert os.listdir(root) == ["last"] and (root / "last").read_text() == "four"
    return check


@hostile()
def time_before_the_epoch_and_after_the_end(f):
    f.image(Tar().file("old", mtime=base256(-5, 12)).file("new", mtime=base256(2**62, 12))
            .file("pax", pax=[("mtime", "-1.5")]).file("more", pax=[("mtime", "9" * 300)]).done())


@hostile(refused="out of range")
def user_of_2_to_63(f):
    f.image(Tar().file("f", pax=[("uid", str(2**63 - 1))]).done())


@hostile(refused="out of range")
def user_of_minus_one(f):
    f.image(Tar().file("f", uid=base256(-1, 8)).done())


@hostile(refused="negative size")
def negative_size(f):
    f.image(Tar().raw(header("f", size=base256(-512, 12))).done())


@hostile(refused="unpacks to more than")
def size_of_2_to_63(f):
    f.image(Tar().raw(header("f", size=base256(2**62, 12))).done())


@hostile(refused="header too large")
def pax_record_of_2_mib(f):
    records = record("comment", "x" * (2 << 20))
    f.image(Tar().raw(header("PaxHeader", b"x", len(records)) + padded(records)).file("f").done())


@hostile(refused="header too large")
def pax_header_of_1_gib(f):
    f.image(Tar().raw(header("PaxHeader", b"x", 1 << 30)).done())


@hostile(refused="header too large")
def long_name_of_1_gib(f):
    f.image(Tar().raw(header("././@LongLink", b"L", 1 << 30)).done())


@hostile(refused="attribute")
def attribute_of_65_kib(f):
    f.image(Tar().file("f", pax=[("SCHILY.xattr.user.x", "x" * (65 << 10))]).done())


@hostile()
def link_with_content(f):
    """Some writers say a size; there is nothing behind it."""
    f.image(Tar().raw(header("l", b"2", size=0, link="x")).raw(header("d", b"5", size=0)).file("f", "content").done())


# ---- 21 to 27: what the config says. It is data here; the driver's tests have what is made of it ---------------------

@hostile()
def labels_of_the_daemon(f):  # CVE-2026-53488
    f.config(Labels={"containerd.io/restart.loguri": "binary:///bin/sh", "io.containerd.image.name": "docker.io/library/x"})


@hostile()
def volumes_outside(f):  # CVE-2022-23648
    f.config(Volumes={"/../../etc": {}, "/proc/self/root": {}})


@hostile()
def user_that_wraps_around(f):  # CVE-2024-40635
    f.config(User="4294967296:0")


@hostile(refused="contains a NUL byte")
def nul_in_the_environment(f):
    f.config(Env=["A=b\0C=d"])


@hostile(refused="contains a NUL byte")
def nul_in_the_entrypoint(f):
    f.config(Entrypoint=["/bin/sh\0-c"])


@hostile(refused="more than 100000 values")
def a_million_arguments(f):
    f.config(Cmd=["x"] * 1_000_000)


@hostile(refused="at most")
def environment_of_10_mib(f):
    f.config(Env=["A=" + "x" * (10 << 20)])


@hostile()
def working_folder_that_is_a_descriptor(f):
    f.image(Tar().symlink("w", "/proc/self/fd/7").done(), config={"config": {"WorkingDir": "/w"}})


@hostile(refused="is not \"layers\"")
def config_of_something_else(f):
    f.image(whole(), config={"rootfs": {"type": "disk", "diff_ids": []}})


# ---- the suite -----------------------------------------------------------------------------------------------------

class Watch:
    """The sum of what the processes below one had resident at most, by looking often."""

    def __init__(self, pid):
        self._pid, self._peaks, self._end = pid, {}, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def mib(self):
        self._end.set()
        self._thread.join()
        return sum(self._peaks.values()) / 1024

    def _look(self):
        while not self._end.wait(0.003):
            for pid in self._below(self._pid):
                try:
                    self._peaks[pid] = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))
                except (OSError, AttributeError):
                    pass  # it has ended

    def _below(self, pid):
        yield pid
        try:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                yield from self._below(int(child))
        except OSError:
            pass


@pytest.fixture(scope="module")
def worst():
    """The largest numbers of all cases, told at the end."""
    out = {"seconds": (0, ""), "MiB": (0, "")}
    yield out
    print(f"\nworst: {out}")


@pytest.fixture
def canary(tmp_path):
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "file").write_text("untouched")
    os.chmod(folder / "file", 0o640)
    return folder


def looks(folder):
    return tree(folder), [(p.lstat().st_nlink, p.lstat().st_ctime_ns) for p in sorted(folder.rglob("*"))]


def cpu_seconds():
    """Of all helpers so far: how long one has to wait depends on what else runs here."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("case", CASES)
def test_hostile(memory_store, canary, worst, case):
    store = memory_store
    build, refused, codes = CASES[case]
    from server import Server
    before = looks(canary)
    with Server() as server:
        check = build(Fixture(server, canary))
        begin = cpu_seconds()
        process = store.start(f"{server.address}/a:1")
        watch = Watch(process.pid)
        out, err = process.communicate(timeout=120)
        seconds, mib = cpu_seconds() - begin, watch.mib()
    for name, number in (("seconds", round(seconds, 1)), ("MiB", round(mib))):
        worst[name] = max(worst[name], (number, case))
    last = json.loads(out.splitlines()[-1])
    assert err == ""
    if refused is None:
        assert list(last) == ["done"], last
    else:
        assert refused in last["error"]["message"] and len(last["error"]["message"]) < 1000, last
        assert last["error"]["code"] in codes, last
        assert store.index() == [] and list((store.path / "layers").iterdir()) == []
    assert looks(canary) == before
    if codes != (UNAVAILABLE,):  # then another attempt may go on from what has come
        assert store.litter() == []
    seconds_max = SECONDS_MAX * (10 if NIGHTLY else 1)  # ten times the files
    assert mib <= RESIDENT_MIB_MAX and seconds <= seconds_max, (mib, seconds)
    if check:
        with store.mounted(f"{server.address}/a:1") as root:
            check(root)
