"""Images of real files, made by the tools that people make images with: files of this machine's packages in every format
that GNU tar, Python, umoci and skopeo write. What we unpack is compared with what umoci unpacks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import layout as layouts
import registry as registries
from helper import tree
from test_differential import assert_same, assert_same_as_umoci, unpacked_by_umoci
from server import Server

# Set-user-ID programs, links, many small files, long names, other languages' names, libraries.
PACKAGES = ("passwd", "tzdata", "perl-base", "ca-certificates", "libc-bin", "util-linux")
FILES_MAX = 1500
TARS = {
    "gnu": ["--format=gnu"],
    "oldgnu": ["--format=oldgnu"],
    "pax": ["--format=pax", "--xattrs", "--xattrs-include=*"],
    "ustar": ["--format=ustar"],
    "sparse": ["--format=gnu", "--sparse"],
    "pax-sparse": ["--format=pax", "--sparse", "--sparse-version=1.0"],
}


def files_of(package):
    out = subprocess.run(["dpkg", "-L", package], check=True, capture_output=True, text=True).stdout.splitlines()
    # Not by names that lead through links: /sbin is one to usr/sbin.
    real = [p for p in out if p != "/." and os.path.lexists(p) and os.path.realpath(os.path.dirname(p)) == os.path.dirname(p)]
    return [path.lstrip("/") for path in real if not os.path.islink(path) or path.count("/") > 1][:FILES_MAX]


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """A folder for each package with its files, and with what packages seldom have."""
    out = {}
    for package in PACKAGES:
        folder = tmp_path_factory.mktemp(package)
        names = "\0".join(files_of(package))
        subprocess.run(f"tar -C / --null --no-recursion -c -T - | tar -x -p -C {folder}", shell=True, check=True,
                       input=names.encode())
        (folder / "holes").write_bytes(b"begin")
        with open(folder / "holes", "r+b") as file:
            file.truncate(3_000_000)
            file.seek(1_000_000)
            file.write(b"middle")
        os.link(folder / "holes", folder / "second name")
        os.mkfifo(folder / "pipe", 0o640)
        os.mknod(folder / "null", 0o666 | 0o020000, os.makedev(1, 3))
        name = "n" * 120 + "/" + "m" * 120
        (folder / name).parent.mkdir()
        (folder / name).write_text("long name")
        (folder / "caf\u00e9").symlink_to("../" * 40 + "x" * 90)
        os.chown(folder / "holes", 1234, 4321)
        os.chmod(folder / "holes", 0o6755)
        out[package] = folder
    return out


# 36 of one layer.
@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("form", TARS)
def test_written_by_gnu_tar(store, tmp_path, contents, package, form):
    entries = sorted(os.listdir(contents[package]))
    if form == "ustar":
        entries = [e for e in entries if e not in ("caf\u00e9",) and not e.startswith("n")]  # names that it cannot write
    tar = subprocess.run(["tar", "-C", contents[package], "--numeric-owner", *TARS[form], "-c", *entries], check=True,
                         capture_output=True).stdout
    with Server() as server:
        server.add_image("a", [(layouts.compress(tar, 1), tar)])
        if form.endswith("sparse"):  # umoci does not read all of these: beside the same content in another form
            store.pull(f"{server.address}/a:1")
            assert_same(store, f"{server.address}/a:1", tree(contents[package]), form)
        else:
            assert_same_as_umoci(store, f"{server.address}/a:1", tmp_path, form)


# 12 of three layers, in both compressions.
@pytest.mark.parametrize("package", PACKAGES)
def test_made_by_umoci_and_pushed_by_skopeo(store, tmp_path, contents, package):
    layout = tmp_path / "layout"
    subprocess.run(["umoci", "init", "--layout", layout], check=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:x"], check=True)
    for change in (fill, remove_and_replace, link_and_move):
        bundle = tmp_path / "bundle"
        subprocess.run(["umoci", "unpack", "--image", f"{layout}:x", bundle], check=True, capture_output=True)
        change(bundle / "rootfs", contents[package])
        subprocess.run(["umoci", "repack", "--image", f"{layout}:x", bundle], check=True, capture_output=True)
        shutil.rmtree(bundle)
    theirs = unpacked_by_umoci(f"{layout}:x", tmp_path)
    assert len(theirs) > 10
    with registries.Registry(tmp_path / "registry", readonly=False) as registry:
        for form in ("gzip", "zstd"):
            reference = f"{registry.address}/a/{form}:1"
            subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-compress", "--dest-compress-format",
                            form, f"oci:{layout}:x", f"docker://{reference}"], check=True)
            store.pull(reference)
            assert_same(store, reference, theirs, form)


# 12 of three layers, in both kinds of manifest.
@pytest.mark.parametrize("package", PACKAGES)
def test_made_by_buildah(store, tmp_path, contents, package):
    # vfs, because it leaves no mount behind; what it writes is the same.
    buildah = ["buildah", "--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]

    def run(*arguments):
        return subprocess.run([*buildah, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    with registries.Registry(tmp_path / "registry", readonly=False) as registry:
        for form in ("oci", "docker"):
            image = "scratch"
            for change in (fill, remove_and_replace, link_and_move):
                container = run("from", image)
                change(Path(run("mount", container)), contents[package])
                run("umount", container)
                image = run("commit", "-q", "--format", form, "--rm", container)
            reference = f"{registry.address}/a/{form}:1"
            run("push", "-q", "--format", form, "--tls-verify=false", image, f"docker://{reference}")
            store.pull(reference)
            # umoci reads no Docker manifests.
            subprocess.run(["skopeo", "copy", "-q", "--format", "oci", "--src-tls-verify=false", f"docker://{reference}",
                            f"oci:{tmp_path}/{form}:x"], check=True)
            assert_same(store, reference, unpacked_by_umoci(f"{tmp_path}/{form}:x", tmp_path), form)


@pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="nightly only: fetches a Debian")
def test_made_by_debootstrap(store, tmp_path):
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", tmp_path / "debian"], check=True, capture_output=True)
    tar = subprocess.run(["tar", "-C", tmp_path / "debian", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-c", "."],
                         check=True, capture_output=True).stdout
    with Server() as server:
        server.add_image("a", [(layouts.compress(tar, 1), tar)])
        assert_same_as_umoci(store, f"{server.address}/a:1", tmp_path)


def fill(root, content):
    subprocess.run(["cp", "-a", f"{content}/.", root], check=True)


def remove_and_replace(root, _):
    paths = sorted(p for p in root.rglob("*") if not p.is_symlink())
    for path in paths[::7]:
        if path.is_file():
            path.unlink()
    for path in [p for p in paths[3::11] if p.is_dir() and p != root][:3]:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, mode=0o711)
        (path / "new").write_text("instead")
    (root / "pipe").unlink(missing_ok=True)
    (root / "pipe").mkdir()


def link_and_move(root, _):
    files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    for number, path in enumerate(files[::9][:20]):
        os.link(path, root / f"link{number}")
    if files[5:]:
        files[5].rename(root / "moved")
    os.setxattr(files[0] if files[0].exists() else root / "moved", "user.note", b"value")
