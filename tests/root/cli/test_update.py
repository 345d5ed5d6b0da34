"""update: other limits for containers, running or not."""

import pytest

BUSYBOX = "library/busybox:latest"
MEMORY = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null"
PIDS = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2> /dev/null"
CPU = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2> /dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
LIMITS = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpuShares}} {{.HostConfig.NanoCpus}}"


@pytest.fixture
def box(node):
    ran = node.call("run", "-d", "--name", "box", "-m", "64m", "--pids-limit", "60", node.image(BUSYBOX), "sleep", "600")
    assert ran.returncode == 0, ran

    def shell(line):
        done = node.call("exec", "box", "sh", "-c", line)
        assert done.stdout, done
        return done.stdout

    yield shell
    node.call("rm", "-f", "box")


def test_at_once_and_after_a_restart(node, box):
    done = node.call("update", "--memory", "128m", "--pids-limit=50", "--cpus", "0.5", "--cpu-shares", "512", "box")
    assert (done.stdout, done.returncode) == ("box\n", 0), done
    for _ in range(2):
        assert box(MEMORY) == f"{128 << 20}\n"
        assert box(PIDS) == "50\n"
        assert box(CPU) == "50000\n"
        assert node.call("inspect", "--format", LIMITS, "box").stdout == f"{128 << 20} {128 << 20} 50 512 500000000\n"
        assert node.call("restart", "-t", "0", "box").returncode == 0


def test_the_last_one_counts_and_the_others_stay(node, box):
    for limit in ("48m", "32m"):
        assert node.call("update", "-m", limit, "box").returncode == 0
    assert box(MEMORY) == f"{32 << 20}\n" and box(PIDS) == "60\n"
    assert node.call("update", "--pids-limit", "-1", "box").returncode == 0
    assert box(PIDS) != "60\n" and box(MEMORY) == f"{32 << 20}\n"


def test_one_that_does_not_run(node):
    assert node.call("create", "--name", "later", node.image(BUSYBOX), "sh", "-c", MEMORY + "; true").returncode == 0
    assert node.call("update", "-m", "32m", "later").returncode == 0
    assert node.call("start", "later").returncode == 0
    assert node.call("wait", "later").stdout == "0\n"
    assert node.call("logs", "later").stdout == f"{32 << 20}\n"
    assert node.call("rm", "-f", "later").returncode == 0


@pytest.mark.parametrize("flags, words", [
    (["--memory", "much"], "--memory much is not a size"),
    (["--memory-swap", "32m"], "is less than --memory 64m"),
    (["--memory-reservation", "65m"], "above the task's memory limit"),
    (["--cpus", "900"], "must be from 0.01"),
    (["--cpu-shares", "1"], "must be from 2"),
    (["--cpuset-cpus", "4000"], "names core 4000"),
    (["--pids-limit", "some"], "is not a whole number"),
    (["--pids-limit", "1000000000000000000000000"], "too large"),
    ([], "say what to change"),
])
def test_what_cannot_be(node, box, flags, words):
    done = node.call("update", *flags, "box")
    assert done.returncode == 125 and words in done.stderr, done
    assert node.call("inspect", "--format", "{{.HostConfig.Memory}}", "box").stdout == f"{64 << 20}\n"
    assert box(MEMORY) == f"{64 << 20}\n"


def test_names(node, box):
    assert node.call("update", "-m", "1g").returncode == 125
    done = node.call("update", "-m", "96m", "nobody", "box")
    assert done.returncode == 125 and "there is no container nobody" in done.stderr and done.stdout == "box\n"
    assert box(MEMORY) == f"{96 << 20}\n"
