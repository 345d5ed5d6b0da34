"""attach: our terminal as that of a container which runs on by itself."""

import os
import pty
import select
import signal
import subprocess
import time

import pytest

BUSYBOX = "library/busybox:latest"


@pytest.fixture
def detached(node):
    names = []

    def start(*command, flags=()):
        name = f"d{len(names)}"
        names.append(name)
        ran = node.call("run", "-d", "--name", name, *flags, node.image(BUSYBOX), *command)
        assert ran.returncode == 0, ran
        return name

    yield start
    node.call("rm", "-f", *names)


class Screen:
    """`attach` on a terminal of its own."""

    def __init__(self, node, *args):
        self.master, slave = pty.openpty()
        self.process = node.start("attach", *args, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.seen = b""

    def type(self, data):
        os.write(self.master, data)

    def until(self, text, seconds=30):
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)

    def end(self):
        code = self.process.wait(30)
        os.close(self.master)
        return code


def is_running(node, name):
    return node.call("inspect", "--format", "{{.State.Running}}", name).stdout == "true\n"


def first_line(process):
    return process.stdout.readline()


def until_line(process, wanted):
    for line in process.stdout:
        if line.replace("\r", "") == wanted:
            return
    raise AssertionError(f"{wanted!r} does not come")


def test_a_shell_is_left_and_come_back_to(node, detached):
    name = detached("sh", flags=["-it"])
    screen = Screen(node, name)
    screen.type(b"echo sum $((40+2))\r")
    screen.until(b"sum 42")
    screen.type(b"\x10\x11")
    assert screen.end() == 0 and is_running(node, name)
    again = Screen(node, "--detach-keys", "ctrl-@,x", name)
    again.type(b"echo x$((50+5))\r")
    again.until(b"x55")
    again.type(b"\0x")
    assert again.end() == 0 and is_running(node, name)
    last = Screen(node, name)
    last.type(b"exit 5\r")
    assert last.end() == 5


def test_input_that_is_no_terminal(node, detached):
    name = detached("sh", "-c", "stty -echo; while echo ready; read -r line; do echo \"got $line\"; done", flags=["-it"])
    attached = node.start("attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    attached.stdin.write("one\n")
    attached.stdin.flush()
    until_line(attached, "got one\n")
    attached.stdin.close()  # the container's stays open
    other = node.start("attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdin.write("two\n")
    other.stdin.flush()
    for one in (attached, other):
        until_line(one, "got two\n")
    node.call("kill", name)
    assert attached.wait(30) == other.wait(30) == 137
    other.stdin.close()


def test_both_streams_from_now_on(node, detached):
    line = "echo before; until [ -e /go ]; do echo tick; sleep 0.05; done; printf out; echo err >&2; exit 3"
    name = detached("sh", "-c", line)
    first = node.start("attach", name, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    until_line(first, "tick\n")
    attached = node.start("attach", name, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert first_line(attached) == "tick\n"
    assert node.call("exec", name, "touch", "/go").returncode == 0
    out, err = attached.communicate(timeout=30)
    assert (out.replace("tick\n", ""), err, attached.returncode) == ("out", "err\n", 3)
    first.communicate(timeout=30)
    assert first.returncode == 3


def test_signals_are_the_containers(node, detached):
    name = detached("sh", "-c", "trap 'exit 4' TERM; while :; do echo here; sleep 0.1; done")
    attached = node.start("attach", name, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert first_line(attached) == "here\n"
    attached.send_signal(signal.SIGTERM)
    attached.stdout.read()
    assert attached.wait(30) == 4


def test_or_end_the_attach(node, detached):
    name = detached("sh", "-c", "while :; do echo here; sleep 0.1; done")
    attached = node.start("attach", "--sig-proxy=false", name, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert first_line(attached) == "here\n"
    attached.send_signal(signal.SIGINT)
    assert attached.wait(30) == 130 and is_running(node, name)


def test_no_input(node, detached):
    name = detached("sh", "-c", "while sleep 0.1; do echo tick; done", flags=["-it"])
    attached = node.start("attach", "--no-stdin", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    attached.stdin.write("unseen\n")
    attached.stdin.close()
    for _ in range(3):
        until_line(attached, "tick\n")
    assert "unseen" not in node.call("logs", name).stdout
    node.call("kill", name)
    assert attached.wait(30) == 137


def test_input_needs_a_terminal_of_the_containers(node, detached):
    name = detached("sh", "-c", "trap 'exit 4' TERM; while sleep 0.1; do echo tick; done", flags=["-i"])
    attached = node.start("attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until_line(attached, "tick\n")
    node.call("stop", name)
    assert "takes input only with -it" in attached.communicate("x\n", timeout=30)[1]
    assert attached.returncode == 4


def test_a_restart_has_an_input_again(node, detached):
    name = detached("sh", "-c", "read -r line; echo \"got $line\"; exec sleep 600", flags=["-it"])
    for _ in range(2):
        screen = Screen(node, name)
        screen.type(b"x\r")
        screen.until(b"got x")
        assert node.call("restart", "-t", "0", name).returncode == 0
        assert screen.end() == 137


def test_errors(node, detached):
    silent = detached("sleep", "600", flags=["--log-driver", "none"])
    done = node.call("attach", silent)
    assert done.returncode == 125 and "--log-driver none" in done.stderr
    keys = node.call("attach", "--detach-keys", "ctrl-", silent)
    assert keys.returncode == 125 and "is not a key" in keys.stderr
    assert "there is no container nobody" in node.call("attach", "nobody").stderr
    node.call("stop", "-t", "0", silent)
    assert node.call("attach", silent).stderr == f"containerd-driver: {silent} is not running\n"
