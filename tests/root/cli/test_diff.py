"""diff: what a container has changed of its image."""

import json

import pytest

BUSYBOX = "library/busybox:latest"


@pytest.fixture
def box(node):
    ran = node.call("run", "-d", "--name", "box", "--tmpfs", "/cache", node.image(BUSYBOX), "sleep", "600")
    assert ran.returncode == 0, ran

    def shell(line):
        done = node.call("exec", "box", "sh", "-c", line)
        assert done.returncode == 0, done

    yield shell
    node.call("rm", "-f", "box")


def changes(node, *flags):
    done = node.call("diff", *flags, "box")
    assert done.returncode == 0, done
    return done.stdout


def test_added_changed_and_deleted(node, box):
    before = set(changes(node).splitlines())
    box("mkdir -p /new/sub && echo 1 > /new/sub/f && ln -s /etc /new/link")
    box("echo >> /etc/passwd && rm /etc/group && echo > /gone && rm /gone && echo > /cache/unseen")
    assert set(changes(node).splitlines()) - before == {
        "A /new", "A /new/sub", "A /new/sub/f", "A /new/link", "C /etc/passwd", "D /etc/group"}
    lists = json.loads(changes(node, "--format", "json"))
    assert "/new/sub/f" in lists["added"] and "/etc" in lists["changed"] and lists["deleted"] == ["/etc/group"]
    assert json.loads(changes(node, "-o", "json")) == lists
    node.call("stop", "-t", "0", "box")
    assert "D /etc/group" in changes(node)


def test_a_folder_that_was_replaced(node, box):
    again = "/kept/busybox rm -r /usr/bin; /kept/busybox mkdir /usr/bin; /kept/busybox cp /kept/busybox /usr/bin"
    box(f"cp -a /usr/bin /kept; {again}")
    found = changes(node).splitlines()
    assert {"C /usr", "C /usr/bin", "C /usr/bin/busybox", "D /usr/bin/cat", "A /kept", "A /kept/cat"} <= set(found)
    assert "D /usr/bin/busybox" not in found


def test_a_file_in_place_of_a_folder_and_the_reverse(node, box):
    box("rm -r /home; echo > /home; rm /etc/group; mkdir /etc/group; echo > /etc/group/f")
    found = changes(node).splitlines()
    assert "C /home" in found and "C /etc/group" in found and "A /etc/group/f" in found


def test_names_that_a_terminal_would_obey(node, box):
    box("echo > \"/$(printf 'a\\033[2Jb')\"")
    assert "A /a\\x1b[2Jb\n" in changes(node)


def test_what_mounts_leave_is_not_its_own(node, box):
    assert not any(line.endswith(("/etc/hosts", "/etc/resolv.conf", "/cache", "/proc")) for line in changes(node).splitlines())


@pytest.mark.parametrize("config", ["{", " " * (5 << 20)], ids=["damaged", "large"])
def test_a_config_that_cannot_be_read(node, box, config):
    [path] = (node.folder / "state/bundles").glob("*/config.json")
    before = path.read_bytes()
    path.write_text(config)
    done = node.call("diff", "box")
    path.write_bytes(before)
    assert done.returncode == 125 and "config.json" in done.stderr and done.stdout == "", done


def test_errors(node, box):
    assert node.call("diff").returncode == 125
    assert node.call("diff", "--format", "{{.}}", "box").returncode == 125
    missing = node.call("diff", "nobody")
    assert missing.returncode == 125 and "there is no container nobody" in missing.stderr
    assert node.call("create", "--name", "created", node.image(BUSYBOX)).returncode == 0
    assert node.call("diff", "created").stdout == ""
    node.call("rm", "created")
