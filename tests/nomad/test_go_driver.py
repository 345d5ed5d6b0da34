"""The jobs of example/, unchanged, on an agent with example/agent.hcl: what the Go driver's shell tests 001 to 011 check.

Where those were weak (they never looked whose container runs, at one cgroup version, at any signal that arrives), these
are not. With GO_DRIVER_EXAMPLES=/path/to/folder the job files there, which are not part of this repository, are run too.
"""

import re
from pathlib import Path

import pytest

import stock
from nomad import ROOT, leftovers, read, terminal, wait_for

EXAMPLES = sorted(path.stem for path in (ROOT / "example").glob("*.nomad"))
DENIED = "pull access denied, repository does not exist or may require authorization"


@pytest.fixture(scope="module")
def agent(program, registry, locked_registry):
    with stock.host_files():
        running = stock.StockAgent(program, (ROOT / "example/agent.hcl").read_text(), registry, locked_registry)
        try:
            yield running.start()
        finally:
            running.stop()


@pytest.fixture
def run(agent):
    """Runs a job text, and at its end does what the shell tests do: stop, look whether it is dead, purge. And looks
    whether anything of it is left."""
    running = {}

    def submit(hcl):
        job = agent.run(hcl)
        return running.setdefault(job.id, job)

    yield submit
    for job in running.values():
        job.stop()
        wait_for(lambda: f"job {job.id} does not end: {[a.events() for a in job.allocs()]}",
                 lambda: agent.get(f"/v1/job/{job.id}")["Status"] == "dead" and
                 all(terminal(a.info()) for a in job.allocs()), 60)
        marks = [alloc.id for alloc in job.allocs()]
        bad = [alloc.events() for alloc in job.allocs() if alloc.info()["ClientStatus"] not in ("complete", "failed")]
        assert not bad, bad
        job.stop(purge=True)
        keep = {agent.process.pid, agent.plugin_pid()}
        agent.collect()
        wait_for(lambda: f"left of {job.id}: {leftovers(marks, keep)}", lambda: not leftovers(marks, keep))


@pytest.fixture
def example(run):
    return lambda name: run((ROOT / f"example/{name}.nomad").read_text())


def execute(alloc, *command):
    """Runs a command in the task, as the shell tests do: exit code and output, stderr behind stdout."""
    done = alloc.exec(*command)
    return done.returncode, (done.stdout + done.stderr).decode()


def output(alloc, *command):
    code, out = execute(alloc, *command)
    assert code == 0, out
    return out


def status_field(alloc, name):
    return re.search(rf"^{name}:\s*(\S+)", output(alloc, "cat", "/proc/1/status"), re.M)[1]


def task_cgroup(alloc, controller):
    """The folder of the task's cgroup, of cgroup v1's `controller` or of v2."""
    for line in read(f"/proc/{alloc.pid()}/cgroup").decode().splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}"), 1
        if number == "0" and Path(f"/sys/fs/cgroup{path}/memory.max").exists():
            return Path(f"/sys/fs/cgroup{path}"), 2
    raise AssertionError(f"no {controller} cgroup")


def test_the_node_is_ready(agent):
    node = agent.node()
    assert node["Drivers"]["containerd-driver"]["Healthy"] and node["Status"] == "ready"
    assert len(EXAMPLES) == 13


def test_001_redis(example):
    job = example("redis")
    alloc = job.running()[0]
    # At once: the task is running when Nomad says so.
    assert output(alloc, "pwd") == "/home/redis\n"
    assert output(alloc, "hostname") == "foobar\n"
    assert status_field(alloc, "Seccomp") == "2"
    assert job.agent.get("/v1/job/redis")["Status"] == "running"
    folder, version = task_cgroup(alloc, "memory")
    names = {1: ["memory.soft_limit_in_bytes", "memory.limit_in_bytes"], 2: ["memory.low", "memory.max"]}[version]
    assert [int((folder / name).read_text()) for name in names] == [256 << 20, 512 << 20]
    assert any("127.0.0.1:1 does not serve docker.io/library/redis:alpine, asking the next" in e for e in alloc.events())
    alloc.wait_log("Ready to accept connections")  # through the image's own entry point, as its user
    assert re.search(rb"^Uid:\s*999\s", read(f"/proc/{alloc.pid()}/status"), re.M)


def test_002_signal(example):
    alloc = example("signal").running()[0]
    alloc.wait_log("Waiting for signals.")
    with pytest.raises(Exception, match="Invalid signal: INVALID"):
        alloc.signal("INVALID")
    for name in ["SIGHUP", "SIGUSR1", "SIGUSR2"]:
        alloc.signal(name)
        alloc.wait_log(f"Received signal: {name}")
    assert alloc.state() == "running"


def test_003_capabilities(example):
    alloc = example("capabilities").running()[0]
    # A command has what the task has, not more and not less.
    task = output(alloc, "capsh", f"--decode={status_field(alloc, 'CapEff')}")
    printed = output(alloc, "capsh", "--print")
    current, bounding = (re.search(rf"^{line}(.*)$", printed, re.M)[1] for line in ["Current:", "Bounding set ="])
    for have in [task, current, bounding]:
        for name in ["cap_sys_admin", "cap_ipc_owner", "cap_ipc_lock"]:
            assert name in have
        for name in ["cap_chown", "cap_sys_chroot", "cap_dac_override"]:
            assert name not in have
    code, out = execute(alloc, "touch", "/tmp/file.txt")
    assert code != 0 and "Read-only file system" in out


def test_004_privileged(example):
    stock.write("/tmp/s1/bind.txt", "hello\n")
    alloc = example("privileged").running()[0]
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    host = int(re.search(r"^CapBnd:\s*(\S+)", Path("/proc/self/status").read_text(), re.M)[1], 16)
    assert host & (1 << last)  # else this machine cannot tell
    assert int(status_field(alloc, "CapBnd"), 16) == host
    assert output(alloc, "cat", "/tmp/t1/bind.txt") == "hello\n"
    assert " /tmp/t1 " in output(alloc, "cat", "/proc/self/mountinfo")
    code, out = execute(alloc, "touch", "/tmp/t1/x")
    assert code != 0 and "Read-only file system" in out
    for device in ["/dev/loop0", "/dev/loop1"]:
        assert output(alloc, "stat", "-c", "%F", device) == "block special file\n"


def test_005_volume_mount(example):
    volume = Path("/tmp/host_volume/s1")
    stock.write(volume / "bind.txt", "hello\n")
    (volume / "writable_test.txt").unlink(missing_ok=True)
    alloc = example("volume_mount").running()[0]
    for folder in ["/tmp/t1", "/tmp/read_only_target"]:
        assert output(alloc, "cat", f"{folder}/bind.txt") == "hello\n"
    code, out = execute(alloc, "touch", "/tmp/read_only_target/writable_test.txt")
    assert code != 0 and "Read-only file system" in out
    assert not (volume / "writable_test.txt").exists()
    output(alloc, "touch", "/tmp/t1/writable_test.txt")
    assert (volume / "writable_test.txt").exists()


def test_006_dns(example):
    alloc = example("dns").running()[0]
    lines = output(alloc, "cat", "/etc/resolv.conf").splitlines()
    for line in ["nameserver 127.0.0.1", "nameserver 127.0.0.2", "search internal.corp", "options ndots:2"]:
        assert line in lines
    assert output(alloc, "cat", "/proc/sys/net/core/somaxconn") == "16384\n"
    assert output(alloc, "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"


def test_007_extra_hosts(example):
    alloc = example("extra_hosts").running()[0]
    lines = output(alloc, "cat", "/etc/hosts").splitlines()
    assert "127.0.1.1\tpostgres" in lines and "127.0.1.2\tredis" in lines
    assert any(re.match(r"127\.0\.0\.1\s.*\blocalhost\b", line) for line in lines)
    assert Path(f"/proc/{alloc.pid()}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()


def test_008_entrypoint(example):
    alloc = example("entrypoint").running()[0]
    alloc.wait_log("container1 container2\ncontainer1 container2\n")
    assert read(f"/proc/{alloc.pid()}/cmdline").startswith(b"/bin/bash\0-c\0for i in {1..100}")


def test_009_auth(example):
    job = example("auth")
    alloc = job.alloc()
    event = alloc.wait_event("Driver Failure")
    assert DENIED in event
    wait_for(lambda: f"not failed: {alloc.events()}", lambda: alloc.info()["ClientStatus"] == "failed")
    assert alloc.task_state()["Restarts"] == 0  # nothing is gained by another try on this node


def test_010_template(example):
    alloc = example("mosquitto").running()[0]
    path = "/mosquitto/config/mosquitto.conf"
    assert output(alloc, "cat", path) == (alloc.local() / "mosquitto.conf").read_text()
    assert "allow_anonymous true" in output(alloc, "cat", path)


def test_011_privileged_not_allowed(agent, example):
    with agent.with_option("allow_privileged = false"):
        alloc = example("privileged_not_allowed").alloc()
        # A client that registers before its server has its key again waits up to 30 s before it asks for work.
        alloc.wait_event("Received")
        event = alloc.wait_event("Driver Failure")
        assert "Running privileged jobs are not allowed" in event
        wait_for(lambda: f"not failed: {alloc.events()}", lambda: alloc.info()["ClientStatus"] == "failed")
        assert not any("Pulling" in e for e in alloc.events())  # refused before anything is fetched
    # And the node takes it again.
    example("privileged_not_allowed").running()


def test_hello(example):
    alloc = example("hello").running()[0]
    line = "Hello world: sleeping for 3 seconds.\n"
    alloc.wait_log(line + line)  # they keep coming


def test_stress(example):
    alloc = example("stress").running()[0]

    def busy():
        usage = alloc.stats()["ResourceUsage"]
        return usage if usage and usage["CpuStats"]["Percent"] > 3 else None

    usage = wait_for(lambda: f"it is not busy: {alloc.stats()}", busy)
    assert usage["MemoryStats"]["RSS"] + usage["MemoryStats"]["Usage"] > 1 << 20


@pytest.mark.parametrize("path", stock.foreign_jobs(), ids=lambda path: path.name)
def test_foreign_example(run, path):
    """A job file of someone else's, byte for byte."""
    stock.write("/tmp/s1/bind.txt", "hello\n")
    job = run(path.read_text())
    if path.stem == "auth":
        assert DENIED in job.alloc().wait_event("Driver Failure")
    else:
        assert job.running()[0].pid()
