"""The demo, in two parts: `demo.py run [IMAGE]` is a container by the command line alone, `demo.py job [IMAGE]` one job
on one agent, from its start until nothing is left. See scripts/demo."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import nomad
import registry

# What the container of the command line says.
HELLO = 'echo "hello from process $$ of $(hostname), user $(id -u)"; head -1 /proc/self/mountinfo | cut -c1-80'

# What the job itself says of its first process before it becomes the image's own program.
PROOF = r"""
echo "pid 1 here is $(tr '\0\n' '  ' < /proc/1/cmdline | cut -c1-60)..."
grep -E '^(Pid|NSpid|Uid|Seccomp|CapBnd):' /proc/1/status
echo "root file system: $(head -1 /proc/1/mountinfo | cut -c1-80)..."
echo "other processes here: $(ls /proc | grep -c '^[0-9]*$')"
echo "=== end of the proof"
exec "$@"
"""


def step(text):
    print(f"\n--- {text}", flush=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    part, *image = sys.argv[1:]
    with ExitStack() as stack:
        if not image:
            step("a registry on loopback with images made from this machine's Debian packages")
            served = stack.enter_context(registry.images_registry())
            image = [f"{served.address}/library/redis:alpine"]
            print(f"docker-registry serves {image[0]}")
        if part == "run":
            run(image[0])
            return
        program = image_program(image[0]) if len(sys.argv) > 2 else ["docker-entrypoint.sh", "redis-server"]
        step("a Nomad agent, server and client, with the driver as its plugin")
        agent = nomad.Agent(os.environ["NOMAD_BINARY"])
        stack.callback(agent.stop)
        agent.start()
        node = agent.node()
        print(f"agent {node['Attributes']['nomad.version']} on {agent.url}, its files in {agent.base}")
        for key, value in sorted(node["Attributes"].items()):
            if key.startswith("driver.containerd-driver"):
                print(f"  {key} = {value}")
        show(agent, image[0], program)


def run(image):
    step(f"a container of {image} by the command line, without any agent")
    with tempfile.TemporaryDirectory(prefix="cd-demo-", dir="/tmp") as folder:
        command = [nomad.DRIVER, "run", "--rm", "--data-dir", f"{folder}/data", "--state-dir", f"{folder}/state",
                   "--entrypoint", "/bin/sh", image, "-c", HELLO]
        begin = time.monotonic()
        out = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        print(indented(out.stdout))
        if out.returncode:
            raise SystemExit(f"demo failed: containerd-driver run ended with {out.returncode}")
        print(f"pulled, run and removed in {time.monotonic() - begin:.1f} s")


def show(agent, image, program):
    begin = time.monotonic()
    step(f"job redis: {image}" if "redis" in image else f"job demo: {image}")
    job = agent.run(job_text(image, program))
    alloc = job.running(seconds=300)[0]
    print(f"running {time.monotonic() - begin:.1f} s after it was submitted; allocation {alloc.id}")
    for event in alloc.events():
        print("  " + event)

    step("what the task itself sees, from its log")
    out = alloc.wait_log("=== end of the proof\n")
    print(indented(out.split("=== end")[0]))
    pid = alloc.pid()
    print(f"on the host the same process is pid {pid}; no containerd daemon runs: {containerd()}")

    step("a line of its log")
    print(indented(first_line(alloc, redis="redis" in image)))

    step("stats, twice")
    one = stats(alloc, None)
    two = stats(alloc, one["Timestamp"])
    for usage in (one, two):
        cpu, memory = usage["ResourceUsage"]["CpuStats"], usage["ResourceUsage"]["MemoryStats"]
        at = time.strftime("%H:%M:%S", time.localtime(usage["Timestamp"] / 1e9))
        print(f"  {at}: CPU {cpu['Percent']:.2f} % of a core, {cpu['TotalTicks']:.1f} MHz, "
              f"memory {max(memory['RSS'], memory['Usage']) >> 10} KiB")

    step("stop")
    job.stop()
    nomad.wait_for("the process does not end", lambda: not nomad.read(f"/proc/{pid}/status"), 60)
    ended = time.monotonic()
    alloc.wait_state("dead")
    late = time.monotonic() - ended
    print(f"Nomad knows {late * 1000:.0f} ms after the process ended; exit code {alloc.exit_code()}")
    if late > 1:
        raise SystemExit("that is more than a second")

    step("what is left of it")
    plugin = agent.plugin_pid()
    agent.purge_all()
    marks = [alloc.id, f"{agent.base}/run", f"{agent.base}/store"]
    nomad.wait_for(lambda: "something: " + "; ".join(nomad.leftovers(marks, {agent.process.pid, plugin})),
                   lambda: not nomad.leftovers(marks, {agent.process.pid, plugin}), 20)
    print("  ps: nothing\n  mount: nothing\n  ip netns: nothing\n  cgroups: nothing")
    print("\nDone. The agent and its folder are removed now.")


def job_text(image, program):
    text = (nomad.ROOT / "example/redis.nomad").read_text()
    if "redis" not in image:
        text = text.replace("redis", "demo")
    # HCL would take ${…} and %{…} for its own.
    script = json.dumps(PROOF).replace("${", "$${").replace("%{", "%%{")
    wrapped = f'image = {json.dumps(image)}\n        entrypoint = ["/bin/sh", "-c", {script}, "sh"]\n        args = {json.dumps(program)}'
    return re.sub(r'image\s*=\s*"[^"]+"', lambda _: wrapped, text)


def image_program(image):
    """ENTRYPOINT and CMD of a public image."""
    out = subprocess.run(["skopeo", "inspect", "--config", f"docker://{image}"], check=True, capture_output=True).stdout
    config = json.loads(out)["config"]
    return [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]


def first_line(alloc, redis):
    def line():
        after = alloc.logs().partition("=== end of the proof\n")[2] or alloc.logs("stderr")
        lines = [text for text in after.splitlines() if not redis or "Ready to accept" in text]
        return lines[0] if lines else None

    try:
        return nomad.wait_for("nothing", line, 15)
    except AssertionError:
        return "(it writes nothing)"


def stats(alloc, after):
    def fresh():
        usage = alloc.stats()
        return usage if usage["ResourceUsage"] and usage["Timestamp"] and usage["Timestamp"] != after else None

    return nomad.wait_for("no stats", fresh, 20)


def containerd():
    found = [pid for pid in nomad.pids() if nomad.read(f"/proc/{pid}/comm").strip() == b"containerd"]
    return f"pid {found[0]}, which has nothing to do with this" if found else "none"


def indented(text):
    return "\n".join("  " + line for line in text.strip().splitlines())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted; everything is removed")
    except AssertionError as error:
        raise SystemExit(f"demo failed: {error}")
