"""Standard input and terminals of `containerd-driver run`."""

import fcntl
import hashlib
import os
import pty
import select
import struct
import subprocess
import termios
import time


def test_input_through_a_pipe_and_its_end(node):
    ran = node.run("cat", flags=["-i"], input="one\ntwo\n")
    assert (ran.stdout, ran.returncode) == ("one\ntwo\n", 0), ran


def test_a_script_by_standard_input(node):
    ran = node.run("sh", flags=["-i"], input="echo one\nexit 4\necho never\n")
    assert (ran.stdout, ran.returncode) == ("one\n", 4), ran


def test_much_input_arrives_whole(node):
    data = os.urandom(4 << 20)
    ran = subprocess.run(node.argv("run", "--rm", "-i", node.image("library/busybox:latest"), "sha256sum"), input=data,
                         capture_output=True, timeout=60)
    assert ran.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest(), ran


def test_without_i_the_input_is_left_alone(node):
    script = 'while read line; do "$@" sh -c "cat; echo got $line"; done'
    argv = node.argv("run", "--rm", node.image("library/busybox:latest"))
    ran = subprocess.run(["sh", "-c", script, "sh", *argv], input="1\n2\n", capture_output=True, text=True, timeout=60)
    assert ran.stdout == "got 1\ngot 2\n", ran


def test_a_closed_input_is_an_empty_one(node):
    argv = node.argv("run", "--rm", "-i", node.image("library/busybox:latest"), "sh", "-c", "cat; echo end")
    ran = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *argv], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.returncode) == ("end\n", 0), ran


def test_a_command_that_does_not_read_ends_all_the_same(node):
    argv = node.argv("run", "--rm", "-i", node.image("library/busybox:latest"), "echo", "done")
    ran = subprocess.run(["bash", "-c", 'yes | "$@"', "bash", *argv], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "done\n", ran


class Terminal:
    """A command on a terminal of `rows` x `columns`."""

    def __init__(self, argv, rows=30, columns=90):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)
        self.resize(rows, columns)
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait_for(self, text, key=""):
        """Types `key` each second until `text` is there."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            self.type(key)
            if not select.select([self.fd], [], [], 1)[0]:
                assert time.monotonic() < deadline, (text, self.seen)
                continue
            try:
                self.seen += os.read(self.fd, 4096).decode()
            except OSError:  # the other side is closed
                break
        assert text in self.seen, (text, self.seen)
        self.seen = self.seen.split(text, 1)[1]

    def end(self):
        try:
            while os.read(self.fd, 4096):
                pass
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code


def test_a_shell_on_a_terminal(node):
    assert node.call("pull", node.image("library/busybox:latest")).returncode == 0
    shell = Terminal(node.argv("run", "--rm", "-it", node.image("library/busybox:latest"), "sh"))
    shell.wait_for("# ")
    shell.type("stty size; tty\n")
    shell.wait_for("30 90\r\n/dev/pts/0")
    shell.resize(40, 100)
    shell.wait_for("# ")
    shell.type("(echo re''ady; exec sleep 300)\n")  # in the child: a signal before its fork would not reach it
    shell.wait_for("ready\r\n")
    shell.wait_for("# ", key="\x03")  # is the sleep's, not ours
    shell.type("stty size; echo $?\n")
    shell.wait_for("40 100\r\n0")
    shell.wait_for("# ")
    shell.type("exit 7\n")
    assert shell.end() == 7


def test_a_terminal_is_given_back_as_it_was(node):
    argv = node.argv("run", "--rm", "-it", node.image("library/busybox:latest"), "true")
    shell = Terminal(["/bin/sh", "-c", 'before=$(stty -g); "$@"; test "$before" = "$(stty -g)" && echo sa""me', "sh", *argv])
    shell.wait_for("same")
    assert shell.end() == 0


def test_a_terminal_without_input(node):
    argv = node.argv("run", "--rm", "-t", node.image("library/busybox:latest"), "sh", "-c", "test -t 1 && echo yes")
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (ran.stdout, ran.returncode) == ("yes\n", 0), ran
