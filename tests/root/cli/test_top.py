"""top: the processes of a container."""

import re
import time

import pytest

BUSYBOX = "library/busybox:latest"


@pytest.fixture
def box(node):
    ran = node.call("run", "-d", "--name", "box", node.image(BUSYBOX), "sh", "-c", "sleep 600 & exec sleep 601")
    assert ran.returncode == 0, ran
    yield "box"
    node.call("rm", "-f", "box")


def rows(done):
    assert done.returncode == 0, done
    return [re.split("  +", line) for line in done.stdout.splitlines()]


def test_processes_as_the_container_sees_them(node, box):
    titles, first, second = rows(node.call("top", box))
    assert titles == ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]
    assert first[:3] == ["root", "1", "0"] and first[-1] == "sleep 601"
    assert second[0] == "root" and second[2] == "1" and second[-1] == "sleep 600"
    assert re.fullmatch(r"[\d.]+s", first[4])


def test_columns_of_ones_own(node, box):
    node.call("exec", "-d", "-u", "7:8", box, "sleep", "602")
    table = []
    deadline = time.monotonic() + 30
    while len(table) < 4:
        assert time.monotonic() < deadline, table
        table = rows(node.call("top", box, "pid", "hpid", "huser", "group", "comm"))
    assert table[0] == ["PID", "HPID", "HUSER", "GROUP", "COMMAND"]
    pid = node.call("inspect", "--format", "{{.State.Pid}}", box).stdout.strip()
    assert table[1] == ["1", pid, "0", "root", "sleep"]
    assert table[3][2] == "7" and table[3][4] == "sleep"


def test_a_terminal_and_a_name_that_a_terminal_would_obey(node):
    ran = node.call("run", "-d", "-t", "--name", "tty", node.image(BUSYBOX), "sh", "-c",
                    "exec sh -c 'while :; do sleep 600; done' $(printf '\\033[31mred')")
    assert ran.returncode == 0, ran
    shown = node.call("top", "tty").stdout
    assert "pts/0" in shown and "\x1b" not in shown and "\\x1b[31mred" in shown
    assert node.call("rm", "-f", "tty").returncode == 0


def test_errors(node, box):
    assert node.call("top").returncode == 125
    column = node.call("top", box, "pod")
    assert column.returncode == 125 and 'there is no column "pod"' in column.stderr
    missing = node.call("top", "nobody")
    assert missing.returncode == 125 and "there is no container nobody" in missing.stderr
    node.call("stop", "-t", "0", box)
    ended = node.call("top", box)
    assert ended.returncode == 125 and ended.stderr == f"containerd-driver: {box} is not running\n"
