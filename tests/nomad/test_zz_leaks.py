"""Runs last: nothing of all the tests before is left on the machine."""

from nomad import leftovers, wait_for


def test_nothing_is_left(agent):
    allocs = [a["ID"] for a in agent.get("/v1/allocations")]
    agent.purge_all()
    keep = {agent.process.pid, agent.plugin_pid()}

    def left():
        return leftovers([*allocs, f"{agent.base}/run", f"{agent.base}/store"], keep)

    wait_for(lambda: "left behind:\n  " + "\n  ".join(left()), lambda: not left())
    for folder in ["store/tasks", "store/ingest", "store/trash"]:
        path = agent.base / folder
        wait_for(lambda: f"left in {folder}: {list(path.iterdir())}", lambda: not path.exists() or not list(path.iterdir()))
