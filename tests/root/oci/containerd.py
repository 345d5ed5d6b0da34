"""A containerd to be measured and compared with."""

import subprocess
import time


class Containerd:
    """A daemon with folders and a socket of its own, and no plugin that would look at the host."""

    def __init__(self, folder):
        self._socket = folder / "containerd.sock"
        (folder / "config.toml").write_text(f"""
            version = 2
            root = "{folder}/root"
            state = "{folder}/state"
            disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.zfs",
                                "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
            [grpc]
            address = "{self._socket}"
        """)
        self._log = open(folder / "log", "wb")
        self._process = subprocess.Popen(["containerd", "--config", folder / "config.toml"], stdout=self._log, stderr=self._log)
        end = time.monotonic() + 30
        while subprocess.run(self.command("version"), capture_output=True).returncode:
            assert time.monotonic() < end and self._process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    @property
    def pid(self):
        return self._process.pid

    def command(self, *arguments):
        return ["ctr", "--address", self._socket, *arguments]

    def ctr(self, *arguments):
        return subprocess.run(self.command(*arguments), check=True, capture_output=True, text=True).stdout

    def stop(self):
        self._process.terminate()
        self._process.wait(30)
        self._log.close()
