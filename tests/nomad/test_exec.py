"""`nomad alloc exec` by the nomad program itself, signals, and scripts that templates run."""

import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from fcntl import ioctl

import jobs
from nomad import ENVIRONMENT, pids, read, wait_for


def sleeper(run, **more):
    alloc = run(jobs.job(jobs.shell("echo up; exec sleep 100000", **more), kind="service")).running()[0]
    alloc.wait_log("up")
    return alloc


class Terminal:
    """`nomad alloc exec -i -t` on a terminal of its own."""

    def __init__(self, agent, alloc, *command, size=(24, 80)):
        self.main, side = pty.openpty()
        self.out = b""
        self.resize(*size)
        self.process = subprocess.Popen(
            [agent.program, "alloc", "exec", "-i", "-t", "-task", alloc.task(), alloc.id, *command],
            env={**ENVIRONMENT, "NOMAD_ADDR": agent.url, "TERM": "xterm"}, stdin=side, stdout=side, stderr=side,
            start_new_session=True, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0))
        os.close(side)

    def resize(self, rows, columns):
        ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def say(self, text):
        os.write(self.main, text.encode())

    def read(self):
        while select.select([self.main], [], [], 0)[0]:
            try:
                data = os.read(self.main, 65536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self.out += data

    def wait_for(self, pattern, seconds=20):
        def found():
            self.read()
            return re.search(pattern, self.out.decode(errors="replace"))

        return wait_for(lambda: f"no {pattern!r} on the terminal: {self.out!r}", found, seconds)

    def end(self):
        def ended():
            self.read()
            return self.process.poll() is not None

        wait_for(lambda: f"the command does not end: {self.out!r}", ended)
        self.read()
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.main)


def running(text):
    return [pid for pid in pids() if text.encode() in read(f"/proc/{pid}/cmdline").replace(b"\0", b" ")
            and b"nomad" not in read(f"/proc/{pid}/cmdline").split(b"\0")[0]]


def test_outputs_and_exit_code(run):
    alloc = sleeper(run)
    done = alloc.exec("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    done = alloc.exec("true")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = alloc.exec("nosuchcommand")
    assert done.returncode == 127
    assert b'exec: "nosuchcommand": executable file not found in $PATH' in done.stderr


def test_input_and_its_end(run):
    alloc = sleeper(run)
    sent = os.urandom(1_000_000)
    done = alloc.exec("cat", options=["-i"], input=sent)
    assert done.returncode == 0 and done.stdout == sent
    assert alloc.exec("wc", "-c", options=["-i"], input=b"").stdout.strip() == b"0"
    assert alloc.exec("sha256sum", options=["-i"], input=b"abc").stdout.startswith(b"ba7816bf")


def test_environment_of_the_task(run):
    alloc = sleeper(run, cwd="/tmp")
    done = alloc.exec("sh", "-c", "pwd; echo $NOMAD_ALLOC_ID; grep ^Seccomp: /proc/self/status")
    assert done.stdout.decode().split() == ["/tmp", alloc.id, "Seccomp:", "2"]


def test_terminal(run, agent):
    alloc = sleeper(run)
    with contextlib.closing(Terminal(agent, alloc, "/bin/sh", size=(33, 77))) as terminal:
        terminal.say("test -t 0 && test -t 1 && test -t 2 && echo a''ll terminals\n")
        terminal.wait_for("all terminals")
        terminal.say("stty size | sed 's/^/size /'\n")
        terminal.wait_for("size 33 77")
        terminal.resize(44, 88)  # the kernel tells the client
        seen = time.monotonic() + 20
        while b"size 44 88" not in terminal.out and time.monotonic() < seen:
            terminal.say("stty size | sed 's/^/size /'\n")
            with contextlib.suppress(AssertionError):
                terminal.wait_for("size 44 88", 0.3)
        assert b"size 44 88" in terminal.out
        terminal.say("echo r''eady; sleep 72201\n")
        terminal.wait_for("ready")
        wait_for("no sleep", lambda: running("sleep 72201"))
        terminal.say("\x03")
        terminal.say("echo code $?; exit 6\n")
        terminal.wait_for("code 130")
        assert terminal.end() == 6
    wait_for("the sleep is left", lambda: not running("sleep 72201"))


def sent_bytes(pid):
    """What a process has sent over the TCP connections that it has."""
    sockets = subprocess.run(["ss", "-tinpHO"], check=True, capture_output=True, text=True).stdout
    return sum(int(n) for line in sockets.splitlines() if f"pid={pid}," in line
               for n in re.findall(r"\bbytes_sent:(\d+)", line))


def wait_heartbeat(pid):
    """Waits until a client that has been silent for a while sends something."""
    last, since = sent_bytes(pid), time.monotonic()

    def beat():
        nonlocal last, since
        now = sent_bytes(pid)
        if now == last:
            return False
        silent, last, since = time.monotonic() - since, now, time.monotonic()
        return silent > 3

    wait_for("the client sends no heartbeat", beat)


def test_client_that_goes(run, agent):
    alloc = sleeper(run)
    for tty in (False, True):
        if tty:
            terminal = Terminal(agent, alloc, "sh", "-c", "sleep 72202 & sleep 72202")
            client = terminal.process
        else:
            client = subprocess.Popen(
                [agent.program, "alloc", "exec", "-task", alloc.task(), alloc.id, "sh", "-c", "sleep 72202 & sleep 72202"],
                env={**ENVIRONMENT, "NOMAD_ADDR": agent.url}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_for("the command does not run", lambda: len(running("sleep 72202")) >= 2)
        # An agent does not tell that its client is gone. What tells is that no heartbeat comes any more, after the first,
        # which the client sends when it is 10 s old.
        wait_heartbeat(client.pid)
        client.send_signal(signal.SIGKILL)
        client.wait()
        wait_for("the command outlives its client", lambda: not running("sleep 72202"))
        if tty:
            terminal.close()
        else:
            client.stdin.close()
    assert alloc.state() == "running"


def test_signals(run, agent):
    alloc = run(jobs.job({"image": "shm32/signal_handler:1.0"}, kind="service")).running()[0]
    alloc.wait_log("Waiting")
    for name in ("SIGHUP", "SIGUSR2", "SIGWINCH"):
        alloc.signal(name)
        alloc.wait_log(f"Received signal: {name}")
    done = subprocess.run([agent.program, "alloc", "signal", "-s", "SIGNONSENSE", alloc.id, alloc.task()],
                          env={**ENVIRONMENT, "NOMAD_ADDR": agent.url}, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0 and b"Invalid signal: SIGNONSENSE" in done.stderr + done.stdout
    assert alloc.state() == "running"


def test_script_of_a_template(run, agent):
    """change_mode = "script" runs by ExecTask, in the task, when the rendered text changes."""
    alloc = run(jobs.job(jobs.shell("cat /local/text; exec sleep 100000"), kind="service", task='''
      template {
        data        = "{{ if nomadVarExists \\"nomad/jobs\\" }}{{ with nomadVar \\"nomad/jobs\\" }}value {{ .word }}{{ end }}{{ else }}no value{{ end }}\\n"
        destination = "local/text"
        change_mode = "script"
        change_script {
          command       = "/bin/sh"
          args          = ["-c", "cat /local/text > /alloc/data/changed"]
          timeout       = "20s"
          fail_on_error = true
        }
      }''')).running()[0]
    alloc.wait_log("no value")
    agent.put("/v1/var/nomad/jobs", {"Path": "nomad/jobs", "Items": {"word": "new"}})
    try:
        changed = agent.base / "data/alloc" / alloc.id / "alloc/data/changed"
        wait_for(lambda: f"the script did not run: {alloc.events()}", lambda: read(changed) == b"value new\n")
        assert alloc.state() == "running" and alloc.task_state()["Restarts"] == 0
    finally:
        agent.delete("/v1/var/nomad/jobs")
