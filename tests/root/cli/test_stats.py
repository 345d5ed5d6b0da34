"""stats: what running containers use."""

import json
import re
import subprocess

import pytest

BUSYBOX = "library/busybox:latest"


@pytest.fixture
def boxes(node):
    """One that is busy and limited, one that sleeps in the host's network."""
    for name, flags, command in [("busy", ["-m", "64m"], "while :; do :; done"), ("calm", ["--network", "host"], "exec sleep 600")]:
        ran = node.call("run", "-d", "--name", name, *flags, node.image(BUSYBOX), "sh", "-c", command)
        assert ran.returncode == 0, ran
    yield
    node.call("rm", "-f", "busy", "calm")


def test_a_table(node, boxes):
    done = node.call("stats", "--no-stream")
    titles, *rows = [re.split("  +", line) for line in done.stdout.splitlines()]
    assert titles == ["ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS"]
    busy, calm = sorted(rows, key=lambda row: row[1])
    assert re.fullmatch("[0-9a-f]{12}", busy[0]) and busy[3].endswith(" / 67.1 MB") and busy[-1] == "1"
    assert float(busy[2].rstrip("%")) > float(calm[2].rstrip("%"))
    assert calm[5] == "-- / --"


def test_json_and_templates(node, boxes):
    [one] = json.loads(node.call("stats", "--no-stream", "-o", "json", "busy").stdout)
    assert one["name"] == "busy" and one["memory_limit_bytes"] == 64 << 20 and one["cpu_percent"] > 0
    assert one["processes"] == 1 and one["memory_bytes"] > 0
    [podman] = json.loads(node.call("stats", "--no-stream", "--format", "json", "calm").stdout)
    assert podman["name"] == "calm" and podman["net_io"] == "-- / --" and podman["pids"] == "1"
    assert set(podman) == {"id", "name", "cpu_percent", "mem_usage", "mem_percent", "net_io", "block_io", "pids"}
    long_id = node.call("inspect", "--format", "{{.Id}}", "busy").stdout
    assert node.call("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "busy").stdout == long_id
    wrong = node.call("stats", "--no-stream", "--format", "{{.Nothing}}", "busy")
    assert wrong.returncode == 125


def test_what_has_passed_through_the_network(node):
    ran = node.call("run", "-d", "--name", "none", "--network", "none", node.image(BUSYBOX), "sleep", "600")
    assert ran.returncode == 0, ran
    [one] = json.loads(node.call("stats", "--no-stream", "-o", "json", "none").stdout)
    assert one["net_received_bytes"] == 0
    assert node.call("rm", "-f", "none").returncode == 0


def test_again_and_again_until_it_ends(node, boxes):
    stream = node.start("stats", "-o", "json", "busy", stdout=subprocess.PIPE)
    first, second = (json.loads(stream.stdout.readline()) for _ in range(2))
    assert first[0]["name"] == second[0]["name"] == "busy"
    assert node.call("stop", "-t", "0", "busy").returncode == 0
    stream.stdout.read()
    assert stream.wait(30) == 0


def test_a_reader_that_goes_ends_it(node, boxes):
    stream = node.start("stats", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert stream.stdout.readline().startswith("ID ")
    stream.stdout.close()
    assert stream.wait(30) == 1
    assert "standard output" in stream.stderr.read()


@pytest.mark.parametrize("args, words", [
    (["nobody"], "there is no container nobody"),
    (["--all", "busy"], "takes no names"),
    (["--interval", "0"], "must be from 1 to"),
    (["-o", "xml"], "not an output format"),
    (["--no-strem"], "did you mean"),
])
def test_errors(node, args, words):
    done = node.call("stats", *args)
    assert done.returncode == 125 and words in done.stderr, done


def test_one_that_does_not_run(node):
    assert node.call("create", "--name", "made", node.image(BUSYBOX)).returncode == 0
    done = node.call("stats", "made")
    assert done.returncode == 125 and "made is not running" in done.stderr
    assert node.call("stats", "--no-stream", "--format", "{{.Name}}").stdout == ""
    assert node.call("rm", "made").returncode == 0
