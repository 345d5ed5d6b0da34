"""Pulls from a real docker-registry."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

import images
import layout as layouts
from helper import (DATA_LOSS, FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, PULL_DENIED,
                    RESOURCE_EXHAUSTED, UNAVAILABLE, PullError, Store, tree)


def test_pull_is_complete_and_reported(store, registry):
    reference = f"{registry}/library/redis:alpine"
    events = store.pull(reference)
    last = events[-2]["progress"]
    assert last["bytes_done"] == last["bytes_total"] > 1000000
    assert last["layers_done"] == last["layers_total"] == 3
    assert all(d.is_dir() for d in store.layer_dirs(reference))
    assert store.litter() == []
    [entry] = store.index()
    assert entry["annotations"]["io.containerd.image.name"] == reference
    assert abs(int(entry["annotations"]["containerd-driver.pulled-at"]) - time.time()) < 60
    for folder in (store.path, store.path / "layers", store.path / "blobs/sha256"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_other_tools_read_the_store(store, registry):
    reference = f"{registry}/library/ubuntu:16.04"
    store.pull(reference)
    inspect = subprocess.run(["skopeo", "inspect", f"oci:{store.path}:{reference}"], check=True, capture_output=True)
    seen = json.loads(inspect.stdout)
    assert seen["Digest"] == store.index()[0]["digest"] and len(seen["Layers"]) == 2
    raw = subprocess.run(["skopeo", "inspect", "--raw", f"oci:{store.path}:{reference}"], check=True, capture_output=True)
    assert raw.stdout == store.blob(seen["Digest"])
    listed = subprocess.run(["umoci", "list", "--layout", store.path], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == [reference]
    bundle = store.path.with_name("bundle")
    subprocess.run(["umoci", "unpack", "--image", f"{store.path}:{reference}", bundle], check=True, capture_output=True)
    with store.mounted(reference) as root:
        assert tree(root) == tree(bundle / "rootfs")


def test_second_pull_fetches_nothing(store, registry):
    reference = f"{registry}/library/redis:alpine"
    store.pull(reference)
    before = {p: p.stat().st_mtime_ns for p in store.path.rglob("*")}
    store.pull(reference)
    assert {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if p.parent.name != "ingest"} == before


def pull_for(store, reference, platform):
    out, _ = store.start(reference, platform=platform).communicate(timeout=60)
    last = json.loads(out.splitlines()[-1])
    if "error" in last:
        raise PullError(last["error"]["code"], last["error"]["message"])


def test_another_platform(store, registry):
    """A name holds one platform at a time, and content that is here is not fetched again."""
    reference, other = f"{registry}/library/busybox:multi", f"linux/{images.OTHER_ARCH}"
    pull_for(store, reference, other)
    [entry] = store.index()
    assert entry["platform"]["architecture"] == images.OTHER_ARCH
    assert entry["annotations"]["containerd-driver.platform"] == other
    index = entry["annotations"]["containerd-driver.resolved-digest"]
    store.pull(reference)
    [entry] = store.index()
    assert entry["platform"]["architecture"] == images.ARCH
    assert "containerd-driver.platform" not in entry["annotations"]
    assert entry["annotations"]["containerd-driver.resolved-digest"] == index
    pull_for(store, reference, other)
    assert store.index()[0]["platform"]["architecture"] == images.OTHER_ARCH

    for image, wanted, code, words in (
            ("library/busybox:latest", other, FAILED_PRECONDITION, f"platform is {other}"),
            ("library/busybox:multi", "linux/s390x", FAILED_PRECONDITION, "linux/s390x"),
            ("library/busybox:multi", "plan9/amd64/x/y", INVALID_ARGUMENT, "is not a valid platform")):
        with pytest.raises(PullError) as error:
            pull_for(store, f"{registry}/{image}", wanted)
        assert error.value.code == code and words in error.value.message, error.value


def test_layers_are_shared(store, registry):
    store.pull(f"{registry}/library/busybox:latest")
    [busybox] = store.layer_dirs(f"{registry}/library/busybox:latest")
    shutil.rmtree(store.path / "blobs/sha256" / store_layer_digest(store, f"{registry}/library/busybox:latest"), True)
    inode = busybox.stat().st_ino
    store.pull(f"{registry}/library/redis:alpine")
    assert store.layer_dirs(f"{registry}/library/redis:alpine")[0].stat().st_ino == inode
    store.pull(f"{registry}/library/busybox:docker")
    assert store.layer_dirs(f"{registry}/library/busybox:docker") == [busybox]


def store_layer_digest(store, reference):
    entry = next(e for e in store.index() if e["annotations"]["org.opencontainers.image.ref.name"] == reference)
    return json.loads(store.blob(entry["digest"]))["layers"][0]["digest"][7:]


def test_an_index_gives_our_platform(store, registry):
    reference = f"{registry}/library/busybox:multi"
    store.pull(reference)
    [entry] = store.index()
    assert entry["annotations"]["containerd-driver.resolved-digest"] != entry["digest"]
    by_digest = f"{registry}/library/busybox@{entry['annotations']['containerd-driver.resolved-digest']}"
    store.pull(by_digest)
    assert store.index()[1]["digest"] == entry["digest"]


@pytest.mark.parametrize("image, code, words", [
    ("broken/not-gzip:1", DATA_LOSS, "is not a gzip, zstd or plain tar archive"),
    ("broken/truncated:1", DATA_LOSS, "cut off"),
    ("broken/diffid:1", DATA_LOSS, "diff id"),
    ("broken/digest:1", DATA_LOSS, "arrived damaged"),
    ("broken/arch:1", FAILED_PRECONDITION, "is for linux/s390x"),
    ("broken/no-such-platform:1", FAILED_PRECONDITION, "it offers linux/s390x"),
    ("library/busybox:no-such-tag", NOT_FOUND, "no-such-tag not found"),
    ("no/such/repository:1", NOT_FOUND, "not found"),
    ("Library/busybox", INVALID_ARGUMENT, "malformed"),
])
def test_bad_images(store, registry, image, code, words):
    with pytest.raises(PullError) as error:
        store.pull(f"{registry}/{image}")
    assert (error.value.code, store.index()) == (code, [])
    assert words in error.value.message
    assert store.litter() == []
    assert list((store.path / "layers").iterdir()) == [] if store.path.exists() else True


def test_unreachable_is_worth_a_retry(store):
    with pytest.raises(PullError) as error:
        store.pull("127.0.0.1:1/a:1")
    assert error.value.code == UNAVAILABLE and "127.0.0.1" in error.value.message


def test_credentials(store, locked_registry):
    reference = f"{locked_registry}/library/busybox:latest"
    for username, password in (("", ""), ("alice", "wrong")):
        with pytest.raises(PullError) as error:
            store.pull(reference, username, password)
        assert (error.value.code, error.value.message) == (PERMISSION_DENIED, PULL_DENIED)
    store.pull(reference, "alice", "open sesame")
    with pytest.raises(PullError) as error:
        store.pull(f"{locked_registry}/library/busybox:nope", "alice", "open sesame")
    assert error.value.code == NOT_FOUND


def test_disk_full_leaves_nothing(tmp_path, registry):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=True)
    try:
        store = Store(folder / "store")
        with pytest.raises(PullError) as error:
            store.pull(f"{registry}/library/redis:alpine")
        assert error.value.code == RESOURCE_EXHAUSTED
        assert "free space" in error.value.message
        assert store.litter() == [] and list((store.path / "layers").iterdir()) == []
        status = os.statvfs(folder)
        assert (status.f_blocks - status.f_bfree) * status.f_frsize < 200_000  # documents are kept
        store.pull(f"{registry}/library/busybox:latest")  # and what fits still goes in
    finally:
        subprocess.run(["umount", folder], check=True)


def test_killed_helper_leaves_no_litter_after_the_next_run(store, registry):
    reference = f"{registry}/library/redis:alpine"
    for delay in (0.02, 0.05, 0.08, 0.12, 0.2):
        process = store.start(reference)
        time.sleep(delay)  # wherever it is by then
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    store.pull(reference)
    assert store.litter() == []
    with store.mounted(reference) as root:
        assert (root / "usr/bin/redis-server").exists() or tree(root)


def test_terminated_helper_clears_up_itself(store, registry):
    reference = f"{registry}/library/redis:alpine"
    process = store.start(reference)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert not [name for name in store.litter() if name.startswith("layers-")]
    store.pull(reference)
    assert store.litter() == []


def test_many_helpers_at_once(store, registry):
    references = [f"{registry}/library/{name}" for name in
                  ("redis:alpine", "redis:alpine", "probe:latest", "probe:user", "ubuntu:16.04", "busybox:latest")]
    failures = []

    def pull(reference):
        try:
            store.pull(reference)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=pull, args=(reference,)) for reference in references]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store.index()) == 5 and store.litter() == []


def test_damaged_store_is_repaired(store, registry):
    reference = f"{registry}/library/redis:alpine"
    store.pull(reference)
    [entry] = store.index()
    manifest = json.loads(store.blob(entry["digest"]))
    top = store.layer_dirs(reference)[-1]
    shutil.rmtree(top)
    for digest in (entry["digest"], manifest["config"]["digest"], manifest["layers"][-1]["digest"]):
        path = store.path / "blobs/sha256" / digest[7:]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.unlink()
        path.write_bytes(data)
    try:
        store.pull(reference)
    except PullError as error:  # the config: removed, and the next attempt fetches it
        assert error.code == UNAVAILABLE
        store.pull(reference)
    assert top.is_dir()
    for digest in (entry["digest"], manifest["config"]["digest"], manifest["layers"][-1]["digest"]):
        assert layouts.digest_of(store.blob(digest)) == digest


def test_password_is_nowhere(store, locked_registry):
    secret = "S3cret-" + "x" * 57
    process = store.start(f"{locked_registry}/library/busybox:latest", "alice", secret)
    with open(f"/proc/{process.pid}/cmdline", "rb") as cmdline, open(f"/proc/{process.pid}/environ", "rb") as environ:
        assert secret.encode() not in cmdline.read() + environ.read()
    out, err = process.communicate(timeout=30)
    assert secret not in out + err
    assert subprocess.run(["grep", "-r", "S3cret", store.path], capture_output=True).returncode == 1


def test_a_host_that_does_not_exist(store):
    """Each of the tries fails before there is a connection."""
    with pytest.raises(PullError) as error:
        store.pull("registry.invalid/app:1")
    assert error.value.code == UNAVAILABLE and "registry.invalid" in error.value.message
    assert store.litter() == []
