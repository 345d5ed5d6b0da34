"""Networks of groups with traffic, made by the agent (networks = "agent") and by the driver (networks = "driver")."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

import jobs
import nomad
from nomad import wait_for
from registry import die_with_parent, free_port

LAN = {
    "cniVersion": "0.4.0",
    "name": "cdlan",
    "plugins": [
        {"type": "bridge", "bridge": "cdlan", "isGateway": True, "ipMasq": True, "hairpinMode": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.96.16.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
    ],
}
CLIENT = """
client {{
  cni_config_dir             = "{base}/cni"
  bridge_network_subnet      = "10.96.0.0/20"
  bridge_network_subnet_ipv6 = "fd63:6474:96::/64"
}}
"""

# Answers what it hears, behind `text`, for as long as the connection lasts.
SERVER = """
import socket, sys, threading
kind, port, text = sys.argv[1:]
def echo(connection):
    while data := connection.recv(2000):
        connection.sendall(text.encode() + data)
if kind == "udp":
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::", int(port)))
    print("ready", flush=True)
    while True:
        data, peer = server.recvfrom(2000)
        server.sendto(text.encode() + data, peer)
server = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
"""

WEB = "mkdir -p /www && echo welcome > /www/index.html && exec httpd -f -p 8080 -h /www"


@pytest.fixture(scope="module", params=["agent", "driver"])
def agent(program, request):
    if os.geteuid() != 0:
        pytest.exit("these tests need root", 3)
    running = nomad.Agent(program, options=f'    networks = "{request.param}"', bridge="cdnets")
    (running.base / "cni").mkdir()
    (running.base / "cni/lan.conflist").write_text(json.dumps(LAN))
    (running.base / "more.hcl").write_text(CLIENT.format(base=running.base))
    running.configs.append(running.base / "more.hcl")
    running.networks = request.param
    try:
        yield running.start()
        running.purge_all()
        wait_for(lambda: f"claims stay: {claims(running)}", lambda: not claims(running))
    finally:
        running.stop()
        subprocess.run(["ip", "link", "delete", "cdlan"], check=False, stderr=subprocess.DEVNULL)
        # The agent's own rule for its bridge, which it leaves.
        for tool, subnet in (("iptables", "10.96.0.0/20"), ("ip6tables", "fd63:6474:96::/64")):
            subprocess.run([tool, "-D", "NOMAD-ADMIN", "-d", subnet, "-o", "cdnets", "-j", "ACCEPT"], check=False,
                           stderr=subprocess.DEVNULL)


def claims(agent):
    return [p.name for p in (agent.base / "run/groups").glob("*.json")]


@pytest.fixture
def serve():
    """Serves in the network of an allocation's first task, until the end of the test."""
    processes = []

    def start(alloc, port, text, kind="tcp"):
        process = subprocess.Popen(
            ["nsenter", "-t", str(alloc.pid()), "-n", sys.executable, "-c", SERVER, kind, str(port), text],
            stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"

    yield start
    for process in processes:
        process.kill()
        process.wait()


def ask(address, port, kind="tcp", timeout=5):
    """What a server says to "x"; None if it cannot be reached."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)) as client:
            client.settimeout(timeout)
            client.connect((address, port))
            client.send(b"x")
            return client.recv(2000).decode()
    except OSError:
        return None


def fetch(address, port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{port}/", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def network(mode, *ports, more=""):
    return "network {\n" + f' mode = "{mode}"\n {more}\n ' + "\n ".join(ports) + "\n}"


def port(label, to=None, static=None):
    inner = "\n".join(f"{key} = {value}" for key, value in (("to", to), ("static", static)) if value)
    return f'port "{label}" {{\n{inner}\n}}'


def ports_of(alloc):
    return {p["Label"]: p for p in alloc.info()["AllocatedResources"]["Shared"]["Ports"]}


def address_of(alloc):
    return alloc.info()["NetworkStatus"]["Address"]


def neighbour(line, name="neighbour"):
    """One more task of the group."""
    return f"""
    }}
    task "{name}" {{
      driver = "containerd-driver"
      config {{
        image   = "busybox:latest"
        command = "/bin/sh"
        args    = ["-c", {json.dumps(line)}]
      }}
      kill_timeout = "1s"
      resources {{
        cpu    = 20
        memory = 32
      }}
    """


def log_of(agent, alloc, task):
    try:
        return str(agent.get(f"/v1/client/fs/logs/{alloc.id}", task=task, type="stdout", plain="true") or "")
    except nomad.ApiError:
        return ""


def one(run, group, line="exec sleep 3600", task=""):
    return run(jobs.job(jobs.shell(line), group=group, task=task, kind="service")).running()[0]


@pytest.mark.parametrize("mode", ["bridge", "cni/cdlan"])
def test_ports_reach_the_group(run, serve, mode):
    static = free_port()
    alloc = one(run, network(mode, port("dynamic", to=7001), port("fixed", to=7002, static=static)))
    serve(alloc, 7001, "one ")
    serve(alloc, 7002, "two ")
    serve(alloc, 7001, "three ", "udp")
    ports = ports_of(alloc)
    at = ports["dynamic"]["HostIP"]
    assert ask(at, ports["dynamic"]["Value"]) == "one x"
    assert ask(at, ports["dynamic"]["Value"], "udp") == "three x"
    assert ports["fixed"]["Value"] == static and ask(at, static) == "two x"
    assert ask(address_of(alloc), 7001) == "one x"


def test_tasks_of_a_group_share_one_network(run, agent):
    looks = "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done; exec sleep 3600"
    alloc = one(run, network("bridge", port("http", to=8080)), WEB, task=neighbour(looks))
    wait_for("the neighbour does not see the server", lambda: "welcome" in log_of(agent, alloc, "neighbour"))
    inside = alloc.exec("ip", "-o", "addr", "show", "dev", "eth0")
    assert address_of(alloc).encode() in inside.stdout, inside


def test_ipv6(run, serve):
    alloc = one(run, network("bridge", port("dynamic", to=7001)))
    serve(alloc, 7001, "six ")
    address = alloc.info()["NetworkStatus"].get("AddressIPv6")
    assert address and address.startswith("fd63:6474:96:"), alloc.info()["NetworkStatus"]
    assert ask(address, 7001) == "six x"


def test_host(run):
    static = free_port()
    alloc = one(run, network("host", port("http", static=static)), WEB.replace("8080", str(static)))
    assert wait_for("the server does not answer", lambda: fetch(ports_of(alloc)["http"]["HostIP"], static)) == "welcome\n"
    assert os.readlink(f"/proc/{alloc.pid()}/ns/net") == os.readlink("/proc/self/ns/net")


def test_services_are_found_and_checked(run, agent):
    service = """
    service {{
      name         = "{name}"
      provider     = "nomad"
      port         = "http"
      address_mode = "{mode}"
      {check}
    }}
    """
    check = 'check {{\n type = "{0}"\n {1}\n interval = "1s"\n timeout = "2s"\n }}'
    services = "".join([
        service.format(name="web-host", mode="host", check=check.format("http", 'path = "/"')),
        service.format(name="web-alloc", mode="alloc", check=check.format("tcp", 'port = "http"')),
        service.format(name="web-auto", mode="auto", check=""),
    ])
    alloc = one(run, network("bridge", port("http", to=8080)) + services, WEB)
    checks = wait_for("the checks do not pass", lambda: (lambda found: found if len(found) == 2 and all(
        c["Status"] == "success" for c in found.values()) else None)(agent.get(f"/v1/client/allocation/{alloc.id}/checks")))
    assert {c["Service"] for c in checks.values()} == {"web-host", "web-alloc"}
    for name in ("web-host", "web-alloc", "web-auto"):
        found = agent.get(f"/v1/service/{name}")[0]
        assert fetch(found["Address"], found["Port"]) == "welcome\n", found
    template = ('template {\n destination = "local/at"\n data = "{{ range nomadService `web-host` }}'
                '{{ .Address }}:{{ .Port }}{{ end }}"\n }')
    client = one(run, network("bridge"), "wget -q -O - http://$(cat /local/at)/; exec sleep 3600", task=template)
    client.wait_log("welcome")


def test_connections_outlive_agent_and_plugin(run, agent, serve):
    alloc = one(run, network("bridge", port("dynamic", to=7001)))
    serve(alloc, 7001, "")
    to = ports_of(alloc)["dynamic"]
    with socket.create_connection((to["HostIP"], to["Value"]), 5) as client:
        def alive(word):
            client.sendall(word)
            return client.recv(2000) == word

        assert alive(b"first")
        plugin = agent.plugin_pid()
        os.kill(plugin, signal.SIGKILL)
        wait_for("there is no new plugin", lambda: agent.plugin_pid() not in (None, plugin))
        assert alive(b"the plugin was killed")
        # An agent that is killed within a minute of a group's start has lost the group's address: it keeps that at its end,
        # and now and then.
        agent.interrupt()
        agent.start()
        assert alive(b"the agent was stopped")
        agent.kill()
        agent.start()
        assert alive(b"the agent was killed")
    assert alloc.state() == "running" and alloc.task_state()["Restarts"] == 0
    assert ask(to["HostIP"], to["Value"]) == "x"


def test_a_group_that_is_gone_leaves_nothing(run, agent):
    job = run(jobs.job(jobs.shell("exec sleep 3600"), group=network("bridge", port("http", to=8080)), kind="service"))
    alloc = job.running()[0]
    address = address_of(alloc)
    namespace = Path("/run/netns") / alloc.id
    assert namespace.exists()
    job.stop()
    wait_for("the namespace stays", lambda: not namespace.exists())
    rules = subprocess.run("iptables-save", capture_output=True, text=True, check=True).stdout
    assert address not in rules and alloc.id not in rules
    assert not list(Path("/var/run/cni").glob(f"**/{address}"))
    assert not [claim for claim in claims(agent) if alloc.id in claim]


def test_forty_groups_at_once(run):
    """All can be reached by their ports; how long that takes is printed for a comparison of the two ways."""
    count, begin = 40, time.monotonic()
    job = run(jobs.job(jobs.shell(WEB), count=count, group=network("bridge", port("http", to=8080)), kind="service"))
    allocs = job.running(count)
    for alloc in allocs:
        to = ports_of(alloc)["http"]
        wait_for(lambda: f"{alloc.id} cannot be reached", lambda: fetch(to["HostIP"], to["Value"]) == "welcome\n")
    print(f"{count} groups could be reached after {time.monotonic() - begin:.1f} s")
    assert len({address_of(alloc) for alloc in allocs}) == count


# As in a file for Docker's driver, but for the driver's name.
DOCKERS = """
job "dockers" {
  datacenters = ["dc1"]
  group "web" {
    network {
      mode     = "bridge"
      hostname = "shop-front"
      port "http" {
        to = 8080
      }
    }
    task "web" {
      driver = "docker"
      config {
        image       = "busybox:latest"
        command     = "sh"
        args        = ["-c", "hostname; cat /etc/hosts; mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
        ports       = ["http"]
        extra_hosts = ["db.internal:10.1.2.3"]
      }
      kill_timeout = "1s"
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }
}
"""


def test_a_job_of_dockers_driver_needs_only_another_name(run, agent):
    if agent.networks != "driver":
        pytest.skip("an agent takes a group's hostname only where drivers make the networks")
    alloc = run(DOCKERS.replace('"docker"', '"containerd-driver"')).running()[0]
    lines = alloc.wait_log("db.internal").splitlines()
    assert lines[0] == "shop-front"
    entries = [line.split() for line in lines[1:]]
    assert [address_of(alloc), "shop-front"] in entries and ["10.1.2.3", "db.internal"] in entries, entries
    to = ports_of(alloc)["http"]
    assert wait_for("the server does not answer", lambda: fetch(to["HostIP"], to["Value"])) == "shop-front\n"


def test_networks_of_a_driver_are_found_again(run, agent):
    """The same namespaces after a plugin and an agent were killed, and none for an allocation that ended meanwhile."""
    if agent.networks != "driver":
        pytest.skip("made by the agent")
    alloc = one(run, network("bridge", port("http", to=8080)), WEB)
    before = os.readlink(f"/proc/{alloc.pid()}/ns/net")
    agent.interrupt()
    agent.start()
    agent.kill()
    agent.start()
    alloc.exec("kill", "1")
    assert wait_for("no namespace", lambda: os.stat(f"/run/netns/{alloc.id}").st_ino) == int(re.search(r"\d+", before)[0])
    assert f"{alloc.id}.json" in claims(agent)
