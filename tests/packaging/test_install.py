"""packaging/install.sh on a release of programs that do nothing, in folders of the test."""
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

PACKAGING = pathlib.Path(__file__).resolve().parents[2] / "packaging"
PROGRAMS = ["containerd-driver", "containerd-driver-image", "containerd-driver-init"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Release:
    """An unpacked archive, and what its install.sh does to a prefix."""

    def __init__(self, folder, prefix):
        self.folder, self.prefix = folder, prefix
        (folder / "programs").mkdir(parents=True)
        shutil.copy(PACKAGING / "install.sh", folder)
        shutil.copytree(PACKAGING / "systemd", folder / "systemd")
        for name in PROGRAMS:
            shutil.copy("/bin/sleep", folder / "programs" / name)
        (folder / "MACHINE").write_text(os.uname().machine + "\n")
        self.make("1.0")

    def make(self, version):
        (self.folder / "VERSION").write_text(version + "\n")
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
        (self.folder / "SHA256SUMS").write_text("".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(self.folder)}\n" for path in files))

    def edit(self, old, new):
        script = self.folder / "install.sh"
        text = script.read_text()
        assert old in text
        script.write_text(text.replace(old, new))
        self.make("1.0")

    def install(self, *arguments, path=None, **options):
        # Containers of this machine are none of the test's.
        alone = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"] if "--remove" in arguments else []
        env = {"PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"], **options.pop("env", {})}
        return subprocess.run([*alone, self.folder / "install.sh", "--prefix", self.prefix, *arguments], env=env, text=True,
                              capture_output=True, timeout=60, check=False, **options)

    @property
    def program(self):
        return self.prefix / "bin/containerd-driver"

    def version(self):
        """Of the programs that are used, which are whole."""
        real = self.program.resolve(strict=True)
        assert sorted(path.name for path in real.parent.iterdir()) == PROGRAMS
        assert all(os.access(real.parent / name, os.X_OK) for name in PROGRAMS)
        return real.parent.name.rpartition("-")[0]

    def leftovers(self):
        return [path for path in self.prefix.rglob(".new*")]


@pytest.fixture
def release(tmp_path):
    return Release(tmp_path / "release", tmp_path / "prefix")


def stub(folder, name, text):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return folder


@needs_root
def test_installs_and_again(release):
    first = release.install(umask=0o077)
    assert first.returncode == 0, first.stderr
    assert all(path.stat().st_mode & 0o555 == 0o555 for path in release.prefix.rglob("*") if path.is_dir())
    assert release.version() == "1.0"
    link = release.prefix / "lib/nomad/plugins/containerd-driver"
    assert link.resolve() == release.program.resolve() and os.listdir(link.parent) == ["containerd-driver"]
    unit = release.prefix / "lib/systemd/system/nomad.service.d/containerd-driver.conf"
    assert unit.stat().st_mode & 0o777 == 0o644
    assert f'plugin_dir = "{release.prefix}/lib/nomad/plugins"' in first.stdout
    inode = release.program.resolve().stat().st_ino
    again = release.install()
    assert again.returncode == 0 and "is there already" in again.stdout
    assert release.program.resolve().stat().st_ino == inode
    assert release.leftovers() == []


def test_staged_for_a_package(release, tmp_path):
    done = release.install("--prefix=/usr", env={"DESTDIR": str(tmp_path / "tree")})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tree/usr/bin/containerd-driver").resolve().is_relative_to(tmp_path / "tree/usr/libexec")
    assert 'plugin_dir = "/usr/lib/nomad/plugins"' in done.stdout
    assert not release.prefix.exists()


@needs_root
def test_without_root():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        release = Release(pathlib.Path(folder) / "release", pathlib.Path(folder) / "prefix")
        done = release.install(user=65534, group=65534, extra_groups=[])
        assert done.returncode == 1
        assert done.stderr == f"error: root is needed to install into {release.prefix}: run it with sudo\n"
        assert not release.prefix.exists()


@needs_root
def test_another_machine(release):
    (release.folder / "MACHINE").write_text("pdp11\n")
    release.make("1.0")
    done = release.install()
    assert done.returncode == 1
    assert "this release is for pdp11 and this machine is " + os.uname().machine in done.stderr
    assert not release.program.exists()


@needs_root
@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "programs/containerd-driver-image").write_bytes(b"short"),
    lambda folder: (folder / "programs/containerd-driver-init").unlink(),
    lambda folder: (folder / "SHA256SUMS").unlink(),
    lambda folder: (folder / "MACHINE").unlink(),
])
def test_broken_archive(release, damage):
    damage(release.folder)
    done = release.install()
    assert done.returncode == 1
    assert "archive again" in done.stderr
    assert not release.prefix.exists()


@needs_root
@pytest.mark.parametrize("arguments", [["--prefix"], ["--prefix", "usr"], ["--purge"], ["extra"]])
def test_wrong_use(release, arguments):
    done = release.install(*arguments)
    assert done.returncode in (1, 2) and done.stderr
    assert not release.prefix.exists()


@needs_root
def test_prefix_that_cannot_be_written(release):
    release.prefix.mkdir()
    script = f'mount --bind "{release.prefix}" "{release.prefix}" && mount -o remount,bind,ro "{release.prefix}" && ' \
             f'"{release.folder}/install.sh" --prefix "{release.prefix}"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], text=True, capture_output=True, timeout=60, check=False)
    if done.returncode and "install.sh" not in done.stderr and "cannot be written" not in done.stderr:
        pytest.skip("no mounts here: " + done.stderr)
    assert done.returncode == 1
    assert "cannot be written: choose another --prefix" in done.stderr
    assert os.listdir(release.prefix) == []


@needs_root
def test_what_the_node_lacks(release, tmp_path):
    node = tmp_path / "node"
    release.edit("program_folders='/usr/local/sbin", f"program_folders='{node}' # '")
    release.edit("cgroup_folder=/sys/fs/cgroup", f"cgroup_folder={tmp_path}/cgroup")
    done = release.install(path=stub(tmp_path / "stubs", "uname", '[ "$1" = -r ] && echo 5.11.9-x || exec /bin/uname "$@"\n'))
    assert done.returncode == 0, done.stderr
    for text in ("missing: containerd-shim-runc-v2", "missing: runc or crun", "missing: control groups", "too old: Linux 5.11.9-x"):
        assert text in done.stdout
    stub(stub(node, "crun", ""), "containerd-shim-runc-v2", "")
    (tmp_path / "cgroup/memory").mkdir(parents=True)
    done = release.install()
    assert done.returncode == 0 and "missing" not in done.stdout and "too old" not in done.stdout


@needs_root
def test_libraries_that_are_missing(release, tmp_path):
    stubs = stub(tmp_path / "stubs", "ldd", 'printf "\\tlibarchive.so.13 => not found\\n"; exit 0\n')
    done = release.install(path=stubs)
    assert done.returncode == 1 and "libarchive.so.13 => not found" in done.stderr
    assert not release.prefix.exists()


@needs_root
@pytest.mark.parametrize("rename", [1, 2, 3, 4])   # programs, unit, plugin, command
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("before", [None, "0.9"])
def test_interrupted_before_every_rename(release, tmp_path, number, before, rename):
    """What was there before is there and whole; the next run finishes what was begun."""
    if before:
        release.make(before)
        assert release.install().returncode == 0
        release.make("1.0")
    count = tmp_path / "count"
    count.write_text(f"{rename}\n")
    stubs = stub(tmp_path / "stubs", "mv", f'''
n=$(($(cat {count}) - 1)); echo $n > {count}
if [ $n = 0 ]; then kill -{int(number)} $PPID; exit 1; fi
exec /bin/mv "$@"
''')
    done = release.install(path=stubs)
    assert done.returncode == (143 if number == signal.SIGTERM else -9)
    assert release.program.is_symlink() == bool(before)
    if before:
        assert release.version() == before
    if number == signal.SIGTERM:
        assert release.leftovers() == []
    assert release.install(path=stubs).returncode == 0
    assert release.version() == "1.0"
    assert release.leftovers() == []
    assert len(os.listdir(release.prefix / "libexec/containerd-driver")) == 1


@needs_root
def test_programs_that_run_stay(release):
    assert release.install().returncode == 0
    old = release.program.resolve()
    with subprocess.Popen([old, "60"]) as running:
        try:
            release.make("1.1")
            done = release.install()
            assert done.returncode == 0 and "is still used" in done.stdout
            assert release.version() == "1.1"
            assert sorted(os.listdir(old.parent)) == PROGRAMS
            assert running.poll() is None
        finally:
            running.kill()
    assert release.install().returncode == 0
    assert not old.parent.exists()


@needs_root
def test_one_at_a_time(release):
    folder = release.prefix / "libexec/containerd-driver"
    folder.mkdir(parents=True)
    with subprocess.Popen(["flock", folder, "sh", "-c", "echo; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        done = release.install()
        other.stdin.close()
    assert done.returncode == 1 and "another install.sh is at work" in done.stderr
    assert release.install().returncode == 0


@needs_root
@pytest.mark.parametrize("ps, refused", [("echo '    web'", "    web"), ("exit 1", "is not known"), ("true", None)])
def test_remove(release, ps, refused):
    stub(release.folder / "programs", "containerd-driver", f'[ "$1" = ps ] || exit 9\n{ps}\n')
    release.make("1.0")
    assert release.install().returncode == 0
    done = release.install("--remove")
    if refused:
        assert done.returncode == 1 and refused in done.stderr and "nothing was removed" in done.stderr
        assert release.version() == "1.0"
    else:
        assert done.returncode == 0, done.stderr
        assert [path for path in release.prefix.rglob("*") if not path.is_dir() or "containerd" in path.name] == []


@needs_root
@pytest.mark.parametrize("program, refused", [("containerd-shim-runc-v2", True), ("another", False)])
def test_remove_beside_a_shim(release, tmp_path, program, refused):
    stub(release.folder / "programs", "containerd-driver", "true\n")
    release.make("1.0")
    assert release.install().returncode == 0
    shutil.copy(shutil.which("perl"), tmp_path / program)
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    inside = f"""
        {tmp_path}/{program} -e '$0 = "/usr/bin/containerd-shim-runc-v2 -namespace containerd-driver -id web-0123 -address x";
            open(READY, ">", "{ready}"); close READY; sleep 60' > /dev/null 2>&1 &
        read -r line < {ready} || true
        {release.folder}/install.sh --prefix {release.prefix} --remove"""
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", inside],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == refused, done
    assert ("    web-0123" in done.stderr) == refused and release.program.exists() == refused


@needs_root
def test_remove_one_at_a_time(release):
    assert release.install().returncode == 0
    folder = release.prefix / "libexec/containerd-driver"
    done = subprocess.run(["flock", folder, release.folder / "install.sh", "--prefix", release.prefix, "--remove"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "another install.sh is at work" in done.stderr
    assert release.version() == "1.0"


@needs_root
def test_remove_what_it_did_not_install(release):
    release.program.parent.mkdir(parents=True)
    release.program.write_text("another's")
    done = release.install("--remove")
    assert done.returncode == 1 and "is not what install.sh has installed" in done.stderr
    assert release.program.read_text() == "another's"
