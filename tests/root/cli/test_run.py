"""`containerd-driver run` and its kin against the real shim, runc and registry."""

import base64
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import images
import registry as registries


def wait_for_line(process, word):
    """Lines of the process's stdout up to the one with `word`."""
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"the output ended without {word!r}")


def wait_until_running(node):
    """The command's first line may be out before the record says that it runs."""
    deadline = time.monotonic() + 20
    while "Up" not in node.call("ps").stdout:
        assert time.monotonic() < deadline


def test_output_and_exit_code(node):
    ran = node.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("out\n", "err\n", 3)


def test_big_output_arrives_whole(node):
    ran = node.run("sh", "-c", "yes 0123456789abcde | head -c 33554432")
    assert len(ran.stdout) == 32 << 20


def shell(script, *argv):
    """A shell's script, in which "$@" is the command line with `argv`."""
    return subprocess.run(["/bin/bash", "-c", script, "run", *argv], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", [
    ["yes"],
    ["sh", "-c", "trap '' TERM; yes"],  # a container's first process does not hear SIGPIPE, and may not hear SIGTERM
])
def test_a_reader_that_goes_away_ends_the_command(node, command):
    ran = shell('"$@" | head -1; exit ${PIPESTATUS[0]}',
                *node.argv("run", "--rm", node.image("library/busybox:latest"), *command))
    assert (ran.stdout, ran.returncode) == ("y\n", 128 + signal.SIGPIPE), ran
    assert ran.stderr == "containerd-driver: the container was stopped: standard output: writing: Broken pipe\n"


def test_a_full_disk_ends_the_command(node):
    ran = shell('"$@" > /dev/full', *node.argv("run", "--rm", node.image("library/busybox:latest"), "yes"))
    assert ran.returncode == 125 and "standard output: writing: No space left on device" in ran.stderr, ran
    ran = shell('"$@" 2> /dev/full', *node.argv("run", "--rm", node.image("library/busybox:latest"), "sh", "-c", "yes >&2"))
    assert ran.returncode == 125, ran


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("verb", ["version", "images", "ps", "schema", "help", "gc", "fsck"])
@pytest.mark.parametrize("output, why", [
    (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
    (broken_pipe, "Broken pipe"),
    (lambda: os.open("/dev/null", os.O_RDONLY), "Bad file descriptor"),
])
def test_output_that_cannot_be_written_is_an_error(node, verb, output, why):
    descriptor = output()
    ran = subprocess.run(node.argv(verb), stdout=descriptor, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(descriptor)
    assert (ran.returncode, ran.stderr) == (1, f"containerd-driver: standard output: writing: {why}\n")


def test_a_pull_that_reports_to_nobody_is_cancelled(node):
    descriptor = broken_pipe()
    image = node.image("library/busybox:latest")
    ran = subprocess.run(node.argv("pull", "-o", "json", image), stdout=descriptor, stderr=subprocess.PIPE, text=True,
                         timeout=60)
    os.close(descriptor)
    assert (ran.returncode, ran.stderr) == (1, "containerd-driver: standard output: writing: Broken pipe\n")


def test_standard_descriptors_that_are_closed_are_not_written_into(node):
    ran = shell('"$@" <&- >&- 2>&-', *node.argv("run", "--rm", node.image("library/busybox:latest"), "sh", "-c",
                                                "echo out; echo err >&2; sleep 1000"))
    assert ran.returncode == 125, ran


def test_no_threads_are_an_error(node):
    """Of a user whose processes are counted; `run` of root needs a cgroup for that (tests/root/driver)."""
    ran = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "prlimit", "--nproc=0", *node.argv("pull", "x")],
                         capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1 and "raise the limit" in ran.stderr, ran


@pytest.fixture
def few_tasks():
    """A cgroup that allows so many processes and threads."""
    root = Path("/sys/fs/cgroup/pids")
    if not root.is_dir():  # v2
        root = Path("/sys/fs/cgroup")
        (root / "cgroup.subtree_control").write_text("+pids")
    group = root / f"cd-test-{os.getpid()}"
    group.mkdir()

    def limit(count):
        (group / "pids.max").write_text(str(count))
        return group / "cgroup.procs"

    yield limit
    group.rmdir()


@pytest.mark.parametrize("count", range(1, 16))
def test_few_processes_and_threads_are_an_error_or_enough(node, few_tasks, count):
    assert node.call("pull", node.image("library/busybox:latest")).returncode == 0
    procs = few_tasks(count)
    ran = node.run("echo", "fine", preexec_fn=lambda: procs.write_text("0"))
    if ran.returncode == 0:
        assert ran.stdout == "fine\n", ran
    else:
        assert ran.returncode == 125 and ran.stderr.startswith("containerd-driver: "), ran
        assert count > 3 or "raise the limit (TasksMax, pids.max, ulimit -u)" in ran.stderr, ran
    assert len(node.call("ps", "-a").stdout.splitlines()) == 1  # nothing is left in STARTING


@pytest.mark.parametrize("args", [
    ["images", "--data-dir", "data"], ["ps", "--state-dir", "./state"], ["run", "-v", "./x:/x", "busybox"]])
def test_relative_paths_in_a_working_directory_that_was_removed(node, args):
    ran = shell('mkdir "$1" && cd "$1" && rmdir "$1" && shift && "$@"', str(node.folder / "gone"), *node.argv(args[0], *args[1:]))
    assert ran.returncode == 125 and "working directory" in ran.stderr and args[2].split(":")[0] in ran.stderr, ran


def test_environment_directory_user_and_host_name(node):
    ran = node.run("sh", "-c", "echo $A $B; pwd; id -u; id -g; hostname; touch made",
                   flags=["-e", "A=1", "-e", "B", "-w", "/made/here", "-u", "0:7", "--hostname", "foobar"],
                   env={**os.environ, "B": "ours"})
    assert ran.stdout.split("\n")[:5] == ["1 ours", "/made/here", "0", "7", "foobar"], ran.stderr
    # A directory that the runtime makes can be entered by others than root.
    assert node.run("pwd", flags=["-w", "/made/here", "-u", "1000"]).stdout == "/made/here\n"
    assert node.run("id", "-un", flags=["-u", "nobody"]).stdout == "nobody\n"
    assert node.run("proc", image="library/probe:user").returncode == 0


def test_mounts(node):
    (node.folder / "file").write_text("hello\n")
    ran = node.run("sh", "-c", "cat /deep/er/file; echo x > /deep/er/file",
                   flags=["-v", f"{node.folder}/file:/deep/er/file:ro"])
    assert ran.stdout == "hello\n"
    assert "Read-only" in ran.stderr
    node.run("sh", "-c", "echo changed > /f", flags=["-v", f"{node.folder}/file:/f"])
    assert (node.folder / "file").read_text() == "changed\n"
    assert "Read-only" in node.run("touch", "/x", flags=["--read-only"]).stderr


def test_the_container_is_one(node):
    """Its own processes, its own network, few rights, a filter."""
    ran = node.run("sh", "-c", "cat /proc/1/comm; ls /sys/class/net; grep -E '^(Seccomp|NoNewPrivs|CapInh|CapBnd):' /proc/1/status")
    assert ran.stdout.split() == [
        "sh", "lo", "CapInh:", "0000000000000000", "CapBnd:", "00000000a80405fb", "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert "eth" in node.run("ls", "/sys/class/net", flags=["--net", "host"]).stdout or os.listdir("/sys/class/net") == ["lo"]
    limited = node.run("grep", "CapBnd", "/proc/1/status", flags=["--cap-drop", "ALL", "--cap-add", "chown"])
    assert limited.stdout.split() == ["CapBnd:", "0000000000000001"]
    privileged = node.run("grep", "-E", "CapBnd|Seccomp:", "/proc/1/status", flags=["--privileged"])
    ours = [line for line in open("/proc/self/status") if line.startswith("CapBnd")][0].split()[1]
    assert privileged.stdout.split() == ["CapBnd:", ours, "Seccomp:", "0"]


def test_system_calls_that_the_filter_stops(node):
    for command, word in (("unshare -m true", "not permitted"), ("mount -t tmpfs x /mnt", "denied|not permitted")):
        ran = node.run("sh", "-c", f"{command} 2>&1")
        assert ran.returncode != 0 and any(part in ran.stdout for part in word.split("|")), ran.stdout


@pytest.mark.parametrize("args, flags, code, words", [
    (["reids"], [], 127, ["reids", "not found"]),
    (["/etc"], [], 126, ["/etc"]),
    (["true"], ["-u", "nosuchuser"], 125, ["nosuchuser", "/etc/passwd"]),
    (["true"], ["-u", "99999999999"], 125, ["99999999999"]),
    (["true"], ["--cap-add", "FLYING"], 125, ["FLYING"]),
    (["true"], ["-v", "/no/such/folder:/x"], 125, ["/no/such/folder"]),
    (["true"], ["-w", "/proc/self/fd/7"], 125, ["/proc/self/fd/7"]),
    (["true"], ["--shim", "/no/such/shim"], 125, ["/no/such/shim"]),
    (["true"], ["--runtime", "/no/such/runc"], 125, ["/no/such/runc"]),
    (["true"], ["--unknown"], 125, ["--unknown"]),
])
def test_what_cannot_run(node, args, flags, code, words):
    ran = node.run(*args, flags=flags)
    assert ran.returncode == code
    assert ran.stderr.startswith("containerd-driver: ") and ran.stderr.count("\n") == 1, ran.stderr
    assert all(word in ran.stderr for word in words), ran.stderr


def test_images_that_cannot_be_had(node):
    for image, word in (("Not A Reference!", "Not A Reference!"), (node.image("no/such:1"), "no/such"),
                        ("127.0.0.1:1/x:1", "127.0.0.1:1")):
        ran = node.call("run", "--rm", image, "true")
        assert ran.returncode == 125 and word in ran.stderr, ran.stderr


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1", "USR2"])
def test_signals_reach_the_command(node, name):
    process = node.start("run", "--rm", node.image("library/busybox:latest"), "sh", "-c",
                         f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done",
                         stdout=subprocess.PIPE)
    wait_for_line(process, "ready")
    process.send_signal(getattr(signal, f"SIG{name}"))
    wait_for_line(process, "got")
    assert process.wait(20) == 9


def test_who_insists_is_heard(node):
    """The first process of a container ignores what it has no handler for; the third SIGINT kills."""
    process = node.start("run", "--rm", node.image("library/busybox:latest"), "sleep", "1000")
    wait_until_running(node)
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # signals of one kind that come at once are one signal
    assert process.wait(1) == 137


def test_interrupted_while_pulling(node):
    process = node.start("run", "--rm", "192.0.2.1:5000/never/answers:1", stderr=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while not list((node.folder / "data").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (128 + signal.SIGINT, 125)


def test_kept_container_is_listed_and_removed(node):
    assert node.call("run", "--name", "kept", node.image("library/busybox:latest"), "sh", "-c", "exit 4").returncode == 4
    table = node.call("ps", "-a").stdout.splitlines()
    assert len(table) == 2 and "kept" in table[1] and "Exited (4)" in table[1], table
    assert len(node.call("ps").stdout.splitlines()) == 1
    (listed,) = json.loads(node.call("ps", "-a", "-o", "json").stdout)
    assert listed["exit_code"] == 4
    (document,) = json.loads(node.call("inspect", "kept-").stdout)
    inspected = document["Task"]
    assert inspected == listed and inspected["attributes"]["image_platform"].startswith("linux/")
    (image,) = json.loads(node.call("inspect", inspected["attributes"]["image"]).stdout)
    assert document["Image"] == image["Id"] and image["RepoTags"] == [image["reference"]]
    assert image["digest"] == inspected["attributes"]["image_digest"]
    assert image["resolved_digest"] == inspected["attributes"]["image_resolved_digest"]
    assert image["platform"] == inspected["attributes"]["image_platform"]
    assert str(image["size_bytes"]) == inspected["attributes"]["image_size"]
    assert image["pulled_at"] == inspected["attributes"]["image_pulled_at"] and "verified" not in image
    missing = node.call("inspect", "nosuch", "kept")
    assert missing.returncode == 125 and len(json.loads(missing.stdout)) == 1 and "nosuch" in missing.stderr
    assert node.call("rm", "nosuch").returncode == 1
    removed = node.call("rm", "kept-")
    assert removed.returncode == 0, removed.stderr
    assert len(node.call("ps", "-a").stdout.splitlines()) == 1


def test_a_running_container_is_removed_only_by_force(node):
    process = node.start("run", "--name", "busy", node.image("library/busybox:latest"), "sh", "-c",
                         "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
    wait_for_line(process, "ready")
    wait_until_running(node)
    refused = node.call("rm", "busy-")
    assert refused.returncode == 2 and "--force" in refused.stderr
    assert node.call("rm", "-f", "busy-").returncode == 0
    process.wait(20)
    assert len(node.call("ps", "-a").stdout.splitlines()) == 1


def test_nothing_is_lost_when_the_command_line_is_killed(node):
    process = node.start("run", "--name", "orphan", node.image("library/busybox:latest"), "sh", "-c",
                         "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
    wait_for_line(process, "ready")
    wait_until_running(node)
    process.kill()
    process.wait()
    assert "Up" in node.call("ps").stdout
    assert node.call("rm", "-f", "orphan-").returncode == 0
    for folder in (node.folder / "state/cli").glob("*"):  # the killed call's own pipes
        for pipe in folder.glob("*"):
            pipe.unlink()
        folder.rmdir()


def test_pull_and_images(node):
    image = node.image("library/busybox:latest")
    pulled = node.call("pull", "-o", "json", image)
    lines = [json.loads(line) for line in pulled.stdout.splitlines()]
    assert pulled.returncode == 0 and lines[-1]["event"] == "done" and lines[-1]["reference"] == image, pulled
    assert all(line["event"] == "progress" for line in lines[:-1])
    assert image in node.call("pull", image).stdout
    (listed,) = json.loads(node.call("images", "-o", "json").stdout)
    assert listed["reference"] == image and listed["digest"] == lines[-1]["digest"]
    assert image in node.call("images").stdout
    short = node.call("images", "-q").stdout.strip()
    assert listed["id"] == node.call("images", "-q", "--no-trunc").stdout.strip() and listed["id"][7:19] == short
    repository, tag = image.rsplit(":", 1)
    assert node.call("images", "--format", "{{.Repository}}|{{.Tag}}|{{.ID}}").stdout == f"{repository}|{tag}|{short}\n"
    (document,) = json.loads(node.call("images", "--format", "json").stdout)
    assert json.loads(node.call("inspect", short).stdout) == [document] and document["RepoTags"] == [image]
    for filter, found in (("reference=*busybox*", True), ("reference=library/busybox", True), ("reference=redis", False),
                          ("dangling=true", False), (f"id={short}", True), ("label=nosuch", False), (f"since={image}", False)):
        assert node.call("images", "-q", "--filter", filter).stdout == (f"{short}\n" if found else ""), filter
    assert node.call("images", "--filter", "colour=red").returncode == 125
    assert node.call("images", "--format", "{{.Nonsense}}").returncode == 125
    failed = node.call("pull", "-o", "json", node.image("no/such:1"))
    assert failed.returncode == 1 and json.loads(failed.stdout.splitlines()[-1])["event"] == "error"


def test_another_platform(node):
    image, other = node.image("library/busybox:multi"), images.OTHER_ARCH
    assert node.call("pull", "--platform", other, image).returncode == 0
    assert json.loads(node.call("inspect", image).stdout)[0]["platform"] == f"linux/{other}"
    assert node.call("run", "--rm", image, "true").returncode == 0  # this host's is pulled in its place
    assert json.loads(node.call("inspect", image).stdout)[0]["platform"] != f"linux/{other}"
    ran = node.call("run", "--rm", "--platform", f"linux/{other}", image)
    assert ran.returncode != 0 and "/hello" in ran.stderr, ran  # that one's command, without a shell to run it
    for verb in ("pull", "run"):
        wrong = node.call(verb, "--platform", "windows/amd64", image)
        assert wrong.returncode != 0 and '"windows/amd64" is not a valid platform' in wrong.stderr, wrong


@pytest.fixture
def locked(tmp_path):
    """An image of a registry that wants a password, and a config.json that has it."""
    with registries.images_registry(with_auth=True) as running:
        secret = base64.b64encode(f"{registries.USERNAME}:{registries.PASSWORD}".encode()).decode()
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {running.address: {"auth": secret}}}))
        yield f"{running.address}/library/busybox:latest", str(config)


def test_passwords_come_from_a_docker_config(node, locked):
    image, config = locked
    denied = node.call("pull", image)
    assert denied.returncode == 1 and "pull access denied" in denied.stderr, denied
    broken = node.call("pull", "--auth-config", config + ".none", image)
    assert broken.returncode == 1 and config + ".none" in broken.stderr, broken
    for verb, *args in (("pull", image), ("run", "--rm", image, "true")):
        called = node.call(verb, "--auth-config", config, *args)
        assert called.returncode == 0, called

    (listed,) = json.loads(node.call("images", "-o", "json").stdout)
    manifest = node.folder / "data/blobs/sha256" / listed["digest"].removeprefix("sha256:")
    manifest.chmod(0o600)
    manifest.write_bytes(b"{}")
    repaired = node.call("fsck", "--repair", "--pull", "--auth-config", config)
    assert f"{image}: pulled again" in repaired.stdout and repaired.returncode == 0, repaired
    assert node.call("fsck").returncode == 0


def test_many_at_once(node):
    processes = [node.start("run", "--rm", node.image("library/busybox:latest"), "sh", "-c", f"exit {i}") for i in range(8)]
    assert [process.wait(60) for process in processes] == list(range(8))


def test_images_are_removed_by_name_and_by_collection(node):
    busybox, probe = node.image("library/busybox:latest"), node.image("library/probe:latest")
    for image in (busybox, probe):
        assert node.call("pull", image).returncode == 0
    process = node.start("run", "--name", "user", busybox, "sh", "-c", "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
    wait_for_line(process, "ready")
    wait_until_running(node)

    refused = node.call("rmi", busybox)
    assert refused.returncode == 1 and "in use: container user-" in refused.stderr, refused
    assert node.call("rmi", node.image("no/such:1")).returncode == 1

    table = node.call("gc", "--all", "--dry-run").stdout
    assert f"{probe} " in table and "would go" in table and "stays" in table and "would free" in table, table
    assert len(json.loads(node.call("images", "-o", "json").stdout)) == 2
    report = json.loads(node.call("gc", "--all", "-o", "json").stdout)
    assert {image["reference"]: image["removed"] for image in report["images"]} == {busybox: False, probe: True}
    assert report["freed_bytes"] > 0 and report["store_bytes"] > 0
    assert [image["reference"] for image in json.loads(node.call("images", "-o", "json").stdout)] == [busybox]

    assert node.call("rm", "-f", "user-").returncode == 0
    process.wait(20)
    assert node.call("rmi", busybox).stdout == busybox + "\n"
    assert node.call("images", "-o", "json").stdout.strip() == "[]"
    assert not list((node.folder / "data/layers").iterdir())
    assert node.call("gc", "--max-size", "much").returncode == 125


def test_collection_without_a_store(node):
    empty = node.call("gc")
    assert empty.returncode == 0 and "freed 0 B" in empty.stdout, empty


def test_load(node, tmp_path):
    image = node.image("library/busybox:latest")
    for target in (f"docker-archive:{tmp_path}/docker.tar:app:1", f"oci:{tmp_path}/layout:v1"):
        subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{image}", target], check=True)
    assert node.call("load", "-i", str(tmp_path / "docker.tar")).stdout == "docker.io/library/app:1\n"
    assert json.loads(node.call("load", "-o", "json", "-i", str(tmp_path / "layout")).stdout) == {
        "references": ["localhost/archive:v1"]}
    with open(tmp_path / "docker.tar", "rb") as archive:
        assert node.call("load", "app:1", stdin=archive).stdout == "docker.io/library/app:1\n"
    ran = node.call("run", "--rm", "app:1", "echo", "fine")
    assert ran.stdout == "fine\n", ran
    refused = node.call("load", "-i", "/etc/passwd")
    assert refused.returncode == 125 and "not an image archive" in refused.stderr
    assert node.call("load", "-i", str(tmp_path / "docker.tar"), "other:1").returncode == 125
    assert not list((node.folder / "data/ingest").iterdir())


@pytest.fixture
def podman_storage():
    """Flags for one of its own; podman wants its path to be shorter than 50 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield ["--root", f"{folder}/s", "--runroot", f"{folder}/r", "--storage-driver", "vfs"]


def test_podman_and_we_load_the_same(node, tmp_path, podman_storage):
    """What podman saves we load, what we have pulled podman loads, and every kind of archive both do."""
    image = node.image("library/busybox:latest")

    def podman(*args):
        return subprocess.run(["podman", *podman_storage, *args], check=True, capture_output=True, text=True, timeout=60).stdout

    assert node.call("pull", image).returncode == 0
    ids = set()
    for kind, name in (("docker-archive", "docker.io/library/app"), ("oci-archive", "localhost/app")):
        archive = tmp_path / f"{kind}.tar"
        subprocess.run(["skopeo", "copy", "-q", f"oci:{node.folder}/data:{image}", f"{kind}:{archive}:app:{kind}"],
                       check=True, timeout=60)
        assert podman("load", "-q", "-i", archive).split()[-1] == f"{name}:{kind}"
        [ours] = json.loads(node.call("load", "-o", "json", "-i", str(archive)).stdout)["references"]
        saved = tmp_path / f"{kind}-by-podman.tar"
        podman("save", "-q", "--format", kind, "-o", saved, f"{name}:{kind}")
        [back] = json.loads(node.call("load", "-o", "json", "-i", str(saved)).stdout)["references"]
        for reference in (ours, back):
            ran = node.call("run", "--rm", reference, "echo", "fine")
            assert ran.stdout == "fine\n", ran
        ids.add(podman("image", "inspect", "--format", "{{.Id}}", f"{name}:{kind}").strip())
    assert len(ids) == 1


@pytest.mark.parametrize("flags", [["--rm"], []])
def test_one_that_is_removed_elsewhere_ends_without_alarm(node, flags):
    name = node.image("library/busybox:latest")
    with node.start("run", *flags, "--name", "web", name, "sh", "-c", "echo up; sleep 300", stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE) as foreground:
        wait_for_line(foreground, "up")
        wait_until_running(node)
        removed = node.call("rm", "-f", "web")
        _, complaints = foreground.communicate(timeout=30)
    assert (removed.returncode, foreground.returncode, complaints) == (0, 137, ""), removed
    assert len(node.call("ps", "-a").stdout.splitlines()) == 1


def test_images_and_containers_by_what_the_tables_show(node):
    name = node.image("library/busybox:latest")
    assert node.call("pull", name).returncode == 0
    digest = node.call("images").stdout.splitlines()[1].split()[1]
    assert json.loads(node.call("inspect", digest).stdout)[0]["reference"] == name
    assert node.call("run", "--name", "web", digest, "true").returncode == 0
    container = node.call("ps", "-a", "--filter", "name=web").stdout.splitlines()[1].split()[0]
    shown = json.loads(node.call("ps", "-a", "-o", "json", "--filter", f"id={container}").stdout)
    assert [one["name"] for one in shown] == ["web"]
    assert shown[0]["started_at"].endswith("Z")
    assert node.call("rm", container[:6]).returncode == 0
    assert node.call("rmi", digest).stdout == name + "\n"


def test_an_interrupted_pull_is_130(node):
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        host = "%s:%d" % never_answers.getsockname()
        with node.start("pull", f"{host}/library/busybox:latest", stderr=subprocess.PIPE) as pull:
            never_answers.accept()
            pull.send_signal(signal.SIGINT)
            assert (pull.wait(timeout=30), pull.stderr.read()) == (130, "")


def test_who_is_not_root_is_told_so(node):
    assert node.call("pull", node.image("library/busybox:latest")).returncode == 0
    for verb in ("images", "ps", "gc"):
        ran = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", *node.argv(verb)], capture_output=True,
                             text=True, timeout=30)
        assert ran.returncode == 1 and "needs root" in ran.stderr, ran
