"""debug: the tools of another image beside a container."""

import pytest

BUSYBOX = "library/busybox:latest"


@pytest.fixture
def box(node):
    ran = node.call("run", "-d", "--name", "box", node.image(BUSYBOX), "sh", "-c", "echo made > /made; exec sleep 600")
    assert ran.returncode == 0, ran
    yield "box"
    node.call("rm", "-f", "box")


def debug(node, box, line, *flags):
    return node.call("debug", "--image", node.image(BUSYBOX), *flags, box, "sh", "-c", line)


def test_processes_network_and_files_are_the_targets(node, box):
    done = debug(node, box, "tr '\\0' ' ' < /proc/1/cmdline; cat /target/made /proc/1/root/made; readlink /proc/self/ns/net")
    assert done.returncode == 0, done
    net = node.call("exec", box, "readlink", "/proc/self/ns/net").stdout
    assert done.stdout == f"sleep 600 made\nmade\n{net}"
    assert debug(node, box, "echo new > /target/new").returncode == 0
    assert node.call("exec", box, "cat", "/new").stdout == "new\n"
    assert debug(node, box, "ls /made").returncode != 0  # its own root is its image's
    assert node.call("ps", "-a", "--format", "{{.Names}}").stdout == "box\n"


def test_exit_code_input_and_user(node, box):
    assert debug(node, box, "exit 7").returncode == 7
    done = node.call("debug", "--image", node.image(BUSYBOX), "-i", "-u", "5", "-e", "A=b", box, "sh", "-c",
                     "id -u; echo $A; cat", input="in\n")
    assert done.stdout == "5\nb\nin\n"


def test_it_goes_with_the_target(node, box):
    process = node.start("debug", "--image", node.image(BUSYBOX), "--name", "tools", box, "sleep", "600")
    while "tools" not in node.call("ps", "--filter", "status=running", "--format", "{{.Names}}").stdout:
        assert process.poll() is None
    assert node.call("inspect", "--format", "{{.HostConfig.PidMode}}", "tools").stdout.startswith("container:")
    assert node.call("stop", "-t", "0", box).returncode == 0
    assert process.wait(30) == 137


def test_run_shares_processes_too(node, box):
    done = node.run("cat", "/proc/1/comm", flags=["--pid", f"container:{box}"])
    assert done.stdout == "sleep\n"
    assert "must be host, container:ID or private" in node.run("true", flags=["--pid", "pod"]).stderr
    assert "there is no container nobody" in node.run("true", flags=["--pid", "container:nobody"]).stderr


def test_errors(node, box):
    assert node.call("debug", "--image", "x").returncode == 125
    flag = node.call("debug", "--image", "--privileged", box)
    assert flag.returncode == 125 and "--privileged is not an image's name" in flag.stderr, flag
    none = node.call("debug", box)
    assert none.returncode == 125 and "--image" in none.stderr
    assert "there is no container nobody" in node.call("debug", "--image", "x", "nobody").stderr
    node.call("stop", "-t", "0", box)
    ended = node.call("debug", "--image", node.image(BUSYBOX), box)
    assert ended.returncode == 125 and ended.stderr == f"containerd-driver: {box} is not running\n"
