"""Containers that outlive their command: run --detach, create, start, restart, logs, exec --detach."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

BUSYBOX = "library/busybox:latest"
COUNT = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done"


def wait_for(check, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)
    return found


def state(node, name):
    return node.call("inspect", "--format", "{{.State.Status}}", name).stdout.strip()


@pytest.fixture
def detached(node):
    """Starts containers, and removes them."""
    names = []

    def start(*command, flags=(), name=None):
        name = name or f"d{len(names)}"
        names.append(name)
        ran = node.call("run", "-d", "--name", name, *flags, node.image(BUSYBOX), *command)
        assert ran.returncode == 0, ran
        assert re.fullmatch("[0-9a-f]{64}\n", ran.stdout)
        return name

    yield start
    node.call("rm", "-f", *names)


def test_it_runs_on_and_its_log_is_kept(node, detached):
    name = detached("sh", "-c", "echo out; echo err >&2; printf part; sleep 0.2; echo ial; exec sleep 600")
    wait_for(lambda: "partial" in node.call("logs", name).stdout)
    logs = node.call("logs", name)
    assert (logs.stdout, logs.stderr) == ("out\npartial\n", "err\n")
    assert state(node, name) == "running"
    assert node.call("exec", name, "echo", "here").stdout == "here\n"
    stamped = node.call("logs", "-t", "--tail", "1", name).stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z partial\n", stamped)


def test_following_ends_with_the_container_and_shows_all(node, detached):
    name = detached("sh", "-c", "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done")
    followed = node.call("logs", "-f", name)
    assert followed.stdout == "".join(f"line {i + 1}\n" for i in range(2000))


def test_logs_since_and_until(node, detached):
    name = detached("sh", "-c", "echo old; exec sleep 600")
    wait_for(lambda: node.call("logs", name).stdout)
    assert node.call("logs", "--since", "1h", name).stdout == "old\n"
    assert node.call("logs", "--since", "2999-01-01T00:00:00Z", name).stdout == ""
    assert node.call("logs", "--until", "1h", name).stdout == ""
    assert node.call("logs", "--since", "yesterday", name).returncode == 125


def test_the_log_is_bounded(node, detached):
    name = detached("sh", "-c", "yes 0123456789abcdef | head -c 40000000; echo end; exec sleep 600")
    wait_for(lambda: node.call("logs", "--tail", "1", name).stdout.endswith("end\n"), 60)
    files = list((node.folder / "data/tasks/.containers").glob("*/log*"))
    assert len(files) == 2 and all(f.stat().st_size <= 10 << 20 for f in files)


def test_how_it_ended_is_known_though_nobody_waited(node, detached):
    name = detached("sh", "-c", "exit 7")
    wait_for(lambda: state(node, name) == "exited")
    assert node.call("inspect", "--format", "{{.State.ExitCode}}", name).stdout == "7\n"
    assert node.call("wait", name).stdout == "7\n"
    both = node.call("wait", name, "nobody", name)
    assert both.stdout == "7\n7\n" and both.returncode == 125 and "nobody" in both.stderr, both


def test_a_start_finds_what_was_written(node, detached):
    name = detached("sh", "-c", "cat /f 2> /dev/null; echo again >> /f")
    for runs in range(1, 4):
        wait_for(lambda: state(node, name) == "exited")
        wait_for(lambda: node.call("logs", name).stdout == "again\n" * (runs * (runs - 1) // 2))
        assert node.call("start", name).returncode == 0


def test_a_container_stays_with_its_image(node, detached):
    """What it has written lies over that one, whatever the name means by now."""
    plain, other, name = node.image(BUSYBOX), node.image("library/probe:latest"), "localhost/app:1"
    for image in (plain, other):
        assert node.call("pull", image).returncode == 0
    assert node.call("tag", plain, name).returncode == 0
    assert node.call("run", "-d", "--name", "d0", name, "sh", "-c",
                     "ls /probe; cat /f; echo kept > /f; exec sleep 600").returncode == 0
    wait_for(lambda: node.call("exec", "d0", "cat", "/f").stdout == "kept\n")
    assert node.call("create", "--name", "d1", name, "sh", "-c", "ls /probe").returncode == 0
    assert node.call("tag", other, name).returncode == 0
    assert "in use" in node.call("rmi", plain).stderr
    assert node.call("restart", "-t", "0", "d0").returncode == 0
    wait_for(lambda: node.call("logs", "d0").stdout == "kept\n")
    assert node.call("start", "d1").returncode == 0
    assert node.call("wait", "d1").stdout == "1\n"
    assert node.call("run", "--rm", "--entrypoint", "ls", name, "/probe").stdout == "/probe\n"
    assert node.call("rm", "-f", "d0", "d1").returncode == 0


def test_by_the_digest_of_an_image(node, detached):
    assert node.call("pull", node.image(BUSYBOX)).returncode == 0
    digest = node.call("inspect", "--type", "image", "--format", "{{.Digest}}", node.image(BUSYBOX)).stdout[7:19]
    assert node.call("run", "-d", "--name", "d0", digest, "sh", "-c", "echo fine").returncode == 0
    assert node.call("wait", "d0").stdout == "0\n"
    assert node.call("start", "d0").returncode == 0
    assert node.call("wait", "d0").stdout == "0\n"
    assert node.call("rm", "d0").returncode == 0


def test_a_start_that_fails_loses_nothing(node, detached):
    source = node.folder / "source"
    source.mkdir()
    name = detached("sh", "-c", "cat /f 2> /dev/null || echo kept > /f", flags=["-v", f"{source}:/s"])
    wait_for(lambda: state(node, name) == "exited")
    source.rmdir()
    failed = node.call("start", name)
    assert failed.returncode == 125 and str(source) in failed.stderr
    source.mkdir()
    assert node.call("start", name).returncode == 0
    wait_for(lambda: node.call("logs", name).stdout == "kept\n")


def test_restart(node, detached):
    name = detached("sh", "-c", COUNT)
    wait_for(lambda: "line 2" in node.call("logs", name).stdout)
    pid = node.call("inspect", "--format", "{{.State.Pid}}", name).stdout
    assert node.call("restart", "-t", "0", name).stdout == f"{name}\n"
    assert state(node, name) == "running"
    assert node.call("inspect", "--format", "{{.State.Pid}}", name).stdout != pid
    wait_for(lambda: node.call("logs", name).stdout.count("line 1\n") == 2)


def test_create_start_and_remove(node):
    made = node.call("create", "--name", "made", node.image(BUSYBOX), "sh", "-c", "echo ran")
    assert made.returncode == 0 and state(node, "made") == "created"
    assert node.call("start", "made").stdout == "made\n"
    wait_for(lambda: node.call("logs", "made").stdout == "ran\n")
    wait_for(lambda: state(node, "made") == "exited")
    assert node.call("rm", "made").returncode == 0
    assert node.call("create", "--name", "unused", node.image(BUSYBOX)).returncode == 0
    assert node.call("rm", "unused").returncode == 0


def test_a_container_stays_what_it_was_made(node, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/file").write_text("from the host\n")
    env = tmp_path / "env"
    env.write_text("A=then\n")
    made = node.call("create", "--name", "kept", "--env-file", str(env), "-e", "B", "-v", "./here:/v", "--mount",
                     "type=bind,src=./here,dst=/m,ro", node.image(BUSYBOX), "sh", "-c", "echo $A $B; cat /v/file /m/file",
                     cwd=tmp_path, env={**os.environ, "B": "too"})
    assert made.returncode == 0, made
    env.unlink()
    assert node.call("start", "kept").returncode == 0
    wait_for(lambda: node.call("logs", "kept").stdout == "then too\n" + "from the host\n" * 2)
    assert node.call("rm", "-f", "kept").returncode == 0


def test_a_name_is_one_container_only(node, detached):
    name = detached("sleep", "600")
    again = node.call("run", "-d", "--name", name, node.image(BUSYBOX), "true")
    assert again.returncode == 125 and "is taken by container" in again.stderr
    assert node.call("run", "--name", "no name", node.image(BUSYBOX), "true").returncode == 125


def test_detached_and_removed_at_its_end(node):
    ran = node.call("run", "-d", "--rm", "--name", "gone", node.image(BUSYBOX), "sleep", "0.2")
    assert ran.returncode == 0
    wait_for(lambda: node.call("ps", "-a", "-q").stdout == "")


def test_a_command_in_the_background(node, detached):
    name = detached("sleep", "600")
    assert node.call("exec", "-d", name, "sh", "-c", "sleep 0.1; echo done > /done; exec sleep 600").returncode == 0
    wait_for(lambda: node.call("exec", name, "cat", "/done").stdout == "done\n")


def test_they_outlive_everything_of_ours_but_their_shims(node, detached):
    names = [detached("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done") for _ in range(8)]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(node.folder) in (process / "cmdline").read_text() and "log-writer" in (process / "cmdline").read_text():
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, UnicodeDecodeError):
            pass
    assert json.loads(node.call("ps", "--format", "json").stdout)
    assert {state(node, name) for name in names} == {"running"}
    assert node.call("exec", names[0], "echo", "on").stdout == "on\n"
    assert node.call("stop", *names).returncode == 0
    assert {node.call("wait", name).stdout for name in names} == {"5\n"}


def test_variables_of_a_file(node):
    path = node.folder / "env"
    path.write_text("# no\n\nA=1\nB=two words\n")
    ran = node.run("sh", "-c", 'echo "$A $B $C"', flags=["--env-file", str(path), "-e", "C=3"])
    assert ran.stdout == "1 two words 3\n"
    path.write_text("A B=1\n")
    bad = node.run("true", flags=["--env-file", str(path)])
    assert bad.returncode == 125 and "line 1" in bad.stderr


@pytest.mark.parametrize("flags, shown, wanted", [
    (["-m", "64m"], "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null", "67108864\n"),
    (["--pids-limit", "50"], "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2> /dev/null", "50\n"),
    (["--ulimit", "nofile=100:200"], "ulimit -n", "100\n"),
    (["--tmpfs", "/t:size=64k"], "grep -c ' /t tmpfs' /proc/mounts", "1\n"),
    (["--mount", "type=tmpfs,target=/t"], "grep -c ' /t tmpfs' /proc/mounts", "1\n"),
    (["--init"], "[ $$ != 1 ] && echo not the first", "not the first\n"),
    (["--shm-size", "128k"], "df -k /dev/shm | tail -1 | awk '{print $2}'", "128\n"),
])
def test_flags_have_their_effect(node, flags, shown, wanted):
    ran = node.run("sh", "-c", shown, flags=flags)
    assert ran.stdout == wanted, ran


@pytest.mark.parametrize("flags", [
    ["--memory", "lots"], ["--cpus", "0"], ["--cpus", "100000"], ["--pull", "perhaps"], ["--restart", "always"],
    ["--stop-signal", "NOPE"], ["--log-driver", "syslog"], ["--mount", "type=bind,target=/x"], ["--pid", "container"],
    ["--memory", "64m", "--memory-swap", "32m"], ["--entrypoint", ""],
])
def test_flags_that_cannot_be(node, flags):
    ran = node.run(flags=flags)
    assert ran.returncode == 125 and ran.stderr.startswith("containerd-driver: --"), ran
