"""A real docker-registry on a loopback port that serves the test images; run by itself, it serves until a signal.

    scripts/registry [--port N] [--bulk medium|large]      prints 127.0.0.1:PORT, then serves
"""

import argparse
import ctypes
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import images
import layout

PROGRAM = "/usr/bin/docker-registry"
USERNAME, PASSWORD = "alice", "open sesame"
# bcrypt of PASSWORD with a low cost: the registry compares it for every request.
HTPASSWD = "alice:$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n"


class Registry:
    """One docker-registry process. `with_auth` makes it ask for USERNAME and PASSWORD."""

    def __init__(self, storage, with_auth=False, readonly=True, port=None):
        self._dir = tempfile.mkdtemp(prefix="containerd-driver-registry-")
        self.storage = Path(storage)
        for _ in range(5):  # another process may take the free port first
            self.port = port or free_port()
            self._start(with_auth, readonly)
            if self._answers():
                return
            self.stop(keep_dir=True)
        raise RuntimeError("docker-registry does not start: " + (Path(self._dir) / "log").read_text()[-2000:])

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def stop(self, keep_dir=False):
        self._process.kill()  # nothing to save, and a graceful stop may take seconds
        self._process.wait()
        if not keep_dir:
            shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _start(self, with_auth, readonly):
        config = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": readonly}},
            },
            "http": {"addr": self.address},
        }
        if with_auth:
            htpasswd = Path(self._dir) / "htpasswd"
            htpasswd.write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(htpasswd)}}
        path = Path(self._dir) / "config.json"  # JSON is YAML too
        path.write_text(json.dumps(config))
        with open(Path(self._dir) / "log", "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": "/usr/bin:/bin", "GOMAXPROCS": "2"}, preexec_fn=die_with_parent)

    def _answers(self):
        deadline = time.monotonic() + 20
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                opener.open(f"http://{self.address}/v2/", timeout=5).close()
                return True
            except urllib.error.HTTPError as error:
                return error.code == 401
            except OSError:
                time.sleep(0.02)  # nothing tells when the port is open
        return False


def images_registry(progress=print, **options):
    """Starts a registry with all test images (images.layout)."""
    return Registry(_storage(images.layout(progress), progress), **options)


def bulk_registry(size, progress=print, **options):
    """Starts a registry with one image of the pull bench (images.BULK)."""
    return Registry(_storage(images.bulk_layout(size, progress), progress), **options)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def die_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _storage(folder, progress):
    """The registry's own storage with everything of a layout pushed to it, cached beside the layout."""
    storage = folder.with_name(folder.name + ".registry")
    if not storage.exists():
        progress("pushing the test images to a registry")
        staging = storage.with_name(f"{storage.name}.{os.getpid()}.tmp")
        shutil.rmtree(staging, ignore_errors=True)
        with Registry(staging, readonly=False) as registry:
            layout.push(_read_layout(folder), f"http://{registry.address}")
        _corrupt(staging, "broken/digest")
        shutil.rmtree(storage, ignore_errors=True)
        staging.rename(storage)
    return storage


def _read_layout(folder):
    found = layout.Layout(folder)
    for descriptor in json.loads((folder / "index.json").read_bytes())["manifests"]:
        found.name(descriptor.pop("annotations")["org.opencontainers.image.ref.name"], descriptor)
    return found


def _corrupt(storage, repository):
    """Changes one byte of the last layer of this repository's image: the registry serves blobs without a check."""
    root = storage / "docker/registry/v2"
    if not (root / "repositories" / repository).exists():
        return
    for link in (root / "repositories" / repository / "_layers/sha256").iterdir():
        path = root / "blobs/sha256" / link.name[:2] / link.name / "data"
        data = bytearray(path.read_bytes())
        if data[:2] == b"\x1f\x8b":
            data[-9] ^= 1
            path.write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int)
    parser.add_argument("--bulk", choices=images.BULK, help="serve an image of the pull bench instead")
    options = parser.parse_args()
    start = functools.partial(bulk_registry, options.bulk) if options.bulk else images_registry
    with start(progress=lambda text: print(text, file=sys.stderr), port=options.port) as registry:
        print(registry.address, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
