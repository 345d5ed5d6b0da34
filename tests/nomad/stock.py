"""An agent with example/agent.hcl as it is, whose docker.io is a registry on loopback with the images of the examples."""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import nomad

# Line 9 is where the Go driver's own test of allow_privileged adds an option.
OPTION_LINE = 9

# What a test needs otherwise than an operator: folders and ports of its own. Merged with agent.hcl by the agent.
# (telemetry: agents of 1.11 collect statistics of tasks only if they are to publish them.)
OURS = """
data_dir   = "{base}/data"
plugin_dir = "{base}/plugins"
bind_addr  = "127.0.0.1"
disable_update_check = true
leave_on_interrupt   = false
advertise {{
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}}
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
server {{
  heartbeat_grace = "60s"
}}
telemetry {{
  publish_allocation_metrics = true
}}
client {{
  cni_path            = "/usr/lib/cni"
  bridge_network_name = "{bridge}"
  options {{
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault"
  }}
}}
"""

# A mirror that is down changes nothing but for a word about it. The private image is at none of them, so that the locked one is asked, and it lets nobody in: as Docker Hub does.
HOSTS = """
server = "http://{locked}"
[host."http://127.0.0.1:1"]
[host."http://{open}"]
"""


class StockAgent(nomad.Agent):
    """`text` is the agent file; `add` are lines that the test puts into the plugin's configuration."""

    def __init__(self, program, text, registry, locked):
        self.text, self.add = text, []
        super().__init__(program, log_level="INFO", bridge="cdstock")
        folder = self.base / "certs.d/docker.io"
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(HOSTS.format(open=registry, locked=locked))

    def _write_config(self):
        lines = self.text.splitlines()
        lines[OPTION_LINE - 1:OPTION_LINE - 1] = [
            f'data_dir = "{self.base}/store"', f'state_dir = "{self.base}/run"', f'hosts_dir = "{self.base}/certs.d"',
            *self.add]
        stock, ours = self.base / "agent.hcl", self.base / "ours.hcl"
        stock.write_text("\n".join(lines) + "\n")
        ours.write_text(OURS.format(base=self.base, http=self.http, rpc=self.rpc, serf=self.serf, bridge=self.bridge))
        self.configs = [stock, ours]

    @contextmanager
    def with_option(self, line):
        """Restarts the agent with one more line in the plugin's configuration, and without it at the end."""
        try:
            self._restart([line])
            yield
        finally:
            self._restart([])

    def _restart(self, lines):
        self.add = lines
        self._write_config()
        self.interrupt()
        self.start()


@contextmanager
def host_files():
    """What the examples expect on the host: /tmp/s1 and the host volume of agent.hcl. What was there before stays."""
    made, aside = [], []
    for path in [Path("/tmp/s1"), Path("/tmp/host_volume"), Path("/tmp/host_volume/s1")]:
        if path.is_dir():
            continue
        if path.exists():  # something else has that name
            aside.append((path.rename(f"{path}.aside-{os.getpid()}"), path))
        path.mkdir()
        made.append(path)
    try:
        yield
    finally:
        for path in reversed(made):
            shutil.rmtree(path)
        for kept, path in aside:
            kept.rename(path)


def write(path, text):
    """Writes a file of the host anew, whoever it belonged to."""
    path = Path(path)
    path.unlink(missing_ok=True)
    path.write_text(text)


def images_of(hcl):
    return re.findall(r'^\s*image\s*=\s*"([^"]+)"', hcl, re.M)


def foreign_jobs():
    """Job files of GO_DRIVER_EXAMPLES, a folder that is not in this repository."""
    folder = os.environ.get("GO_DRIVER_EXAMPLES")
    return sorted(Path(folder).glob("*.nomad")) if folder else []
