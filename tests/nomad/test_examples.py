"""The jobs of example/, as they are, with their images from the local registry."""

import re

from nomad import read, wait_for


def test_redis(example):
    alloc = example("redis").running()[0]
    alloc.wait_log("Ready to accept connections")
    pid = alloc.pid()
    status = read(f"/proc/{pid}/status").decode()
    assert re.search(r"^Seccomp:\s*2$", status, re.M)
    assert b"redis-server" in read(f"/proc/{pid}/cmdline")  # the image's entry point, gone to its user
    assert re.search(r"^Uid:\s*999\s", status, re.M)
    assert alloc.task_state()["Failed"] is False


def test_hello(example):
    alloc = example("hello").running()[0]
    line = "Hello world: sleeping for 3 seconds.\n"
    alloc.wait_log(line)
    alloc.wait_log(line + line)  # they keep coming


def test_signal(example):
    alloc = example("signal").running()[0]
    alloc.wait_log("Waiting for signals.")
    for name in ["SIGHUP", "SIGUSR1", "SIGUSR2"]:
        alloc.signal(name)
        alloc.wait_log(f"Received signal: {name}")
    try:
        alloc.signal("INVALID")
    except Exception as error:  # noqa: BLE001
        assert "Invalid signal: INVALID" in str(error)
    else:
        raise AssertionError("an unknown signal is accepted")


def test_entrypoint(example):
    alloc = example("entrypoint").running()[0]
    alloc.wait_log("container1 container2\ncontainer1 container2\n")
    assert read(f"/proc/{alloc.pid()}/cmdline").startswith(b"/bin/bash\0-c\0for i in {1..100}")


def test_a_group_in_the_agents_books(example):
    """A stopped job leaves no allocation that is not complete."""
    job = example("hello")
    alloc = job.running()[0]
    job.stop()
    alloc.wait_state("dead")
    wait_for("the allocation is not complete", lambda: alloc.info()["ClientStatus"] == "complete")
    assert alloc.task_state()["Failed"] is False
