"""The agent's cgroups and reserved cores, limits, out of memory, statistics, the order in which tasks end."""

import os
from pathlib import Path

import jobs
import pytest
from nomad import init_pid, pids, read, wait_for

SPIN = "while :; do :; done"


def cgroups(pid):
    """controller → path of a process; "" is v2."""
    lines = [line.split(":", 2)[1:] for line in read(f"/proc/{pid}/cgroup").decode().split()]
    return {controller: path for controllers, path in lines for controller in controllers.split(",")}


def allowed(pid):
    """The processors that a process may use."""
    text = next(line for line in read(f"/proc/{pid}/status").decode().splitlines() if line.startswith("Cpus_allowed_list"))
    cores = set()
    for part in text.split(":")[1].strip().split(","):
        first, _, last = part.partition("-")
        cores |= set(range(int(first), int(last or first) + 1))
    return cores


def limit(pid, v1_controller, v1, v2):
    where = cgroups(pid)
    if v1_controller in where:
        return read(f"/sys/fs/cgroup/{v1_controller}{where[v1_controller]}/{v1}").decode().strip()
    return read(f"/sys/fs/cgroup{where['']}/{v2}").decode().strip()


def test_the_cgroup_is_the_agents(run):
    alloc = run(jobs.job(jobs.probe("sleep"))).running()[0]
    where = cgroups(alloc.pid())
    name = f"{alloc.id}.{alloc.task()}"
    if "freezer" in where:
        for controller in ("freezer", "memory", "cpu", "pids"):
            assert where[controller] == f"/nomad/{name}", where
        assert where["cpuset"] == "/nomad/share"
    else:
        assert where[""] == f"/nomad.slice/share.slice/{name}.scope"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core cannot be reserved and shared")
def test_reserved_cores(run):
    """A task with `cores` has them alone: one that runs already moves away, and comes back."""
    other = run(jobs.job(jobs.shell(SPIN))).running()[0]
    everything = allowed(other.pid())
    job = run(jobs.job(jobs.shell("grep Cpus_allowed_list /proc/self/status; " + SPIN)).replace("cpu    = 20", "cores  = 1"))
    mine = job.running()[0]
    own = allowed(mine.pid())
    assert len(own) == 1 and own < everything
    assert mine.wait_log("Cpus_allowed_list").split()[-1] == str(*own)
    wait_for(lambda: f"another task may use {allowed(other.pid())}, reserved is {own}",
             lambda: allowed(other.pid()) == everything - own, 10)
    job.stop()
    mine.wait_state("dead")
    wait_for(lambda: f"another task may use {allowed(other.pid())} still",
             lambda: allowed(other.pid()) == everything, 10)


def test_shares_and_processes(run):
    alloc = run(jobs.job(jobs.shell("sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & wait", pids_limit=4))).alloc()
    alloc.wait_log("fork", "stderr")  # the shell and three of them fit
    alloc = run(jobs.job(jobs.probe("sleep"))).running()[0]
    assert limit(alloc.pid(), "cpu", "cpu.shares", "cpu.weight") in ("20", "1", "6")  # v2: by the old and the new formula


@pytest.mark.parametrize("maximum, expected", [(64, ("67108864",)), (-1, ("9223372036854771712", "max"))])
def test_memory_max(run, maximum, expected):
    alloc = run(jobs.job(jobs.probe("sleep"), memory=f"32\n        memory_max = {maximum}")).running()[0]
    assert limit(alloc.pid(), "memory", "memory.limit_in_bytes", "memory.max") in expected
    assert limit(alloc.pid(), "memory", "memory.soft_limit_in_bytes", "memory.low") == "33554432"


def test_no_swap(run):
    alloc = run(jobs.job(jobs.probe("sleep"))).running()[0]
    together = limit(alloc.pid(), "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert together in ("", "33554432", "0")  # "" where the kernel does not count swap


def test_the_agents_score_is_not_inherited(run):
    alloc = run(jobs.job(jobs.probe("sleep"))).running()[0]
    assert read(f"/proc/{alloc.pid()}/oom_score_adj") == b"0\n"


def test_out_of_memory_of_a_child(run):
    line = "tail -c 100000000 /dev/zero; echo child: $?; trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"
    job = run(jobs.job(jobs.shell(line), kind="service"))
    alloc = job.running()[0]
    alloc.wait_log("child: 137")
    event = alloc.wait_event("OOM killed: memory limit 32 MiB")  # told while the task runs
    assert "(tail), kills 1" in event
    job.stop()
    alloc.wait_state("dead")
    assert alloc.exit_code() == 0


def test_out_of_memory_of_the_main_process(run):
    alloc = run(jobs.job(jobs.shell("exec tail -c 100000000 /dev/zero"))).alloc().wait_state("dead")
    assert alloc.exit_code() == 137
    alloc.wait_event("OOM killed: memory limit 32 MiB, peak 32 MiB, victim pid ")
    ended = next(e for e in alloc.task_state()["Events"] if e["Type"] == "Terminated")
    assert ended["Signal"] == 9 and ended["Details"].get("oom_killed") == "true", ended


def test_exit_by_signal(run):
    alloc = run(jobs.job(jobs.shell("sh -c 'kill -SEGV $$'; exit $?"))).alloc().wait_state("dead")
    ended = next(e for e in alloc.task_state()["Events"] if e["Type"] == "Terminated")
    assert ended["Signal"] == 11 and ended["ExitCode"] == 139, ended


def test_exit_255(run):
    alloc = run(jobs.job(jobs.probe("exit", "255"))).alloc().wait_state("dead")
    ended = next(e for e in alloc.task_state()["Events"] if e["Type"] == "Terminated")
    assert ended["Signal"] == 0 and ended["ExitCode"] == 255, ended


def test_stop_signal_of_the_image(run):
    line = "trap 'echo got USR1; exit 0' USR1; echo up; while :; do sleep 1000 & wait $!; done"
    job = run(jobs.job({"image": "probe:sigusr1", "entrypoint": ["/bin/sh", "-c", line]}, kind="service",
                       task='kill_timeout = "20s"'))
    alloc = job.running()[0]
    alloc.wait_log("up")
    job.stop()
    alloc.wait_state("dead")
    assert "got USR1" in alloc.logs() and alloc.exit_code() == 0


def test_a_stop_by_force_is_told(run):
    job = run(jobs.job(jobs.probe("ignore"), kind="service", task='kill_timeout = "1s"'))
    alloc = job.running()[0]
    alloc.wait_log("ignoring")
    job.stop()
    alloc.wait_state("dead")
    alloc.wait_event("Still running 1 s after SIGTERM, sending SIGKILL")


def test_children_die_with_the_task(run):
    job = run(jobs.job(jobs.shell("setsid sleep 98765 & sleep 98765 & echo up; exec sleep 1000"), kind="service"))
    alloc = job.running()[0]
    alloc.wait_log("up")

    def children():
        return [pid for pid in pids() if read(f"/proc/{pid}/cmdline") == b"sleep\x0098765\0"]

    assert len(children()) == 2
    job.stop()
    alloc.wait_state("dead")
    wait_for(lambda: f"children live: {children()}", lambda: not children())


def test_stats_of_a_busy_loop(run):
    """Against the kernel's own count, so that a busy machine does not matter."""
    alloc = run(jobs.job(jobs.shell(SPIN))).running()[0]
    pid = alloc.pid()

    def used():  # seconds of CPU
        fields = read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    shown, kernel, stamps = [], [], []

    def samples():
        usage = alloc.stats()
        if usage["ResourceUsage"] and usage["Timestamp"] not in stamps:
            stamps.append(usage["Timestamp"])
            shown.append(usage["ResourceUsage"]["CpuStats"])
            kernel.append(used())
        return len(stamps) >= 8

    wait_for("the statistics stand still", samples)
    wall = (stamps[-1] - stamps[1]) / 1e9
    percent = [cpu["Percent"] for cpu in shown[2:]]
    assert abs(sum(percent) / len(percent) - (kernel[-1] - kernel[1]) / wall * 100) < 10, (percent, kernel, stamps)
    ticks = shown[-1]["TotalTicks"] / shown[-1]["Percent"] * 100
    assert 100 < ticks < 10_000  # MHz of a core


def test_stats_of_memory(run):
    line = "(head -c 20000000 /dev/zero; echo up >&2; sleep 1000) | tail -c 16777216"
    alloc = run(jobs.job(jobs.shell(line), memory=64)).running()[0]
    alloc.wait_log("up", "stderr")

    def memory():
        usage = alloc.stats()["ResourceUsage"]
        return usage["MemoryStats"] if usage and usage["MemoryStats"]["RSS"] > 16 << 20 else None

    stats = wait_for(lambda: f"no 16 MiB in the statistics: {alloc.stats()}", memory)
    assert stats["RSS"] < 48 << 20 and stats["Usage"] >= stats["RSS"]
    assert {"RSS", "Cache", "Swap", "Usage"} <= set(stats["Measured"])


def test_life_cycle_order(run, agent):
    """prestart before main, a sidecar beside it, poststop after it; shutdown_delay before the signal."""
    def task(name, line, more=""):
        return f"""
    task "{name}" {{
      driver = "containerd-driver"
      {more}
      config {{
        image   = "busybox:latest"
        command = "/bin/sh"
        args    = ["-c", {line!r}]
      }}
      resources {{
        cpu    = 20
        memory = 32
      }}
    }}""".replace("'", '"')

    def say(name, rest=""):
        return f"echo {name} >> /alloc/data/order; {rest}"

    def hook(name, more=""):
        return f"lifecycle {{\n hook = '{name}'\n {more}\n }}"

    tasks = [task("first", say("first"), hook("prestart")),
             task("beside", say("beside", "sleep 1000"), "kill_timeout = '1s'\n" + hook("poststart", "sidecar = true")),
             task("main", say("main", "until grep beside /alloc/data/order; do sleep 0.1; done"), "shutdown_delay = '1s'"),
             task("last", say("last"), hook("poststop"))]
    restart = "restart {\n attempts = 0\n mode = \"fail\"\n }\n"
    text = f'job "life-cycle" {{\n type = "batch"\n group "g" {{\n {restart}{"".join(tasks)}\n }}\n}}\n'
    alloc = run(text).alloc()
    wait_for(lambda: f"not complete: {alloc.info()['TaskStates']}", lambda: alloc.info()["ClientStatus"] == "complete")
    order = Path(agent.alloc_dir, alloc.id, "alloc/data/order").read_text().split()
    assert order == ["first", "main", "beside", "last"]
    assert not init_pid(alloc.id)
