"""Commands that act on a container that another process has started: exec, stop, kill, wait."""

import hashlib
import os
import signal
import subprocess

import pytest
from test_run import wait_for_line, wait_until_running


@pytest.fixture
def web(node):
    """A running container of that name; ends with 41 at SIGTERM."""
    script = "trap 'exit 41' TERM; trap 'echo hup' HUP; echo up; while :; do sleep 0.1; done"
    with node.start("run", "--rm", "--name", "web", node.image("library/busybox:latest"), "sh", "-c", script,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_line(process, "up")
        wait_until_running(node)
        yield process
        node.call("rm", "-f", "web")
        process.wait(30)


def test_exec_output_input_and_exit_codes(node, web):
    ran = node.call("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("out\n", "err\n", 3)
    ran = node.call("exec", "-i", "web", "cat", input="one\ntwo")
    assert (ran.stdout, ran.returncode) == ("one\ntwo", 0)
    ran = node.call("exec", "web", "sh", "-c", "cat; echo end", input="not for it")
    assert (ran.stdout, ran.returncode) == ("end\n", 0)
    for command, code in ((["/etc"], 126), (["no-such-command"], 127), (["sh", "-c", "kill -9 $$"], 137)):
        assert node.call("exec", "web", *command).returncode == code
    for words in (["nosuch", "true"], ["web"], [], ["--nosuch", "web", "true"], ["-u", "nobodyatall", "web", "true"]):
        ran = node.call("exec", *words)
        assert ran.returncode == 125 and ran.stderr.startswith("containerd-driver: "), ran


def test_exec_moves_every_byte(node, web):
    data = os.urandom(8 << 20)
    ran = subprocess.run(node.argv("exec", "-i", "web", "sh", "-c", "cat > /f; sha256sum < /f"), input=data,
                         capture_output=True, timeout=60)
    assert ran.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest(), ran.stderr
    ran = subprocess.run(node.argv("exec", "web", "cat", "/f"), capture_output=True, timeout=60)
    assert ran.stdout == data
    ran = subprocess.run(node.argv("exec", "-i", "web", "cat"), input=data, capture_output=True, timeout=60)
    assert ran.stdout == data
    ran = subprocess.run(node.argv("exec", "-i", "web", "true"), input=data, capture_output=True, timeout=60)
    assert ran.returncode == 0


def test_exec_as_somebody_somewhere(node, web):
    ran = node.call("exec", "-u", "nobody", "-w", "/tmp", "-e", "A=b", "-e", "PATH=/bin", "web", "sh", "-c",
                    "id -un; pwd; echo $A $PATH")
    assert ran.stdout == "nobody\n/tmp\nb /bin\n", ran
    assert node.call("exec", "-t", "web", "tty").stdout == "/dev/pts/0\n"


def test_a_slow_reader_of_exec_gets_all(node, web):
    ran = subprocess.run(["bash", "-c", '"$@" | { sleep 1; wc -c; }', "bash",
                          *node.argv("exec", "web", "sh", "-c", "yes 0123456789abcde | head -c 8388608")],
                         capture_output=True, text=True, timeout=60)
    assert ran.stdout == "8388608\n", ran


def test_a_reader_of_exec_that_goes_ends_the_command(node, web):
    ran = subprocess.run(["bash", "-c", '"$@" | head -1', "bash", *node.argv("exec", "web", "yes")],
                         capture_output=True, text=True, timeout=60)
    assert ran.stdout == "y\n", ran
    assert node.call("exec", "web", "pidof", "yes").stdout == ""


def test_an_interrupted_exec_takes_its_command_along(node, web):
    with node.start("exec", "web", "sh", "-c", "echo ready; sleep 1000", stdout=subprocess.PIPE) as process:
        wait_for_line(process, "ready")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert "sleep 1000" not in node.call("exec", "web", "ps").stdout
    assert web.poll() is None


def test_stop(node, web):
    assert node.call("stop", "nosuch", "web").returncode == 125  # and yet
    assert web.wait(30) == 41
    assert node.call("stop", "nosuch").returncode == 125


def test_stop_kills_what_does_not_listen(node):
    with node.start("run", "--rm", "--name", "deaf", node.image("library/busybox:latest"), "sh", "-c",
                    "echo up; sleep 1000", stdout=subprocess.PIPE) as process:
        wait_for_line(process, "up")
        wait_until_running(node)
        stopped = node.call("stop", "-t", "0", "deaf")
        assert (stopped.stdout, stopped.returncode) == ("deaf\n", 0), stopped
        assert process.wait(30) == 137


def test_kill(node, web):
    for name in ("HUP", "SIGHUP", "hup", "1"):
        assert node.call("kill", "-s", name, "web").returncode == 0
        wait_for_line(web, "hup")
    for name in ("NOPE", "SIG", "", "99"):
        assert node.call("kill", "-s", name, "web").returncode == 125
    assert node.call("kill", "web").stdout == "web\n"
    assert web.wait(30) == 137


def test_wait(node, web):
    with node.start("wait", "web", stdout=subprocess.PIPE) as waiting:
        assert node.call("stop", "web").returncode == 0
        assert waiting.communicate(timeout=30)[0] == "41\n"
