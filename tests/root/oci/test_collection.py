"""Garbage collection by the command line while the helper pulls into the same store."""

import itertools
import json
import os
import random
import subprocess
import threading

import pytest

from helper import DRIVER, PullError, tree
from layout import Layer
from server import Server


def collect(store):
    return subprocess.run([DRIVER, "gc", "--all", "--data-dir", store.path], capture_output=True, text=True, check=True,
                          timeout=60).stdout


def layer(name, size=300_000):
    content = bytes(itertools.islice(itertools.cycle(name.encode() + b"\n"), size))
    return Layer().file(name, content)


@pytest.fixture
def server():
    with Server() as running:
        yield running



def test_a_layer_that_a_pull_reuses_stays(store, server):
    """Collected are the image that brought it, and everything else, while the pull waits for its other layer."""
    base, first, second = ((entry.blob(0), entry.tar()) for entry in map(layer, ("base", "first", "second")))
    server.add_image("a", [base, first])
    store.pull(f"{server.address}/a:1")
    server.add_image("b", [base, second])
    [slow] = [path for path, (_, data) in server.content.items() if path.startswith("/v2/b/") and data == second[0]]
    asked, go_on = threading.Event(), threading.Event()

    def wait(_):
        asked.set()
        assert go_on.wait(60)

    server.rules[slow] = wait
    pull = store.start(f"{server.address}/b:1")
    try:
        assert asked.wait(30)
        said = collect(store)
        assert f"{server.address}/a:1" in said and store.index() == []
    finally:
        go_on.set()
    out, _ = pull.communicate(timeout=60)
    assert '"done"' in out and pull.returncode == 0, out
    with store.mounted(f"{server.address}/b:1") as root:
        assert sorted(tree(root)) == ["base", "second"]
    assert store.litter() == []
    assert server.count("GET", "/v2/b/blobs/") == 2  # its config and its own layer


def test_images_come_and_go_at_once(store, server):
    """Two pull images that share layers, one collects all that it may: each pull is complete when it ends."""
    seed = int(os.environ.get("COLLECTION_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"COLLECTION_SEED={seed}")
    layers = [(entry.blob(0), entry.tar()) for entry in (layer(str(n), 50_000) for n in range(6))]
    for n in range(6):
        server.add_image(f"i{n}", [layers[0], *layers[1:n + 1]])
    store.pull(f"{server.address}/i0:1")  # a store that is not there cannot be collected
    done, failures = threading.Event(), []

    def pull(who):
        choose = random.Random(f"{seed}-{who}")
        try:
            for _ in range(15):
                store.pull(f"{server.address}/i{choose.randrange(6)}:1")
        except Exception as error:
            failures.append(error)

    def keep_collecting():
        try:
            while not done.is_set():
                collect(store)
        except Exception as error:
            failures.append(error)

    pulls = [threading.Thread(target=pull, args=(who,)) for who in range(2)]
    collector = threading.Thread(target=keep_collecting)
    for thread in [*pulls, collector]:
        thread.start()
    for thread in pulls:
        thread.join()
    done.set()
    collector.join()
    assert failures == []
    # What is there now is whole.
    store.pull(f"{server.address}/i5:1")
    with store.mounted(f"{server.address}/i5:1") as root:
        assert sorted(tree(root)) == ["0", "1", "2", "3", "4", "5"]
    for entry in store.index():
        for folder in store.layer_dirs(entry["annotations"]["org.opencontainers.image.ref.name"]):
            assert folder.is_dir()
    assert store.litter() == []


def driver(store, *args):
    return subprocess.run([DRIVER, *args, "--data-dir", store.path], capture_output=True, text=True, timeout=120)


def test_an_uncompressed_bottom_layer(store, server):
    """Its blob and its folder have one name, and in the trash each one of its own."""
    plain, packed = layer("plain"), layer("packed")
    server.add_image("a", [(plain.tar(), plain.tar()), (packed.blob(0), packed.tar())])
    reference = f"{server.address}/a:1"
    store.pull(reference)
    bottom = store.layer_dirs(reference)[0]
    assert (store.path / "blobs/sha256" / bottom.name).exists()
    done = driver(store, "rmi", reference)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert store.index() == []
    for folder in ("blobs/sha256", "layers", "trash"):
        assert list((store.path / folder).iterdir()) == [], folder


@pytest.fixture
def two(store, server):
    """Two images, and the file in the one layer that both have."""
    shared, first, second = ((entry.blob(0), entry.tar()) for entry in map(layer, ("shared", "first", "second")))
    server.add_image("a", [shared, first])
    server.add_image("b", [shared, second])
    for name in "ab":
        store.pull(f"{server.address}/{name}:1")
    return store.layer_dirs(f"{server.address}/a:1")[0] / "shared"


def only_one_stays(store, where):
    assert store.index() == [] and list((store.path / "blobs/sha256").iterdir()) == []
    assert len(list((store.path / where).iterdir())) == 1


def test_an_immutable_file_stops_nothing_else(store, two):
    if subprocess.run(["chattr", "+i", two], capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        done = driver(store, "gc", "--all")
        assert done.returncode == 1 and "trash/image-layer-" in done.stderr, done.stderr
        only_one_stays(store, "trash")
        assert list((store.path / "layers").iterdir()) == []
    finally:
        [path] = [*store.path.glob("trash/*/shared"), *store.path.glob("layers/*/shared")]
        subprocess.run(["chattr", "-i", path], check=True)
    assert driver(store, "gc").returncode == 0
    assert list((store.path / "trash").iterdir()) == []


def test_a_busy_layer_stops_nothing_else(store, two):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", two.parent], check=True)
    try:
        done = driver(store, "gc", "--all")
        assert done.returncode == 1 and f"layers/{two.parent.name}" in done.stderr, done.stderr
        only_one_stays(store, "layers")
    finally:
        subprocess.run(["umount", two.parent], check=True)


def compact(document):
    return json.dumps(document, separators=(",", ":"))


def test_a_full_index_refuses_the_next_image_and_nothing_else(store, server):
    """What thousands of pulls of a CI's tags leave."""
    for name in "ab":
        content = layer(name)
        server.add_image(name, [(content.blob(0), content.tar())])
    first, second = (f"{server.address}/{name}:1" for name in "ab")
    store.pull(first)
    document = json.loads((store.path / "index.json").read_text())
    [entry] = document["manifests"]
    room = (4 << 20) - len(compact(document))
    for number in itertools.count():
        reference = f"registry.example.com/team/application:ci-2026-11-27-{number:07}"
        named = {key: reference for key in ("org.opencontainers.image.ref.name", "io.containerd.image.name")}
        another = entry | {"annotations": entry["annotations"] | named}
        room -= len(compact(another)) + 1
        if room < 0:
            break
        document["manifests"].append(another)
        last = reference
    assert number > 5000
    (store.path / "index.json").write_text(compact(document))
    before = server.count("GET", "/v2/b/")
    refused = driver(store, "pull", second)
    assert refused.returncode == 1 and "containerd-driver rmi" in refused.stderr, refused.stderr
    assert server.count("GET", "/v2/b/") == before
    with pytest.raises(PullError, match="rmi"):
        store.pull(second)  # a helper that nobody has asked beforehand
    assert driver(store, "pull", first).returncode == 0
    assert first in driver(store, "images").stdout
    removed = driver(store, "rmi", last)
    assert removed.returncode == 0 and removed.stderr == "", removed.stderr
    assert driver(store, "fsck").returncode == 0
    pulled = driver(store, "pull", second)
    assert pulled.returncode == 0, pulled.stderr
