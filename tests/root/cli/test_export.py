"""export: the root file system of a container as a tar."""

import io
import os
import pty
import socket
import subprocess
import tarfile

import pytest

BUSYBOX = "library/busybox:latest"
LONG = "/long/" + "d" * 90 + "/" + "f" * 90


@pytest.fixture
def box(node):
    ran = node.call("run", "-d", "--name", "box", "--tmpfs", "/cache", node.image(BUSYBOX), "sleep", "600")
    assert ran.returncode == 0, ran

    def shell(line):
        done = node.call("exec", "box", "sh", "-c", line)
        assert done.returncode == 0, done
        return done.stdout

    yield shell
    node.call("rm", "-f", "box")


def exported(node, *flags):
    done = subprocess.run(node.argv("export", *flags, "box"), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tarfile.open(fileobj=io.BytesIO(done.stdout)), done.stderr.decode()


def test_all_kinds_of_files(node, box):
    box(f"mkdir -p /new {os.path.dirname(LONG)} && echo text > /new/f && chown 3:4 /new/f && chmod 4751 /new/f")
    box(f"echo deep > {LONG} && ln -s {'t' * 150} /new/far && ln -s f /new/link && ln /new/f /new/hard && mkfifo /new/fifo")
    box("rm -r /home; mkdir -m 1777 /new/sticky; touch -d '2001-02-03 04:05:06' /new/old; echo > /cache/unseen")
    tar, _ = exported(node)
    file = tar.getmember("new/f")
    hard = tar.getmember("new/hard")
    assert {file.islnk(), hard.islnk()} == {False, True} and tar.extractfile("new/f").read() == b"text\n"
    assert (file.mode, file.uid, file.gid) == (0o4751, 3, 4)
    assert tar.extractfile(LONG[1:]).read() == b"deep\n"
    assert tar.getmember("new/far").linkname == "t" * 150 and tar.getmember("new/link").linkname == "f"
    assert tar.getmember("new/fifo").isfifo() and tar.getmember("new/sticky").mode == 0o1777
    assert tar.getmember("new/old").mtime == 981173106
    names = tar.getnames()
    assert "home" not in names and "cache/unseen" not in names and "etc/passwd" in names and "usr/bin/sh" in names
    assert len(names) == len(set(names))


def test_a_file_of_ones_own_and_what_other_programs_make_of_it(node, box, tmp_path):
    box("echo here > /f")
    out = tmp_path / "box.tar"
    assert node.call("export", "-o", str(out), "box").returncode == 0
    assert out.stat().st_mode & 0o777 == 0o600
    listed = subprocess.run(["tar", "-tvf", out], capture_output=True, text=True)
    assert listed.returncode == 0 and listed.stderr == "" and " f\n" in listed.stdout
    node.call("stop", "-t", "0", "box")
    tar, _ = exported(node)
    assert tar.extractfile("f").read() == b"here\n"


def test_a_file_is_replaced_by_a_whole_one_only(node, box, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        (small / "box.tar").write_text("older")
        full = node.call("export", "-o", str(small / "box.tar"), "box")
        assert full.returncode == 125 and "No space left" in full.stderr, full
        assert [path.name for path in small.iterdir()] == ["box.tar"] and (small / "box.tar").read_text() == "older"
    finally:
        subprocess.run(["umount", small], check=True)
    real, link = tmp_path / "real.tar", tmp_path / "link.tar"
    real.write_text("older")
    real.chmod(0o644)
    link.symlink_to(real)
    assert node.call("export", "-o", str(link), "box").returncode == 0
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600 and tarfile.is_tarfile(real)
    named = subprocess.run(node.argv("export", "-o", "-", "box"), stdout=subprocess.PIPE, timeout=60)
    assert named.returncode == 0 and named.stdout == real.read_bytes()


def test_a_socket_is_left_out(node, box):
    pid = node.call("inspect", "--format", "{{.State.Pid}}", "box").stdout.strip()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/{pid}/root/here")
        tar, notes = exported(node)
    assert "here" not in tar.getnames() and "/here is a socket, and left out" in notes


def test_a_file_that_is_mostly_holes(node, box):
    box("truncate -s 5G /small && truncate -s 200G /large")
    done = subprocess.run(node.argv("export", "-o", "/dev/null", "box"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 125 and "/large is sparse" in done.stderr, done


def test_a_reader_that_goes(node, box):
    process = subprocess.Popen(node.argv("export", "box"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(30) == 141
    assert b"exporting box" in process.stderr.read()


def test_never_to_a_terminal(node, box):
    master, slave = pty.openpty()
    done = subprocess.run(node.argv("export", "box"), stdout=slave, stderr=subprocess.PIPE, timeout=60)
    os.close(slave)
    os.close(master)
    assert done.returncode == 125 and b"is a terminal" in done.stderr


def test_errors(node, box, tmp_path):
    assert node.call("export").returncode == 125
    missing = node.call("export", "nobody")
    assert missing.returncode == 125 and "there is no container nobody" in missing.stderr
    folder = node.call("export", "-o", str(tmp_path), "box")
    assert folder.returncode == 125 and "--output" in folder.stderr
    full = subprocess.run(node.argv("export", "-o", "/dev/full", "box"), capture_output=True, text=True, timeout=60)
    assert full.returncode == 125 and "No space left" in full.stderr and os.path.exists("/dev/full")
    assert node.call("create", "--name", "created", node.image(BUSYBOX)).returncode == 0
    assert "is not mounted" in node.call("export", "created").stderr
    node.call("rm", "created")
