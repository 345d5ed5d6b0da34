import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests/images")]

import registry as registries  # noqa: E402
from helper import Store  # noqa: E402


@pytest.fixture(scope="session")
def registry():
    """host:port of a docker-registry with all test images."""
    with registries.images_registry() as running:
        yield running.address


@pytest.fixture(scope="session")
def locked_registry():
    """host:port of one that wants a user name and a password."""
    with registries.images_registry(with_auth=True) as running:
        yield running.address


@pytest.fixture
def store(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("unpacking needs root")
    return Store(tmp_path / "store")


@pytest.fixture
def memory_store():
    """For many pulls: each makes its layers durable, and how long a disk takes for that is up to everybody else, too."""
    if os.geteuid() != 0:
        pytest.skip("unpacking needs root")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Store(Path(folder) / "store")
