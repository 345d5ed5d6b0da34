"""Logs while the one who reads them stands still, dies, or comes back."""

import os
import re
import signal

import jobs
from nomad import pids, read, wait_for

BYTES = 3_000_000  # well more than all pipes on the way hold
LINE = f"yes 0123456789 | head -c {BYTES}; echo; echo all written; exec sleep 100000"


def logmon(alloc):
    """The log process of an allocation: the agent's child with the allocation's FIFOs open."""
    def found():
        for pid in pids():
            if b"logmon" in read(f"/proc/{pid}/cmdline") and any(alloc.id in target for target in open_files(pid)):
                return pid
        return None

    return wait_for(f"no log process of {alloc.id}", found)


def open_files(pid):
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    targets = []
    for name in names:
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            pass
    return targets


def wait_held_up(alloc):
    """Waits until the task's two writers are held up by full pipes, and stay so."""
    looks = [None]

    def held_up():
        mine = [pid for pid in pids() if alloc.id.encode() in read(f"/proc/{pid}/environ")]
        now = {pid: read(f"/proc/{pid}/io") for pid in mine if b"pipe_write" in read(f"/proc/{pid}/wchan")}
        looks.append(now)
        return len(now) >= 2 and looks[-2] == now

    wait_for(lambda: f"the task is not held up: {looks[-1]}", held_up)


def all_there(alloc):
    def check():
        text = alloc.logs()
        return text if "all written" in text else None

    text = wait_for(lambda: f"the log ends after {len(alloc.logs())} bytes: {alloc.logs()[-100:]!r}", check)
    burst = text[text.index("go\n") + 3:]
    assert len(burst) == BYTES + len("\nall written\n")
    assert re.fullmatch(r"(0123456789\n)*[0-9]*\n+all written\n", burst)


def gated(run):
    """A task that begins to write when its file "go" is there."""
    alloc = run(jobs.job(jobs.shell(
        f"echo up; while [ ! -e /local/go ]; do sleep 0.05; done; echo go; {LINE}"), kind="service")).running()[0]
    alloc.wait_log("up")
    return alloc


def test_everybody_stands_still(run, agent):
    """The agent and its log process are stopped while the task writes; it is held up, and goes on when they do."""
    alloc = gated(run)
    go, plugin = alloc.local() / "go", agent.plugin_pid()
    stopped = [agent.process.pid, logmon(alloc)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        go.touch()
        wait_held_up(alloc)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    all_there(alloc)
    assert alloc.state() == "running" and agent.plugin_pid() == plugin


def test_log_process_killed(run, agent):
    """The log process is killed before the task writes: what nobody has read is read by the next one."""
    alloc = gated(run)
    go, task = alloc.local() / "go", alloc.pid()
    os.kill(logmon(alloc), signal.SIGKILL)
    go.touch()
    wait_held_up(alloc)
    agent.interrupt()
    agent.start()  # it looks for its log processes then
    all_there(alloc)
    assert alloc.state() == "running" and alloc.pid() == task
    assert alloc.task_state()["Restarts"] == 0


def test_agent_down_for_half_a_minute(run, agent):
    """The agent is killed and does not come back for 300 lines, ten a second: the task goes on, and no line is lost."""
    alloc = run(jobs.job(jobs.shell(
        "i=0; while true; do i=$((i+1)); echo tick $i; echo $i > /alloc/data/new; mv /alloc/data/new /alloc/data/tick; sleep 0.1; done"),
        kind="service")).running()[0]
    alloc.wait_log("tick 3\n")
    task, file = alloc.pid(), agent.base / "data/alloc" / alloc.id / "alloc/data/tick"
    agent.kill()
    down = int(read(file))
    wait_for(lambda: f"the task stands still at {read(file)}", lambda: int(read(file)) >= down + 300)
    agent.start()
    last = int(read(file))
    ticks = re.findall(r"tick (\d+)\n", alloc.wait_log(f"tick {last}\n"))
    assert ticks == [str(i + 1) for i in range(len(ticks))]
    assert alloc.state() == "running" and alloc.pid() == task
    assert alloc.task_state()["Restarts"] == 0
