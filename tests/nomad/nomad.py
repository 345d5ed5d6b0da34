"""A Nomad agent with our driver in a folder of its own, and its HTTP API. Only the standard library."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/images"))

from registry import die_with_parent, free_port  # noqa: E402

DRIVER = Path(os.environ.get("DRIVER_BINARY") or ROOT / "build/src/containerd-driver")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
BRIDGE = "cdtest"  # the bridge of `network { mode = "bridge" }`, removed at the end

CONFIG = """
log_level    = "{log_level}"
data_dir     = "{base}/data"
plugin_dir   = "{base}/plugins"
bind_addr    = "127.0.0.1"
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
  enabled          = true
  bootstrap_expect = 1
  heartbeat_grace  = "60s"
  default_scheduler_config {{
    memory_oversubscription_enabled = true
  }}
}}
client {{
  enabled             = true
  cni_path            = "/usr/lib/cni"
  bridge_network_name = "{bridge}"
  max_kill_timeout    = "60s"
  host_volume "s1" {{
    path = "{base}/volume"
  }}
  options {{
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault"
  }}
}}
telemetry {{
  publish_allocation_metrics = true
  collection_interval        = "1s"
}}
plugin "containerd-driver" {{
  config {{
    enabled            = true
    containerd_runtime = "io.containerd.runc.v2"
    data_dir           = "{base}/store"
    state_dir          = "{base}/run"
{options}
  }}
}}
"""


PATIENCE = 180  # seconds; what takes this long on a machine that is busy otherwise still comes


def wait_for(what, check, seconds=PATIENCE):
    """Calls `check` until it returns something true, and returns that. `what` says what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.05)


class Agent:
    """One non-dev agent, server and client. `stop` ends it and everything that it started."""

    def __init__(self, program, options="", log_level="INFO", bridge=BRIDGE):
        self.program, self.bridge = program, bridge
        self.base = Path(tempfile.mkdtemp(prefix="cd-nomad-", dir="/tmp"))  # short: sockets have 108 bytes
        self.configs = [self.base / "agent.hcl"]
        self.driver_options, self.log_level = options, log_level
        self.process, self._restarted, self.environment = None, False, dict(ENVIRONMENT)
        (self.base / "plugins").mkdir()
        (self.base / "volume").mkdir()
        (self.base / "plugins/containerd-driver").symlink_to(DRIVER)
        self.http, self.rpc, self.serf = free_port(), free_port(), free_port()
        self._write_config()

    def _write_config(self):
        (self.base / "agent.hcl").write_text(CONFIG.format(
            base=self.base, http=self.http, rpc=self.rpc, serf=self.serf, bridge=self.bridge,
            options=self.driver_options, log_level=self.log_level))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http}"

    @property
    def alloc_dir(self):
        return f"{self.base}/data/alloc"

    @property
    def log(self):
        return (self.base / "agent.log").read_text(errors="replace")

    def start(self):
        self._launch()
        try:
            wait_for("the node is not ready with our driver", self._ready)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-4000:]}") from None
        return self

    def _launch(self):
        with open(self.base / "agent.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "agent", *(f"-config={path}" for path in self.configs)], cwd=self.base, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent)

    def _ready(self):
        if self.process.poll() is not None:
            raise AssertionError("the agent exits: " + self.log[-4000:])
        # A client that registers in the moment between the election and the server's first key waits 15 to 30
        # seconds before it tries again. With the key on disk there is no such moment.
        if not self._restarted and "keyring has not been initialized" in self.log and "initialized keyring" in self.log:
            self._restarted = True
            self.interrupt()
            self._launch()
            return False
        try:
            node = self.node()
        except (OSError, ApiError, IndexError):
            return False
        driver = (node.get("Drivers") or {}).get("containerd-driver") or {}
        return node["Status"] == "ready" and driver.get("Healthy")

    def interrupt(self):
        """A graceful stop: the plugin ends, tasks go on."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Stops all jobs, the agent, and removes its folder."""
        if self.process and self.process.poll() is None:
            try:
                self.purge_all()
                self.interrupt()
            except (AssertionError, OSError, ApiError, subprocess.TimeoutExpired) as error:
                print(f"the agent does not stop well: {error}", file=sys.stderr)
            if self.process.poll() is None:
                self.kill()
        # What remains now is Nomad's own: tmpfs mounts of allocations that it did not collect.
        for point in reversed(mount_points(str(self.base))):
            subprocess.run(["umount", "-l", point], check=False)
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)

    # --- the API

    def get(self, path, **query):
        return self._call("GET", path, query=query)

    def put(self, path, body=None, **query):
        return self._call("PUT", path, body, query)

    def delete(self, path, **query):
        return self._call("DELETE", path, query=query)

    def _call(self, method, path, body=None, query=None):
        url = self.url + path + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(url, data=data, method=method), timeout=60) as response:
                raw = response.read()
        except urllib.error.HTTPError as error:
            raise ApiError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from None
        except http.client.HTTPException as error:
            raise ApiError(f"{method} {path}: {error}") from None
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw.decode(errors="replace")

    def node(self):
        return self.get("/v1/node/" + self.get("/v1/nodes")[0]["ID"])

    def parse(self, hcl):
        return self._call("POST", "/v1/jobs/parse", {"JobHCL": hcl, "Canonicalize": True})

    def run(self, hcl):
        """Submits a job and returns it."""
        job = self.parse(hcl)
        self.put("/v1/jobs", {"Job": job})
        return Job(self, job["ID"])

    def purge_all(self):
        """Ends all jobs. A purge at once would only make the server forget allocations that still run."""
        jobs = [job["ID"] for job in self.get("/v1/jobs")]
        for job in jobs:
            Job(self, job).stop()

        def running():
            return [a for a in self.get("/v1/allocations") if not terminal(a)]

        wait_for(lambda: f"still running: {[a['ID'] for a in running()]}", lambda: not running())
        for job in jobs:
            Job(self, job).stop(purge=True)
        self.collect()
        wait_for(lambda: f"folders of allocations stay: {mount_points(self.alloc_dir)}",
                 lambda: not mount_points(self.alloc_dir), 30)

    def collect(self):
        """Garbage collection: folders and mounts of ended allocations go."""
        self.put("/v1/system/gc")
        self.get("/v1/client/gc")

    def plugin_pid(self):
        """The pid of the long-lived plugin process: a child of the agent, or of one before it that was killed."""
        argv0 = str(self.base / "plugins/containerd-driver").encode()
        found = [pid for pid in pids() if read(f"/proc/{pid}/cmdline").startswith(argv0 + b"\0")
                 and link(f"/proc/{pid}/exe") == os.path.realpath(DRIVER)]
        return next((pid for pid in found if parent(pid) == self.process.pid), found[0] if found else None)


class ApiError(Exception):
    pass


class Job:
    """A submitted job; `alloc` waits for its allocation."""

    def __init__(self, agent, job_id):
        self.agent, self.id = agent, job_id

    def allocs(self):
        stubs = self.agent.get(f"/v1/job/{urllib.parse.quote(self.id, safe='')}/allocations")
        return [Alloc(self.agent, s["ID"]) for s in sorted(stubs, key=lambda s: s["CreateIndex"])]

    def alloc(self):
        return wait_for(f"job {self.id} has no allocation", self.allocs)[0]

    def running(self, count=1, seconds=PATIENCE):
        """Waits for `count` allocations with their tasks running, and returns them."""
        def check():
            found = [a for a in self.allocs() if a.state() == "running"]
            return found if len(found) == count else None

        def problem():
            return f"job {self.id}: " + "; ".join(
                f"{a.id} {a.state()}: {a.events()}, stderr {a.logs('stderr')[-500:]!r}" for a in self.allocs()[:3])

        return wait_for(problem, check, seconds)

    def stop(self, purge=False):
        self.agent.delete("/v1/job/" + urllib.parse.quote(self.id, safe=""), purge=str(purge).lower())


class Alloc:
    """One allocation, whose group has one task."""

    def __init__(self, agent, alloc_id):
        self.agent, self.id = agent, alloc_id

    def info(self):
        return self.agent.get("/v1/allocation/" + self.id)

    def task_state(self):
        states = self.info().get("TaskStates") or {}
        return {"State": "pending", "Failed": False, "Restarts": 0, "Events": [], **next(iter(states.values()), {})}

    def task(self):
        return next(iter(self.info()["AllocatedResources"]["Tasks"]))

    def state(self):
        return self.task_state()["State"]

    def events(self):
        """The task's events as "Type: message"."""
        return [f"{e['Type']}: {e['DisplayMessage']}" for e in self.task_state()["Events"] or []]

    def wait_state(self, state, seconds=PATIENCE):
        wait_for(lambda: f"{self.id} is not {state}: {self.events()}", lambda: self.state() == state, seconds)
        return self

    def wait_event(self, text, seconds=PATIENCE):
        """Waits for an event that contains `text`, and returns it."""
        return wait_for(lambda: f"no event of {self.id} has {text!r}: {self.events()}",
                        lambda: next((e for e in self.events() if text in e), None), seconds)

    def exit_code(self):
        codes = [e["ExitCode"] for e in self.task_state()["Events"] or [] if e["Type"] == "Terminated"]
        return codes[-1] if codes else None

    def logs(self, kind="stdout"):
        try:
            out = self.agent.get(f"/v1/client/fs/logs/{self.id}", task=self.task(), type=kind, plain="true")
        except ApiError:
            return ""  # nothing written yet
        return "" if out is None else str(out)

    def wait_log(self, text, kind="stdout", seconds=PATIENCE):
        return wait_for(lambda: f"no {text!r} in the {kind} of {self.id}: {self.logs(kind)!r}",
                        lambda: (lambda out: out if text in out else None)(self.logs(kind)), seconds)

    def signal(self, name):
        self.agent.put(f"/v1/client/allocation/{self.id}/signal", {"Signal": name, "Task": self.task()})

    def exec(self, *command, options=(), **more):
        """A finished `nomad alloc exec`, its input at its end unless `input` says otherwise."""
        more.setdefault("input", b"")
        return subprocess.run(
            [self.agent.program, "alloc", "exec", "-task", self.task(), *options, self.id, *command],
            env={**ENVIRONMENT, "NOMAD_ADDR": self.agent.url}, capture_output=True, timeout=60, check=False, **more)

    def stats(self):
        return self.agent.get(f"/v1/client/allocation/{self.id}/stats")

    def stop(self):
        self.agent.put(f"/v1/allocation/{self.id}/stop")

    def local(self):
        """The host's path of the task's local folder."""
        return self.agent.base / "data/alloc" / self.id / self.task() / "local"

    def pid(self):
        """The pid of the task's init, as the host sees it."""
        return wait_for(f"no init process of {self.id}", lambda: init_pid(self.id))


def terminal(alloc):
    return alloc["ClientStatus"] in ("complete", "failed", "lost")


def with_images(hcl, registry):
    """Lets every image of a job come from `registry` (host:port), under the name that it has on Docker Hub."""
    def replace(match):
        name = match[2] if "/" in match[2] else f"library/{match[2]}"
        return f'{match[1]}"{registry}/{name}"'

    return re.sub(r'(\bimage\s*=\s*)"([^"]+)"', replace, hcl)


# --- what is on this machine


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read(path):
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def link(path):
    """Where a symbolic link points to, None if there is none: a process can end between two looks."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def parent(pid):
    match = re.search(rb"^PPid:\s*(\d+)", read(f"/proc/{pid}/status"), re.M)
    return int(match[1]) if match else None


def init_pid(alloc_id):
    """The process of this allocation that is pid 1 in a pid namespace of its own."""
    return next(init_pids(alloc_id), None)


def init_pids(alloc_id):
    """All such processes."""
    for pid in pids():
        # Some programs, redis for one, write their title over their environment.
        if alloc_id.encode() in read(f"/proc/{pid}/environ") + read(f"/proc/{pid}/cgroup"):
            match = re.search(rb"^NSpid:\s*\d+.*\s1$", read(f"/proc/{pid}/status"), re.M)
            if match:
                yield pid


def mount_points(mark):
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if mark in line.split()[4]]


def leftovers(marks, but=()):
    """Everything on this machine that carries one of `marks`: processes, mounts, network namespaces, cgroups."""
    marks = [m.encode() for m in marks]

    def marked(data):
        return any(mark in data for mark in marks)

    found = []
    for pid in set(pids()) - {os.getpid(), *but}:
        command = read(f"/proc/{pid}/cmdline")
        root = read(f"/proc/{pid}/mountinfo").split(b"\n")[0]
        root = root if root.split()[4:5] == [b"/"] else b""
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd").encode()
        except OSError:
            cwd = b""
        if marked(b"\n".join([command, read(f"/proc/{pid}/environ"), read(f"/proc/{pid}/cgroup"), cwd, root])):
            found.append(f"process {pid}: {command.replace(bytes(1), b' ').decode(errors='replace')}")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if marked(line.split()[4].encode()):
            found.append(f"mount {line.split()[4]}")
    netns = Path("/run/netns")
    if netns.exists():
        found += [f"network namespace {p.name}" for p in netns.iterdir() if marked(p.name.encode())]
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"cgroup {folder}/{name}" for name in names if marked(name.encode())]
    return sorted(found)
