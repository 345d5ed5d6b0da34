"""Mistakes and broken things: what the operator reads in the allocation's events, and whether it is tried again."""

import http.server
import json
import threading

import pytest

import jobs
from nomad import with_images
from registry import PASSWORD, USERNAME, free_port

DENIED = "pull access denied, repository does not exist or may require authorization"

# name: (driver config, words of the event)
MISTAKES = {
    "malformed reference": ({"image": "Not A Reference!"}, ["Not A Reference!"]),
    "unknown tag": ({"image": "busybox:nope"}, ["nope"]),
    "unknown command": (jobs.shell("x") | {"command": "reids"}, ["reids", "not found"]),
    "not executable": (jobs.shell("x") | {"command": "/etc/not-executable"}, ["/etc/not-executable", "permission denied"]),
    "mount source missing": (jobs.shell("x", mounts=[
        {"type": "bind", "source": "/no/such/folder", "target": "/mnt", "options": ["rbind", "ro"]}]), ["/no/such/folder"]),
    "unknown capability": (jobs.shell("x", cap_add=["CAP_FLYING"]), ["CAP_FLYING"]),
    "layer is not gzip": ({"image": "broken/not-gzip:1"}, ["broken/not-gzip"]),
    "wrong diffID": ({"image": "broken/diffid:1"}, ["broken/diffid"]),
    "wrong digest": ({"image": "broken/digest:1"}, ["broken/digest"]),
    "wrong architecture": ({"image": "broken/arch:1"}, ["s390x"]),
    "bad pull timeout": (jobs.shell("x", image_pull_timeout="soon"), ["image_pull_timeout", "soon"]),
}


@pytest.fixture(scope="module")
def failed(agent, registry):
    """All the mistakes, made at once: the agent takes 4 seconds to close the log of a task that never wrote."""
    made = {}
    for name, (config, _) in MISTAKES.items():
        text = jobs.job(config, restarts=2)
        made[name] = agent.run(text if name == "malformed reference" else with_images(text, registry))
    yield made
    for job in made.values():
        job.stop(purge=True)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(failed, name):
    _failed_for_good(failed[name].alloc().wait_state("dead"), *MISTAKES[name][1])


def test_unknown_user(run):
    alloc = run(jobs.job(jobs.shell("x"), task='user = "nosuchuser"', restarts=2)).alloc().wait_state("dead")
    _failed_for_good(alloc, "nosuchuser")


def test_unknown_option(run):
    alloc = run(jobs.job(jobs.shell("x", imagee="y"))).alloc().wait_state("dead")
    assert any("imagee" in event for event in alloc.events()), alloc.events()


def test_registry_unreachable_is_tried_again(run):
    where = f"127.0.0.1:{free_port()}"
    alloc = run(jobs.job(jobs.shell("x"), restarts=1), where).alloc().wait_state("dead")
    events = alloc.events()
    assert any("Driver Failure" in e and where in e for e in events), events
    assert any(e.startswith("Restarting") for e in events), events


def test_wrong_password(run, locked_registry):
    config = jobs.shell("x", auth={"username": USERNAME, "password": "guess"})
    alloc = run(jobs.job(config, restarts=2), locked_registry).alloc().wait_state("dead")
    _failed_for_good(alloc, DENIED)
    assert not any("guess" in event for event in alloc.events())


def test_no_password(run, locked_registry):
    alloc = run(jobs.job(jobs.shell("x"), restarts=2), locked_registry).alloc().wait_state("dead")
    _failed_for_good(alloc, DENIED)


def test_right_password(run, locked_registry, agent):
    config = jobs.shell("echo in", auth={"username": USERNAME, "password": PASSWORD})
    alloc = run(jobs.job(config), locked_registry).alloc().wait_state("dead")
    assert alloc.exit_code() == 0, alloc.events()
    assert PASSWORD not in agent.log


@pytest.mark.parametrize("status,code", [(401, "UNAUTHORIZED"), (403, "DENIED")])
def test_denied_after_a_token(run, status, code):
    """What Docker Hub does for a repository that does not exist or is private: a token, and then no."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _hub(status, code))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        where = f"127.0.0.1:{server.server_address[1]}"
        alloc = run(jobs.job(jobs.shell("x"), restarts=2), where).alloc().wait_state("dead")
        _failed_for_good(alloc, DENIED)
    finally:
        server.shutdown()


def _failed_for_good(alloc, *words):
    state, events = alloc.task_state(), alloc.events()
    assert state["Failed"] and state["Restarts"] == 0, events
    failure = next((e for e in events if e.startswith("Driver Failure")), None)
    assert failure, events
    for word in words:
        assert word in failure, failure


def _hub(status, code):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            if self.path.startswith("/token"):
                self.answer(200, {"token": "anonymous", "access_token": "anonymous", "expires_in": 300})
            elif self.headers.get("Authorization") == "Bearer anonymous":
                self.answer(status, {"errors": [{"code": code, "message": "requested access to the resource is denied"}]})
            else:
                port = self.server.server_address[1]
                challenge = f'Bearer realm="http://127.0.0.1:{port}/token",service="hub",scope="repository:x:pull"'
                self.answer(401, {"errors": [{"code": "UNAUTHORIZED"}]}, {"WWW-Authenticate": challenge})

        do_HEAD = do_GET  # noqa: N815

        def answer(self, number, body, headers=None):
            data = json.dumps(body).encode()
            self.send_response(number)
            for key, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    return Handler
