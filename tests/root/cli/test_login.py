"""login and logout: the registry's word, and the file that pulls read."""

import base64
import fcntl
import json
import os
import pty
import subprocess

import pytest
import registry as registries

SECRET = registries.PASSWORD
AUTH = base64.b64encode(f"{registries.USERNAME}:{SECRET}".encode()).decode()


@pytest.fixture(scope="module")
def locked():
    with registries.images_registry(with_auth=True) as running:
        yield running.address


def login(node, locked, *flags, password=SECRET, user=registries.USERNAME, **options):
    return node.call("login", "-u", user, "--password-stdin", *flags, locked, input=password, **options)


def test_a_pull_uses_what_login_has_written(node, locked, tmp_path):
    home = {**os.environ, "HOME": str(tmp_path)}
    image = f"{locked}/library/busybox:latest"
    denied = node.call("pull", image, env=home)
    assert denied.returncode == 1 and "pull access denied" in denied.stderr
    done = login(node, locked, password=SECRET + "\n", env=home)
    assert done.returncode == 0 and SECRET not in done.stdout + done.stderr, done
    file = tmp_path / ".docker/config.json"
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(file.read_text()) == {"auths": {locked: {"auth": AUTH}}}
    assert node.call("login", "--get-login", locked, env=home).stdout == f"{registries.USERNAME}\n"
    assert node.call("pull", image, env=home).returncode == 0
    inspect = subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--authfile", file, f"docker://{image}"],
                             capture_output=True, text=True, timeout=60)
    assert inspect.returncode == 0, inspect
    assert node.call("logout", locked, env=home).returncode == 0
    assert json.loads(file.read_text()) == {"auths": {}}
    again = node.call("logout", locked, env=home)
    assert again.returncode == 125 and "not logged in" in again.stderr
    assert node.call("login", "--get-login", locked, env=home).returncode == 125


def test_everything_else_in_the_file_stays(node, locked, tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    before = {"auths": {"other.example": {"auth": "eDp5"}, f"http://{locked}/v2/": {"auth": "b2xkOm9sZA=="}},
              "HttpHeaders": {"X": "y"}, "credHelpers": {"z.example": "none"}, "detachKeys": "ctrl-e"}
    real.write_text(json.dumps(before))
    link.symlink_to(real)
    assert login(node, locked, "--authfile", str(link)).returncode == 0
    after = json.loads(real.read_text())
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert after["auths"] == {"other.example": {"auth": "eDp5"}, locked: {"auth": AUTH}}
    assert {**after, "auths": 0} == {**before, "auths": 0}
    assert node.call("logout", "--all", "--auth-config", str(link)).returncode == 0
    assert json.loads(real.read_text()) == {**before, "auths": {}}


def test_a_login_keeps_what_others_write_meanwhile(node, locked, tmp_path):
    file = tmp_path / "auth/auth.json"
    file.parent.mkdir()
    folder = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    ours = node.start("login", "--authfile", str(file), "-u", registries.USERNAME, "-p", SECRET, locked)
    file.write_text(json.dumps({"auths": {"other.example": {"auth": "eDp5"}}}))
    os.close(folder)
    assert ours.wait(60) == 0
    assert json.loads(file.read_text())["auths"] == {"other.example": {"auth": "eDp5"}, locked: {"auth": AUTH}}
    assert [path.name for path in file.parent.iterdir()] == ["auth.json"]


def test_links_and_owners_stay(node, locked, tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to("real.json")
    assert login(node, locked, "--authfile", str(link)).returncode == 0
    assert link.is_symlink() and json.loads(real.read_text())["auths"] == {locked: {"auth": AUTH}}
    os.chown(real, 1234, 1235)
    assert login(node, locked, "--authfile", str(link)).returncode == 0
    assert (real.stat().st_uid, real.stat().st_gid, real.stat().st_mode & 0o777) == (1234, 1235, 0o600)


def test_logout_makes_no_file(node, tmp_path):
    assert node.call("logout", "--all", "--authfile", str(tmp_path / "no/f")).returncode == 0
    assert "not logged in" in node.call("logout", "--authfile", str(tmp_path / "no/f"), "quay.io").stderr
    assert not (tmp_path / "no").exists()


def test_a_file_of_home_that_others_can_change_is_refused(node, locked, tmp_path):
    home = {**os.environ, "HOME": str(tmp_path)}
    file = tmp_path / ".docker/config.json"
    assert login(node, locked, env=home).returncode == 0
    for mode, owner in ((0o620, 0), (0o602, 0), (0o600, 1234)):
        file.chmod(mode)
        os.chown(file, owner, 0)
        refused = node.call("pull", f"{locked}/library/busybox:latest", env=home)
        assert refused.returncode == 1 and "can be changed by others" in refused.stderr, refused
    named = node.call("pull", "--auth-config", str(file), f"{locked}/library/busybox:latest", env=home)
    assert named.returncode == 0, named
    file.write_text('{"credsStore": "/bin/true"}')
    named = node.call("pull", "--auth-config", str(file), f"{locked}/library/busybox:latest", env=home)
    assert named.returncode == 1 and "has a slash" in named.stderr, named


@pytest.mark.parametrize("flags, password, words", [
    ([], "wrong", "does not accept"), ([], "", "is empty"), (["-p", "x"], SECRET, "not both"),
    (["--tls-verify=false"], SECRET, "hosts.toml"), (["-u", "a:b"], SECRET, "colon"),
])
def test_refused_logins_change_nothing(node, locked, tmp_path, flags, password, words):
    file = tmp_path / "auth.json"
    refused = login(node, locked, "--authfile", str(file), *flags, password=password)
    assert refused.returncode == 125 and words in refused.stderr and len(refused.stderr.splitlines()) == 1, refused
    assert not file.exists() and not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("text, words", [("{not json", "not a JSON object"), ('{"auths": []}', "auths"),
                                         ('{"credsStore": "pass"}', "credential helper pass")])
def test_a_file_that_cannot_be_changed_is_kept(node, locked, tmp_path, text, words):
    file = tmp_path / "auth.json"
    file.write_text(text)
    refused = login(node, locked, "--authfile", str(file))
    assert refused.returncode == 125 and words in refused.stderr, refused
    assert file.read_text() == text


@pytest.mark.parametrize("registry", ["quay.io/team", "a b", "-", "127.0.0.1:1"])
def test_registries_that_are_none(node, tmp_path, registry):
    refused = node.call("login", "--authfile", str(tmp_path / "f"), "-u", "x", "-p", "y", registry)
    assert refused.returncode == 125 and len(refused.stderr.splitlines()) == 1, refused
    assert not (tmp_path / "f").exists()


def test_it_asks_on_a_terminal_and_shows_no_password(node, locked, tmp_path):
    ours, theirs = pty.openpty()
    asked = node.start("login", "--authfile", str(tmp_path / "f"), locked, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    for question, answer in ((b"Username: ", registries.USERNAME), (b"Password: ", SECRET), (b"Succeeded", None)):
        while question not in seen:
            seen += os.read(ours, 1024)
        if answer:
            os.write(ours, f"{answer}\n".encode())
    assert asked.wait(30) == 0 and SECRET.encode() not in seen
    os.close(ours)
    without = node.call("login", locked, stdin=subprocess.DEVNULL)
    assert without.returncode == 125 and "no terminal" in without.stderr
