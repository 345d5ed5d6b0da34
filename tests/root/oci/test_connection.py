"""Pulls over connections that break, crawl, stall or speak something else."""

import contextlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from helper import FAILED_PRECONDITION, INVALID_ARGUMENT, UNAVAILABLE, Store
from server import Answer, Server
from test_server import fails, first_then, image

MEGABYTE = 1_000_000


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.mark.parametrize("part", ["manifests/1", "blobs/"])
def test_reset_at_once(store, server, part):
    reference, _ = image(server)
    for path in [p for p in server.content if part in p]:
        server.rules[path] = first_then(Answer(200, {}, b"", length=1000, reset=True))
    store.pull(reference)


def test_reset_in_the_middle(store, server):
    """What has arrived is kept, as far as the kernel gave it to us before it told of the reset."""
    reference, path = image(server)
    data = server.content[path][1]
    server.rules[path] = first_then(Answer(200, {}, data[:2 * MEGABYTE], length=len(data), reset=True))
    store.pull(reference)
    assert server.count("GET", path) == 2


def test_a_crawl_is_no_stall(store, server):
    reference, path = image(server)
    data = server.content[path][1]

    def crawl():
        for begin in range(0, 2000, 100):
            yield data[begin:begin + 100]
            threading.Event().wait(0.02)
        yield data[2000:]

    server.rules[path] = lambda request: Answer(200, {}, crawl(), length=len(data))
    store.pull(reference)
    assert server.count("GET", path) == 1


@pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="nightly only: takes the minute of the inactivity timeout")
def test_a_stall_is_given_up(store, server):
    reference, path = image(server)
    data = server.content[path][1]
    over = threading.Event()

    def stall():
        yield data[:2 * MEGABYTE]
        over.wait(300)

    server.rules[path] = first_then(Answer(200, {}, stall(), length=len(data)))
    try:
        store.pull(reference, timeout=180)
    finally:
        over.set()
    assert [h.get("Range") for _, p, h in server.requests if p == path] == [None, f"bytes={2 * MEGABYTE}-"]


def test_a_token_that_expires_in_the_middle(store, server):
    """Each token is good for two answers; the second answer about the large blob breaks off."""
    reference, path = image(server)
    data = server.content[path][1]
    issued, left = [], [0]

    def guard(request):
        if issued and request.headers.get("Authorization") == f"Bearer token{len(issued)}" and left[0] > 0:
            left[0] -= 1
            return cut(request) if request.path == path else None
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{server.address}/token",service="s"'})

    def give(request):
        issued.append(request)
        left[0] = 2
        return Answer(200, {}, b'{"token":"token%d"}' % len(issued))

    cut = first_then(Answer(200, {}, data[:MEGABYTE], length=len(data), cut=True))
    for other in list(server.content):
        server.rules[other] = guard
    server.rules["/token"] = give
    store.pull(reference)
    assert len(issued) > 1
    assert [h.get("Range") for _, p, h in server.requests if p == path][-1] == f"bytes={MEGABYTE}-"


def test_a_token_that_is_never_good_again(store, server):
    reference, path = image(server)
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{server.address}/token",service="s"'}
    server.rules[path] = lambda request: Answer(401, challenge)
    server.rules["/token"] = lambda request: Answer(200, {}, b'{"token":"t"}')
    assert "denied" in fails(store, reference).message
    assert server.count("GET", path) <= 3


@contextlib.contextmanager
def raw_server(speech):
    """host:port where a connection's first words are answered with `speech`, then it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve():
            with contextlib.suppress(OSError):  # closed: the end
                while True:
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(speech)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "%s:%d" % listening.getsockname()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


NO_HTTP = {
    "nothing": b"",
    "garbage": bytes(range(256)) * 8,
    "half a status line": b"HTTP/1.1 20",
    "HTTP/0.9": b"<html>hello</html>",
    "no such status": b"HTTP/1.1 999999 what\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
    "a chunk without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFF\r\nx",
    "headers without a blank line": b"HTTP/1.1 200 OK\r\nX: y\r\n",
}
NO_TLS = {
    "plain HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "garbage": bytes(range(256)) * 8,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "a record without end": b"\x16\x03\x03\xff\xff" + bytes(1000),
}


@pytest.mark.parametrize("scheme, speeches", [("http", NO_HTTP), ("https", NO_TLS)])
def test_servers_that_speak_something_else(tmp_path, scheme, speeches):
    """All at once, as each is asked several times with pauses."""
    with contextlib.ExitStack() as servers, ThreadPoolExecutor(len(speeches)) as pool:
        errors = {}
        for name, speech in speeches.items():
            address = servers.enter_context(raw_server(speech))
            store = Store(tmp_path / name.replace("/", " ") / "store")
            folder = store.hosts / address
            folder.mkdir(parents=True)
            (folder / "hosts.toml").write_text(f'server = "{scheme}://{address}"\n')
            errors[name] = pool.submit(fails, store, f"{address}/a:1"), address
        for name, (error, address) in errors.items():
            assert error.result().code in (UNAVAILABLE, FAILED_PRECONDITION, INVALID_ARGUMENT), (name, error.result())
            assert f"{address}/" in error.result().message, (name, error.result())
