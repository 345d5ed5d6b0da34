"""What a person sees of a pull, and a program."""

import json
import os
import pty
import random
import subprocess
import threading

import pytest

from helper import DRIVER, PROGRAM
from layout import Layer
from server import Answer, Server

BYTES = 3_000_000


@pytest.fixture
def halfway():
    """An image of two layers, each of which stops in its middle until it is told to go on."""
    go_on = threading.Event()
    with Server() as server:
        layers = [Layer().file(f"f{n}", random.Random(n).randbytes(BYTES)) for n in range(2)]
        server.add_image("a", [(layer.blob(0), layer.tar()) for layer in layers])

        def stop_halfway(path):
            data = server.content[path][1]

            def pieces():
                yield data[:BYTES // 2]
                assert go_on.wait(60)
                yield data[BYTES // 2:]

            server.rules[path] = lambda _: Answer(200, {}, pieces(), len(data))

        big = [path for path, (_, data) in server.content.items() if len(data) > BYTES]
        for path in big:
            stop_halfway(path)
        yield f"{server.address}/a:1", sorted(path.rpartition(":")[2] for path in big), go_on
        go_on.set()


def pull(store, reference, *flags, **streams):
    return subprocess.Popen([DRIVER, "pull", "--data-dir", store.path, "--image-helper", PROGRAM, *flags, reference],
                            stdin=subprocess.DEVNULL, **streams)


def test_a_bar_for_each_layer(store, halfway):
    reference, digests, go_on = halfway
    ours, theirs = pty.openpty()
    process = pull(store, reference, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    text = ""
    while not all(f"{digest[:12]} [=======> " in text for digest in digests):
        text += os.read(ours, 4096).decode()
    assert "MB, 0 of 2 layers unpacked" in text
    go_on.set()
    try:
        while piece := os.read(ours, 4096).decode():
            text += piece
    except OSError:  # a terminal's way to say that nobody has it open
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert "2 of 2 layers unpacked" in text and text.endswith("\r\x1b[J")


def test_lines_for_a_program(store, halfway):
    reference, digests, go_on = halfway
    process = pull(store, reference, "-o", "json", stdout=subprocess.PIPE)
    for line in process.stdout:
        under_way = json.loads(line)["under_way"]
        if len(under_way) == 2 and all(layer["bytes_done"] >= BYTES // 2 for layer in under_way):
            break
    assert sorted(layer["digest"] for layer in under_way) == [f"sha256:{digest}" for digest in digests]
    assert all(layer["bytes_done"] < layer["bytes_total"] for layer in under_way)
    go_on.set()
    *_, last, done = map(json.loads, process.stdout)
    assert process.wait(60) == 0 and done["event"] == "done"
    assert last["under_way"] == [] and last["layers_done"] == last["layers_total"] == 2
