"""64 bytes in each place where a pull has a secret; afterwards, and while it runs, they are nowhere else."""

import base64
import json
import os
import resource
import secrets
import subprocess
import threading
from pathlib import Path

import pytest

from helper import DRIVER, PULL_DENIED
from layout import Layer
from server import Answer, Server

KINDS = ("password", "bearer token", "identity token", "token refused")


def forms_of(secret):
    """As it is, and as headers carry it."""
    return [secret.encode(), base64.b64encode(f"alice:{secret}".encode()).rstrip(b"=")[8:-4],
            base64.b64encode(secret.encode()).rstrip(b"=")]


def holds(data, needles):
    return any(form in data for secret in needles for form in forms_of(secret))


def descendants(pid):
    found = [pid]
    for parent in found:
        for task in os.listdir(f"/proc/{parent}/task"):
            found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
    return found


def guard(server, kind, secret, token):
    """Everything needs `token`, which the token server gives for the secret."""
    def give(request):
        if kind == "token refused":
            return Answer(403, {}, b'{"details":"no"}')
        if kind == "identity token":
            known = secret in getattr(request, "form", "")
        else:
            known = base64.b64encode(f"alice:{secret}".encode()).decode() in request.headers.get("Authorization", "")
        return Answer(200, {}, json.dumps({"token": token}).encode()) if known else Answer(401)

    def check(request):
        if request.headers.get("Authorization") == f"Bearer {token}":
            return None
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{server.address}/token",service="test"'})

    for path in list(server.content):
        server.rules[path] = check
    server.rules["/token"] = give
    return check


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_nowhere(store, kind):
    secret, token = secrets.token_hex(32), secrets.token_hex(32)
    needles = [secret, token]
    body = os.urandom(2_000_000)
    layer = Layer().file("f", body)
    arrived, go_on = threading.Event(), threading.Event()
    with Server() as server:
        server.add_image("a", [(layer.blob(0), layer.tar())])
        check = guard(server, kind, secret, token)
        [path] = [p for p, (_, data) in server.content.items() if len(data) > 1_000_000]
        data = server.content[path][1]

        def stall():
            yield data[:1_000_000]
            arrived.set()
            go_on.wait(60)
            yield data[1_000_000:]

        server.rules[path] = lambda request: check(request) or Answer(200, {}, stall(), length=len(data))
        process = store.start(f"{server.address}/a:1", "" if kind == "identity token" else "alice", secret)
        if kind != "token refused":
            assert arrived.wait(30)
            pids = descendants(process.pid)
            assert len(pids) == 3
            for pid in pids:
                for name in ("cmdline", "environ"):
                    assert not holds(Path(f"/proc/{pid}/{name}").read_bytes(), needles), name
                [core] = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line]
                assert core.split()[-3:-1] == ["0", "0"]
        go_on.set()
        out, err = process.communicate(timeout=60)
    assert ('"done"' in out) == (kind != "token refused")
    assert kind != "token refused" or PULL_DENIED in out
    assert not holds((out + err).encode(), needles)
    files = [path for path in store.path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if holds(path.read_bytes(), needles)]


def test_no_flag_takes_a_secret():
    """So that none can end in a shell's history, or in the list of processes."""
    usage = subprocess.run([DRIVER, "help", "pull"], capture_output=True, text=True, check=True).stdout
    assert "password" not in usage and "token" not in usage


def test_a_core_holds_nothing(store):
    """Killed by a signal that dumps core, the helper leaves none, whatever the limit that it was started with."""
    with Server() as server:
        stuck, go_on = threading.Event(), threading.Event()

        def wait(_):
            stuck.set()
            go_on.wait(60)

        server.rules["/v2/a/manifests/1"] = wait
        limits = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
        process = store.start(f"{server.address}/a:1", "alice", secrets.token_hex(32))
        resource.setrlimit(resource.RLIMIT_CORE, limits)
        try:
            assert stuck.wait(30)
            os.kill(process.pid, 6)
            status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert status.si_code != os.CLD_DUMPED and status.si_status == 6
        finally:
            go_on.set()
            process.kill()
            process.communicate(timeout=10)
