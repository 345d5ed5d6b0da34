"""Options in their written forms on a real agent, and a node that allows little."""

import pytest

import jobs
import nomad
from nomad import with_images

HARDENED = """
    profile        = "hardened"
    allow_devices  = ["/dev/fuse"]
    allow_runtimes = ["runc"]
    volumes {
      enabled = false
    }
    runtimes {
      other = "/usr/bin/runc"
    }
"""

# What a hardened node refuses, and the gate that the event names.
REFUSED = {
    "allow_privileged": {"privileged": True},
    "allowed_modes": {"pid_mode": "host"},
    "allow_caps": {"cap_add": ["NET_ADMIN"]},
    "allow_devices": {"devices": {"host_path": "/dev/kmsg"}},
    "allow_runtimes": {"runtime": "other"},
    "require_seccomp": {"security_opt": ["seccomp=unconfined"]},
    "volumes.enabled": {"mounts": {"type": "bind", "source": "/etc", "target": "/mnt", "options": ["rbind", "ro"]}},
}


@pytest.fixture(scope="module")
def hardened(program):
    agent = nomad.Agent(program, HARDENED)
    try:
        yield agent.start()
    finally:
        agent.stop()


def test_hardened_node(hardened, registry):
    refused = {gate: hardened.run(jobs.job(jobs.shell("true", **config) | {"image": "127.0.0.1:1/never/asked:1"}))
               for gate, config in REFUSED.items()}
    plain = hardened.run(with_images(jobs.job(jobs.shell(
        "grep CapEff /proc/self/status; ls /dev/fuse; ulimit -n", devices={"host_path": "/dev/fuse"},
        ulimit={"nofile": "100:200"})), registry))
    for gate, job in refused.items():
        job.alloc().wait_event(gate)
    alloc = plain.alloc().wait_state("dead")
    assert alloc.exit_code() == 0
    # The 13 capabilities of the default, without NET_RAW (bit 13).
    assert alloc.wait_log("100\n") == "CapEff:\t00000000a80405fb\n/dev/fuse\n100\n"
    for job in [plain, *refused.values()]:
        job.stop(purge=True)


def test_devices_as_blocks(run):
    blocks = [{"host_path": "/dev/fuse", "cgroup_permissions": "rw"}, {"host_path": "/dev/zero", "container_path": "/dev/mine"}]
    alloc = run(jobs.job(jobs.shell("ls /dev/fuse; head -c 2 /dev/mine | wc -c", devices=blocks))).alloc().wait_state("dead")
    assert alloc.wait_log("2\n") == "/dev/fuse\n2\n"
