import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import nomad  # noqa: E402
import registry as registries  # noqa: E402


@pytest.fixture(scope="session")
def program():
    """The Nomad agent's program."""
    path = os.environ.get("NOMAD_BINARY")
    return path or subprocess.run([nomad.ROOT / "scripts/agent"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="session")
def registry():
    """host:port of a registry with all test images."""
    with registries.images_registry() as running:
        yield running.address


@pytest.fixture(scope="session")
def locked_registry():
    """host:port of one that wants a user name and a password."""
    with registries.images_registry(with_auth=True) as running:
        yield running.address


@pytest.fixture(scope="session")
def agent(program):
    if os.geteuid() != 0:
        pytest.exit("these tests need root", 3)
    if not nomad.DRIVER.exists():
        pytest.exit(f"{nomad.DRIVER} is not built", 3)
    running = nomad.Agent(program, log_level="DEBUG")
    try:
        yield running.start()
    finally:
        keep = os.environ.get("KEEP_AGENT_LOG")
        if keep:
            Path(keep).write_text(running.log)
        running.stop()


@pytest.fixture
def run(agent, registry):
    """Runs a job text with its images from the registry; all jobs of a test are ended and purged after it."""
    jobs = []

    def submit(hcl, images_from=registry):
        job = agent.run(nomad.with_images(hcl, images_from) if images_from else hcl)
        jobs.append(job)
        return job

    yield submit
    for job in jobs:
        job.stop()
    for job in jobs:
        nomad.wait_for(lambda: f"job {job.id} does not end",
                       lambda: all(nomad.terminal(a.info()) for a in job.allocs()), 60)
        job.stop(purge=True)
