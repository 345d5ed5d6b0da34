"""A stage of the image helper that was taken over tries to get out (attacker.cc): what it is told each time.

ENOSYS   the list of system calls · EAFNOSUPPORT no such sockets · ENOENT not in its view · EROFS, EBUSY a mount is there
"""

import contextlib
import ctypes
import os
import pty
import socket
import stat
import subprocess

import pytest

from helper import ATTACKER


def names(text):
    return [name.strip() for line in text.splitlines() for name in line.split("|") if name.strip()]


NOT_ALLOWED = dict.fromkeys(names("""
    TIOCSTI|TIOCSTI, high half|TIOCLINUX|TIOCSCTTY|TIOCSETD
    kill|tgkill|queue a signal|signal by F_SETOWN|signal by F_SETOWN, high half|signal by F_SETSIG|pidfd|ptrace
    read memory|write memory|schedule|priority|limit
    setuid|setgroups|capset|ambient capability|securebits|dumpable|another filter
    a setuid program|a program by descriptor|a program in memory|fork|fork, new user namespace|clone3|unshare|setns
    mount|open_tree|move_mount|fsopen|pivot_root|chroot|file by handle|handle of a file
    bpf|io_uring|perf|userfaultfd|keyctl|add_key|kexec|reboot|init_module|finit_module|delete_module|swapon|syslog
    set the clock|set the host name|acct|quotactl|personality|fanotify
    uncover tasks
    """), "ENOSYS")
NOT_THERE = dict.fromkeys(names("""
    /dev/tty|read passwords|read a key|read root's files|see sockets|read a record
    core pattern|cgroup|sysrq
    /proc/PARENT/mem|/proc/PARENT/root|/proc/PARENT/environ|/proc/1/root|/proc/self/mem
    """), "ENOENT")

FETCH = NOT_ALLOWED | NOT_THERE | {
    "unix socket": "EAFNOSUPPORT",
    "unix socket, high half": "EAFNOSUPPORT",
    "abstract socket": "EAFNOSUPPORT",
    "datagram to a socket": "EAFNOSUPPORT",
    "pair of datagrams": "ENOSYS",
    "pair of streams": "EISCONN",
    "raw packets": "ENOSYS",
    "raw IP": "ENOSYS",
    "audit": "ENOSYS",
    "vsock": "ENOSYS",
    "kernel crypto": "ENOSYS",
    "descriptor of a peer": "ENOSYS",
    "change the host": "EROFS",
    "change a library": "EROFS",
    "change a record": "ENOENT",
    "make a task": "EROFS",
    "rename tasks": "EBUSY",
    "replace tasks": "EBUSY",
    "exchange tasks": "EBUSY",
    "remove tasks": "EBUSY",
    "record by the read-only store": "ENOENT",
    "write by the read-only store": "EROFS",
    "up from the store": "ENOENT",
    "read somebody's file": "ENODATA",
    "change somebody's file": "EROFS",
    "remove somebody's file": "EBUSY",
    "write to the archive": "EROFS",
    "let users in": "ENOSYS",
    "let users in by descriptor": "ENOSYS",
    "link in ingest": "ENOSYS",
    "device in ingest": "ENOSYS",
}
UNPACK = NOT_ALLOWED | NOT_THERE | {
    "internet": "ENOSYS",
    "machine code": "ENOSYS",
    "change a lower layer": "EROFS",
    "follow a link": "ELOOP",
    "open a device": "EACCES",
    "up from staging": "ENOENT",
    "change the root": "EROFS",
    "change the host": "ENOENT",
    "change a library": "ENOENT",
    "change a record": "ENOENT",
    "make a task": "ENOENT",
    "rename tasks": "ENOSYS",
    "replace tasks": "ENOSYS",
    "exchange tasks": "ENOSYS",
    "remove tasks": "ENOENT",
    "record by the read-only store": "EBADF",
    "write by the read-only store": "EBADF",
    "up from the store": "EBADF",
    "read somebody's file": "ENOENT",
    "change somebody's file": "ENOENT",
    "remove somebody's file": "ENOENT",
    "write to the archive": "ENOENT",
    "let users in": "ENOENT",
    "let users in by descriptor": "EBADF",
    "link in ingest": "ENOENT",
    "device in ingest": "ENOENT",
}


@contextlib.contextmanager
def listening(address):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        try:
            yield server
        finally:
            if not address.startswith("\0"):
                os.unlink(address)


@pytest.fixture
def target(store):
    """What there is to be had: a task's record, somebody's file in data_dir, sockets, and an archive."""
    for name in ("tasks/a", "ingest/mine", "layers/below", "blobs/sha256"):
        (store.path / name).mkdir(parents=True)
    (store.path / "tasks/a/record.json").write_text("{}")
    (store.path / "somebodys").write_text("text")
    (store.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    archive = store.path.with_name("archive")
    archive.write_text("archive")
    return store.path, archive


def attack(stage, data_dir, archive):
    """name → error. The terminal is the attacker's own, as a shell's would be that started it."""
    def become_a_job():
        os.setsid()
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.ioctl(2, 0x540E, 0) == 0  # TIOCSCTTY
        os.dup2(archive_fd, 3)

    name = f"containerd-driver-test-{os.getpid()}"
    master, terminal = pty.openpty()
    with listening(f"/run/{name}.sock"), listening(f"\0{name}"), open(archive) as opened:
        archive_fd = opened.fileno()
        with subprocess.Popen([ATTACKER, stage, data_dir, str(os.getpid()), f"/run/{name}.sock", name],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=terminal, text=True,
                              preexec_fn=become_a_job, pass_fds=[3]) as process:
            out, _ = process.communicate(timeout=60)
    os.close(terminal)
    os.close(master)
    return dict(line.split("\t") for line in out.splitlines())


@pytest.mark.parametrize("stage, expected", [("fetch", FETCH), ("unpack", UNPACK)])
def test_a_stage_that_was_taken_over(target, stage, expected):
    data_dir, archive = target
    said = attack(stage, data_dir, archive)
    assert {name: (said.get(name), wanted) for name, wanted in expected.items() if said.get(name) != wanted} == {}
    assert set(said) == set(expected)
    assert (data_dir / "tasks/a/record.json").read_text() == "{}" and os.listdir(data_dir / "tasks") == ["a"]
    assert (data_dir / "somebodys").read_text() == "text" and archive.read_text() == "archive"


def test_a_data_dir_without_tasks(target):
    """Then they are made, so that the fetch stage cannot be the one who makes them."""
    data_dir, archive = target
    (data_dir / "tasks/a/record.json").unlink()
    (data_dir / "tasks/a").rmdir()
    (data_dir / "tasks").rmdir()
    said = attack("fetch", data_dir, archive)
    assert said["make a task"] == "EROFS" and said["replace tasks"] == "EBUSY"
    assert stat.S_IMODE((data_dir / "tasks").stat().st_mode) == 0o700


def test_tasks_behind_a_link(target):
    """A link could be replaced; it is not clear either what it would lead to in there."""
    data_dir, archive = target
    (data_dir / "tasks").rename(data_dir / "elsewhere")
    (data_dir / "tasks").symlink_to("elsewhere")
    assert "tasks is not a folder" in attack("fetch", data_dir, archive)["failed"]


def ask_starter(data_dir, folder, layer=""):
    done = subprocess.run([ATTACKER, "starter", data_dir, folder, layer], capture_output=True, text=True, timeout=30)
    return done.stdout.strip().split("\t")


def test_the_starter_follows_no_links(target, tmp_path):
    """The fetch stage can move a link that an image brought along to any name in data_dir."""
    data_dir, _ = target
    assert ask_starter(data_dir, "mine") == ["started", "0"]
    host = tmp_path / "host"
    (host / "0").mkdir(parents=True)
    chain_id = "1" * 64
    (data_dir / "ingest/evil").symlink_to(host)
    (data_dir / "layers" / chain_id).symlink_to(host)
    for request in (("evil",), ("mine", chain_id)):
        kind, message = ask_starter(data_dir, *request)
        assert kind == "failed" and "Too many levels of symbolic links" in message, message
    (data_dir / "ingest").rename(data_dir / "old")
    (data_dir / "ingest").symlink_to(tmp_path)
    kind, message = ask_starter(data_dir, "host")
    assert kind == "failed" and "Too many levels of symbolic links" in message, message


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_the_starter_takes_folders_only(target, kind):
    data_dir, _ = target
    place = data_dir / "ingest/other"
    if kind == "file":
        place.write_text("x")
    else:
        os.mkfifo(place)
    said, message = ask_starter(data_dir, "other")
    assert said == "failed" and "Not a directory" in message, message
