"""One pull, killed at 50 random moments: the helper, or the command line that started it. Each next one goes on."""

import json
import os
import random
import signal
import subprocess
import tarfile
import tempfile
import threading
import time

import pytest

from helper import DRIVER, PROGRAM, digest_of, tree
from layout import Layer
from server import Answer, Server

KILLS = 50
LAYERS, LAYER_BYTES = 6, 20_000_000
# What a kill may cost: of each connection, the piece that is collected for one large write (blob.cc), and what the
# sockets' buffers hold. The image is so large that starting over would be far more: it would be sent twice and again that.
CONNECTIONS = 3
IN_FLIGHT_BYTES_MAX = CONNECTIONS * ((256 << 10) + (128 << 10))
PIECE = 32 << 10


class Counting(Server):
    """Serves blobs in small pieces, slowly enough to be killed in the middle, and counts what it has sent of each."""

    def __init__(self):
        super().__init__()
        self.sent, self.slow, self._count_lock = 0, True, threading.Lock()

    def serve_slowly(self, path):
        def rule(request):
            _, data = self.content[path]
            start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
            return Answer(206 if start else 200, headers, self._pieces(data[start:]), len(data) - start)

        self.rules[path] = rule

    def _pieces(self, data):
        for at in range(0, len(data), PIECE):
            if self.slow:
                time.sleep(0.002)  # the speed of the line, nothing waits for it
            with self._count_lock:
                self.sent += len(data[at:at + PIECE])
            yield data[at:at + PIECE]


@pytest.fixture
def server():
    with Counting() as running:
        yield running


def start(store, reference, by_driver):
    if by_driver:
        return subprocess.Popen([DRIVER, "pull", "--data-dir", store.path, "--image-helper", PROGRAM, reference],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return store.start(reference)


def processes_of(store):
    """Command lines of what still works in the store."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if any(link.startswith(str(store.path)) for link in links):
            found.append(pid)
    return found


def test_fifty_kills_in_one_pull(memory_store, server):
    store = memory_store
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"KILL_SEED={seed}")
    choose = random.Random(seed)
    layers = [Layer().file(f"f{n}", random.Random(n).randbytes(LAYER_BYTES)) for n in range(LAYERS)]
    server.add_image("a", [(layer.blob(0), layer.tar()) for layer in layers])
    blobs = [(path, len(data)) for path, (_, data) in server.content.items() if "/blobs/" in path]
    for path, _ in blobs:
        server.serve_slowly(path)
    total = sum(size for _, size in blobs)
    reference = f"{server.address}/a:1"

    cut = 0
    for _ in range(KILLS):
        by_driver = choose.random() < 0.5
        before, most = server.sent, choose.randrange(total // 25)
        process = start(store, reference, by_driver)
        deadline = time.monotonic() + 30
        while server.sent - before < most and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        cut += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
        deadline = time.monotonic() + 10
        while left := processes_of(store):
            assert time.monotonic() < deadline, left
            time.sleep(0.005)
    assert cut > KILLS // 2, "the pull was over too early"

    server.slow = False
    store.pull(reference)
    assert store.litter() == []
    with store.mounted(reference) as root:
        assert {name: entry[-1] for name, entry in tree(root).items()} == {
            f"f{n}": digest_of(random.Random(n).randbytes(LAYER_BYTES)) for n in range(LAYERS)}
    said = subprocess.run([DRIVER, "fsck", "--data-dir", store.path], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stdout
    assert server.sent <= total * 1.1 + cut * IN_FLIGHT_BYTES_MAX, f"{server.sent} of {total} bytes, {cut} kills"
    print(f"{server.sent / total:.2f} times the image was sent, {cut} of {KILLS} kills came while it was fetched")


def start_load(store, archive):
    """The helper with `archive` to be read from descriptor 3."""
    request = {"data_dir": str(store.path), "reference": "", "username": "", "password": "", "hosts_dir": "",
               "archive": True}
    return subprocess.Popen(["bash", "-c", f"exec 3<&{archive}; exec {PROGRAM} <<< '{json.dumps(request)}'"],
                            pass_fds=[archive], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_a_killed_load_has_read_goes_with_the_next_one(memory_store):
    store = memory_store
    entry = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
    entry.size = 10 << 20
    reader, writer = os.pipe()
    with open(writer, "wb") as archive:
        load = start_load(store, reader)
        os.close(reader)
        archive.write(entry.tobuf() + bytes(1 << 20))
        archive.flush()
        deadline = time.monotonic() + 30
        while not [path for path in store.path.glob("ingest/*/*") if path.stat().st_size]:
            assert load.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        load.kill()
        load.communicate(timeout=30)
    while left := processes_of(store):
        assert time.monotonic() < deadline, left
        time.sleep(0.005)
    assert store.litter() != []
    with tempfile.TemporaryFile() as nothing:
        out, _ = start_load(store, nothing.fileno()).communicate(timeout=30)
    assert "this is not an image archive" in out
    assert store.litter() == []
