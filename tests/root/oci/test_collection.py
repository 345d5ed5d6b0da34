"""Garbage collection by the command line while the helper pulls into the same store."""

import itertools
import os
import random
import subprocess
import threading

import pytest

from helper import DRIVER, tree
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
