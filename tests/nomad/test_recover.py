"""Tasks outlive the plugin and the agent: same processes, logs that continue, true exit codes."""

import os
import signal

import jobs
from nomad import read, wait_for

COUNTING = ("trap 'exit 43' TERM; i=0; while [ ! -e /local/go ]; do i=$((i+1)); echo count $i; sleep 0.2; done; exit 42")


def counting(run, count):
    allocs = run(jobs.job(jobs.shell(COUNTING), count=count)).running(count)
    for alloc in allocs:
        alloc.wait_log("count 1\n")
    return allocs


def still_the_same(allocs, pids):
    """The tasks run with the same pids, and their logs go on from where they are now."""
    for alloc in allocs:
        assert alloc.state() == "running", alloc.events()
        assert alloc.pid() == pids[alloc.id]
        assert alloc.task_state()["Restarts"] == 0
    for alloc in allocs:
        lines = alloc.logs().count("\n")
        alloc.wait_log(f"count {lines + 2}\n")


def finish(alloc):
    (alloc.local() / "go").touch()
    alloc.wait_state("dead")
    assert alloc.exit_code() == 42, alloc.events()


def test_plugin_killed_with_20_tasks(run, agent):
    allocs = counting(run, 20)
    pids = {a.id: a.pid() for a in allocs}
    plugin = agent.plugin_pid()
    early, others = allocs[0], allocs[1:]
    go = early.local() / "go"

    # The agent stands still, so that one task can end while there is no plugin at all.
    agent.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(plugin, signal.SIGKILL)
        go.touch()
        wait_for("the task does not end", lambda: not read(f"/proc/{pids[early.id]}/status"))
    finally:
        agent.process.send_signal(signal.SIGCONT)

    wait_for("there is no new plugin", lambda: agent.plugin_pid() not in (None, plugin))
    early.wait_state("dead")
    assert early.exit_code() == 42, early.events()
    still_the_same(others, pids)
    finish(others[0])
    others[1].stop()
    others[1].wait_state("dead")
    assert others[1].exit_code() == 43, others[1].events()


def test_agent_stopped_and_started(run, agent):
    allocs = counting(run, 3)
    pids = {a.id: a.pid() for a in allocs}
    agent.interrupt()
    for pid in pids.values():
        assert read(f"/proc/{pid}/status")
    agent.start()
    still_the_same(allocs, pids)
    finish(allocs[0])


def test_agent_killed_and_started(run, agent):
    """The new agent connects to the plugin of the old one, without SetConfig."""
    allocs = counting(run, 3)
    pids = {a.id: a.pid() for a in allocs}
    agent.kill()
    agent.start()
    still_the_same(allocs, pids)
    finish(allocs[0])


def test_new_tasks_start_after_all_that(run):
    assert run(jobs.job(jobs.probe("exit", "5"))).alloc().wait_state("dead").exit_code() == 5
