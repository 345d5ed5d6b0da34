"""What packaging/debian says of this tree, and its maintainer scripts beside containers that there only seem to be."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "packaging/debian"
SCRIPTS = sorted(DEBIAN.glob("containerd-driver.p*[mt]"))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def fields(name):
    """name -> value of all stanzas, the later ones over the earlier."""
    return {key: value for key, value in re.findall(r"^([A-Z][\w-]*):((?:.*(?:\n[ \t].*)*))", (DEBIAN / name).read_text(), re.M)}


def test_one_version():
    built = re.search(r"^  version: '(.*)',$", (ROOT / "meson.build").read_text(), re.M)[1]
    packaged = re.match(r"containerd-driver \((.*)\) ", (DEBIAN / "changelog").read_text())[1]
    told = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert built == packaged == told


def test_every_file_that_is_installed_is_there():
    for name in DEBIAN.glob("*.*"):
        if name.suffix not in (".install", ".examples", ".manpages", ".docs"):
            continue
        for line in name.read_text().splitlines():
            source = line.split()[0]
            assert source.startswith("usr/") or (ROOT / source).exists(), f"{name.name}: {source}"


def test_what_builds_the_packages_is_what_builds_the_programs():
    wanted = set(re.findall(r"\blib[a-z0-9-]+-dev\b|zlib1g-dev", fields("control")["Build-Depends"]))
    run = re.search(r"^run=\((.*?)^  # containers", (ROOT / "scripts/setup").read_text(), re.M | re.S)[1]
    set_up = set(re.findall(r"\blib[a-z0-9-]+-dev\b|zlib1g-dev", run))
    assert wanted == set_up


def test_no_maintainer_script_restarts_anything():
    assert len(SCRIPTS) == 3
    for script in SCRIPTS:
        subprocess.run(["sh", "-n", script], check=True)
        text = script.read_text()
        assert "#DEBHELPER#" in text and "set -e" in text
        assert set(re.findall(r"systemctl (?:--system )?([a-z-]+)", text)) <= {"daemon-reload"}
        assert not re.search(r"invoke-rc\.d|deb-systemd|service nomad", text)


def test_the_unit_keeps_tasks():
    text = (ROOT / "packaging/systemd/nomad.service.d/containerd-driver.conf").read_text()
    assert re.findall(r"^(?!#)\S+", text, re.M) == ["[Service]", "KillMode=process", "Delegate=yes", "TasksMax=infinity",
                                                   "LimitNOFILE=1048576"]


class System:
    """Runs maintainer scripts beside a program and shims of the test's."""

    def __init__(self, folder):
        self.programs, self.library = folder / "bin", folder / "lib"
        self.programs.mkdir()
        (self.library / "containerd-driver/layers").mkdir(parents=True)
        (self.library / "another").mkdir()
        self.shims = ""
        os.mkfifo(folder / "ready")
        self.ready = folder / "ready"
        self.ps("true")

    def ps(self, script):
        program = self.programs / "containerd-driver"
        program.write_text(f'#!/bin/sh\n[ "$1" = ps ] || exit 9\n{script}\n')
        program.chmod(0o755)

    def shim(self, container_id, namespace="containerd-driver", program="containerd-shim-runc-v2", uid=0):
        real = self.ready.parent / program
        shutil.copy(shutil.which("perl"), real)
        self.shims += f"""
            {real} -e '$0 = "/usr/bin/containerd-shim-runc-v2 -namespace {namespace} -id {container_id} -address x";
                     open(READY, ">", "{self.ready}"); $< = $> = {uid}; close READY; sleep 60' > /dev/null 2>&1 &
            read -r line < {self.ready} || true"""

    def run(self, script, *arguments):
        """In name spaces of its own, with folders of the test's in place of the system's."""
        inside = f"""
            set -e
            mount --bind {self.library} /var/lib
            mount -t tmpfs tmpfs /run
            mkdir -p /run/containerd-driver/bundles
            {self.shims}
            export PATH={self.programs}:$PATH
            code=0
            sh "$@" || code=$?
            ls /run
            exit $code"""
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", inside, "sh",
             DEBIAN / f"containerd-driver.{script}", *arguments],
            text=True, capture_output=True, timeout=60, check=False)

    def left(self):
        return sorted(os.listdir(self.library))


@pytest.fixture
def system(tmp_path):
    return System(tmp_path)


@needs_root
@pytest.mark.parametrize("arguments", [("upgrade", "2.0"), ("failed-upgrade", "2.0")])
def test_an_upgrade_asks_nobody(system, arguments):
    system.ps("echo '    web'")
    system.shim("web-0123456789abcdef")
    done = system.run("prerm", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for script in ("postrm", "postinst"):
        assert system.run(script, *arguments).returncode == 0
    assert system.left() == ["another", "containerd-driver"]


@needs_root
def test_removal_beside_nothing(system):
    system.shim("another-0123", namespace="k8s.io")
    done = system.run("prerm", "remove")
    assert (done.returncode, done.stderr) == (0, "")


@needs_root
@pytest.mark.parametrize("other", [{"program": "another"}, {"uid": 65534}])
def test_removal_beside_what_only_is_called_so(system, other):
    system.shim("another-0123", **other)
    done = system.run("prerm", "remove")
    assert (done.returncode, done.stderr) == (0, "")


@needs_root
def test_removal_beside_a_shim_whose_program_was_replaced(system):
    system.shim("web-0123")
    system.shims += f"\n rm {system.ready.parent}/containerd-shim-runc-v2"
    assert "    web-0123\n" in system.run("prerm", "remove").stderr


@needs_root
def test_removal_names_what_runs(system):
    system.ps("echo '    web'; echo '    db'")
    done = system.run("prerm", "remove")
    assert done.returncode == 1
    assert "containers are running:\n    web\n    db\nStop the jobs" in done.stderr


@needs_root
@pytest.mark.parametrize("ps", ["true", "exit 1"])
def test_removal_names_what_only_has_a_shim(system, ps):
    system.ps(ps)
    system.shim("web-0123456789abcdef")
    system.shim("db-0123")
    done = system.run("prerm", "remove")
    assert done.returncode == 1
    assert "    web-0123456789abcdef\n" in done.stderr and "    db-0123\n" in done.stderr
    assert ("`containerd-driver ps` failed" in done.stderr) == (ps != "true")


@needs_root
def test_a_program_that_does_not_start_can_be_removed(system):
    system.ps("exit 127")
    done = system.run("prerm", "remove")
    assert done.returncode == 0 and "looking for shims instead" in done.stderr


@needs_root
def test_purge(system):
    system.shim("web-0123")
    done = system.run("postrm", "purge")
    assert done.returncode == 1 and "not purged, because containers are left:\n    web-0123\n" in done.stderr
    assert system.left() == ["another", "containerd-driver"] and "containerd-driver" in done.stdout
    system.shims = ""
    done = system.run("postrm", "purge")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert system.left() == ["another"]


@needs_root
def test_purge_leaves_what_is_mounted(system, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").touch()
    system.shims = f"mount --bind {volume} /var/lib/containerd-driver/layers"
    mounted = system.run("postrm", "purge")
    assert os.listdir(volume) == ["file"]   # which is on the same disk
    assert mounted.returncode == 0 and "mounted in it; " in mounted.stderr
    assert mounted.stderr.endswith(":\n    /var/lib/containerd-driver/layers\n")
    assert system.left() == ["another", "containerd-driver"]


@needs_root
def test_removal_keeps_data(system):
    assert system.run("postrm", "remove").returncode == 0
    assert system.left() == ["another", "containerd-driver"]
