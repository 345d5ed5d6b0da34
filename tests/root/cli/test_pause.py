"""pause and unpause: containers whose processes stand still."""

import json

import pytest

BUSYBOX = "library/busybox:latest"


@pytest.fixture
def counter(node):
    """A container that counts into a file, and what it has counted."""
    line = "while :; do echo x >> /count; done"
    ran = node.call("run", "-d", "--name", "counter", node.image(BUSYBOX), "sh", "-c", line)
    assert ran.returncode == 0, ran

    def count():
        root = node.call("inspect", "--format", "/proc/{{.State.Pid}}/root", "counter").stdout.strip()
        with open(f"{root}/count", "rb") as file:
            return len(file.read())

    yield count
    node.call("rm", "-f", "counter")


def state(node):
    return node.call("inspect", "--format", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}", "counter").stdout


def test_it_stands_still_and_runs_on(node, counter):
    assert node.call("pause", "counter").stdout == "counter\n"
    assert state(node) == "paused true true\n"
    before = counter()
    assert node.call("ps", "--format", "{{.State}} {{.Status}}").stdout == "paused Paused\n"
    assert node.call("ps", "--filter", "status=paused", "--format", "{{.Names}}").stdout == "counter\n"
    assert node.call("ps", "--filter", "status=running", "-q").stdout == ""
    assert counter() == before
    assert node.call("unpause", "counter").stdout == "counter\n"
    assert state(node) == "running true false\n"
    node.call("exec", "counter", "sh", "-c", f"until [ $(wc -c < /count) -gt {before} ]; do :; done")
    assert counter() > before


def test_what_is_not_as_it_has_to_be(node, counter):
    for verb, words in [("unpause", "not paused"), ("pause", ""), ("pause", "paused already")]:
        done = node.call(verb, "counter")
        assert done.returncode == (125 if words else 0) and words in done.stderr, done
    for flags in ([], ["-d"]):
        inside = node.call("exec", *flags, "counter", "true")
        assert inside.returncode == 125 and "counter is paused: unpause it first" in inside.stderr, inside
    missing = node.call("pause", "nobody")
    assert missing.returncode == 125 and "there is no container nobody" in missing.stderr
    assert node.call("pause").returncode == 125
    assert node.call("pause", "--all", "counter").returncode == 125
    assert node.call("stop", "-t", "0", "counter").returncode == 0
    for verb in ("pause", "unpause"):
        ended = node.call(verb, "counter")
        assert ended.returncode == 125 and "not running" in ended.stderr, ended


def test_all_of_them(node, counter):
    assert node.call("create", "--name", "created", node.image(BUSYBOX)).returncode == 0
    assert len(node.call("pause", "--all").stdout.split()) == 1
    assert node.call("pause", "-a").stdout == ""
    assert [one["State"] for one in json.loads(node.call("ps", "--format", "json").stdout)] == ["paused"]
    assert len(node.call("unpause", "--all").stdout.split()) == 1
    assert state(node).startswith("running ")
    assert node.call("rm", "created").returncode == 0


def test_a_paused_one_is_stopped_killed_and_removed(node, counter):
    assert node.call("pause", "counter").returncode == 0
    assert node.call("stop", "-t", "1", "counter").returncode == 0
    assert node.call("start", "counter").returncode == 0
    assert node.call("pause", "counter").returncode == 0
    assert node.call("rm", "-f", "counter").returncode == 0


def test_help_has_examples(node):
    assert "containerd-driver pause web\n" in node.call("pause", "--help").stdout
