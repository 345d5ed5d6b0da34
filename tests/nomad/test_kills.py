"""Plugin, shim, runtime and agent are killed again and again while jobs start, run commands and stop."""

import os
import random
import signal
import threading
import time

import jobs
import nomad
import pytest
from nomad import link, parent, pids, read, terminal, wait_for

NIGHTLY = bool(os.environ.get("NIGHTLY"))
KILLS, JOBS = (300, 40) if NIGHTLY else (24, 8)
AGENT_KILLS = 20 if NIGHTLY else 3

# The agent calls StartTask once more after the plugin died; whatever meets that call, it gives the task up, and places
# the job anew.
AGENTS_OWN = "after driver exited unexpectedly", "after it exited unexpectedly"

# It may give up on a task whose start has succeeded meanwhile: those are the driver's to end, as soon as it may.
DANGLING = """
    gc {
      dangling_containers {
        period         = "1s"
        creation_grace = "1m"
      }
    }
"""

BEAT = "i=0; while :; do i=$((i+1)); echo beat $i; sleep 0.2; done"


@pytest.fixture
def lonely(program, registry):
    """An agent of its own, so that what is left afterwards is left by this test; its plugin has a TMPDIR of its own."""
    agent = nomad.Agent(program, options=DANGLING, bridge="cdkills")
    agent.images = registry
    (agent.base / "tmp").mkdir()
    agent.environment["TMPDIR"] = f"{agent.base}/tmp"
    try:
        yield agent.start()
    finally:
        keep = os.environ.get("KEEP_AGENT_LOG")
        if keep:
            with open(keep, "a") as log:
                log.write(agent.log)
        agent.stop()


def beating(agent, number):
    """A job that is started again, here and at once, as often as it ends."""
    text = jobs.job(jobs.shell(BEAT), name=f"kills-{number}", kind="service", restarts=80_000, delay="1s", memory=16)
    text = text.replace('interval = "10m"', 'interval = "24h"').replace(
        "attempts  = 0\n      unlimited = false", 'delay = "5s"\n      delay_function = "constant"\n      unlimited = true')
    return nomad.with_images(text, agent.images)


def shims(agent):
    mark = str(agent.base).encode()
    return [pid for pid in pids() if b"containerd-shim-runc-v2" in (line := read(f"/proc/{pid}/cmdline")).split(b"\0")[0]
            and mark in line + read(f"/proc/{pid}/environ") + (link(f"/proc/{pid}/cwd") or "").encode()]


def runtimes(agent):
    """Runtimes at work: children of our shims that have not become a task yet."""
    ours = set(shims(agent))
    return [pid for pid in pids() if read(f"/proc/{pid}/comm").startswith(b"runc") and parent(pid) in ours]


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


def kill_one(agent, kind):
    """Kills one of a kind, and says whether there was one in time: a runtime lives for some ten milliseconds."""
    if kind == "plugin":
        pid = agent.plugin_pid()
        return bool(pid) and kill(pid)
    find = shims if kind == "shim" else runtimes
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        found = find(agent)
        if found and kill(random.choice(found)):
            return True
    return False


def disturb(agent, texts, done):
    """What happens all day: jobs are stopped and started again, tasks end and come back, commands run in them.

    No `alloc restart`: an agent that is told to stop the same allocation in that second runs it for ever.
    """
    while not done.is_set():
        text = random.choice(texts)
        name = text.split('"')[1]
        job = nomad.Job(agent, name)
        try:
            act = random.choice(["stop", "run", "run", "signal", "exec"])
            if act == "stop":
                job.stop()
            elif act == "run":
                agent.run(text)
            else:
                alloc = next((a for a in job.allocs() if a.state() == "running"), None)
                if alloc and act == "signal":
                    alloc.signal("SIGKILL")
                elif alloc:
                    alloc.exec("true")
        except (nomad.ApiError, OSError, StopIteration):
            pass  # it met a kill; what has to hold is looked at in the end


def given_up_for(events):
    """The last failure before the agent says that it does not start the task again."""
    end = next((i for i, event in enumerate(events) if event.startswith("Not Restarting: ")), len(events))
    return next((event for event in reversed(events[:end]) if event.startswith("Driver Failure: ")), "")


def folders(agent):
    """What the driver keeps for tasks on disk, and what it makes in TMPDIR."""
    found = [p for name in ["store/tasks", "store/ingest", "store/trash"] for p in (agent.base / name).glob("*")
             if not p.name.startswith(".")]
    return found + list((agent.base / "tmp").glob("*"))


def nothing_is_left(agent):
    allocs = [a["ID"] for a in agent.get("/v1/allocations")]
    agent.purge_all()

    def left():
        keep = {agent.process.pid, agent.plugin_pid()}
        marks = [*allocs, f"{agent.base}/run", f"{agent.base}/store"]
        tmp = [p for p in folders(agent) if not (p.name.startswith("plugin") or "containerd-driver-plugin" in p.name)]
        return nomad.leftovers(marks, keep) + [str(p) for p in tmp]

    wait_for(lambda: "left behind:\n  " + "\n  ".join(left()), lambda: not left(), 180)


def test_kills_of_plugin_shim_and_runtime(lonely):
    """At random moments of create, start, exec, stop and destroy; each job runs again within a minute of the last one."""
    seed = int(os.environ.get("SEED", time.time_ns()))
    print(f"SEED={seed} KILLS={KILLS}")
    random.seed(seed)
    texts = [beating(lonely, i) for i in range(JOBS)]
    for text in texts:
        lonely.run(text)
    done = threading.Event()
    crowd = [threading.Thread(target=disturb, args=(lonely, texts, done)) for _ in range(3)]
    for thread in crowd:
        thread.start()
    killed = dict.fromkeys(["plugin", "shim", "runtime"], 0)
    try:
        while sum(killed.values()) < KILLS:
            kind = random.choice(list(killed))
            killed[kind] += kill_one(lonely, kind)
            time.sleep(random.random() * 0.6)  # the moment of the next one, which has nothing to wait for
    finally:
        done.set()
        for thread in crowd:
            thread.join(120)
    last = time.monotonic()
    print(killed)
    running = [lonely.run(text) for text in texts]
    for job in running:
        (alloc,) = job.running(1, max(1, 60 - (time.monotonic() - last)))
        assert alloc.pid()
    print(f"all run {time.monotonic() - last:.1f} s after the last kill")
    ended = [nomad.Alloc(lonely, a["ID"]).events() for a in lonely.get("/v1/allocations") if a["ClientStatus"] == "failed"]
    reasons = [reason for events in ended if (reason := given_up_for(events))]
    assert not [reason for reason in reasons if not any(own in reason for own in AGENTS_OWN)]
    nothing_is_left(lonely)


def test_agent_killed_again_and_again(lonely):
    """After each kill, at whatever moment, the task is the same process, was never restarted, and its log goes on."""
    (alloc,) = lonely.run(beating(lonely, 0)).running()
    alloc.wait_log("beat 1\n")
    pid = alloc.pid()
    for _ in range(AGENT_KILLS):
        lonely.kill()
        lonely.start()
        wait_for("the agent has forgotten the task", lambda: alloc.state() == "running")
        beats = alloc.logs().count("beat")
        alloc.wait_log(f"beat {beats + 2}\n")
        assert alloc.pid() == pid
        assert alloc.task_state()["Restarts"] == 0, alloc.events()
    lines = alloc.logs().split("\n")[:-1]
    assert lines == [f"beat {i + 1}" for i in range(len(lines))]  # nothing twice, nothing lost
    nothing_is_left(lonely)


def test_agent_killed_while_a_task_restarts(lonely):
    """Whatever the moment is, one process of the task runs in the end, not two and not none."""
    (alloc,) = lonely.run(beating(lonely, 0)).running()
    for _ in range(AGENT_KILLS):
        wait_for("it does not run", lambda: alloc.state() == "running" and nomad.init_pid(alloc.id))
        lonely.put(f"/v1/client/allocation/{alloc.id}/restart", {"TaskName": alloc.task()})
        time.sleep(random.random())  # the moment is what is tried here
        lonely.kill()
        lonely.start()
        wait_for("it does not run again", lambda: alloc.state() == "running" and len(list(nomad.init_pids(alloc.id))) == 1)
    assert not terminal(alloc.info())
    nothing_is_left(lonely)
