"""Images of the node: more names, archives of them."""

import json
import os
import pty
import subprocess
import tarfile
import tempfile

import pytest

BUSYBOX = "library/busybox:latest"


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60, **options).stdout


def ident(node, name):
    return node.call("inspect", "--type", "image", "--format", "{{.Id}} {{.Digest}}", name).stdout.split()


@pytest.fixture
def image(node):
    name = node.image(BUSYBOX)
    assert node.call("pull", name).returncode == 0
    return name


@pytest.fixture
def podman_storage():
    """Flags for one of its own; podman wants its path to be shorter than 50 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield ["--root", f"{folder}/s", "--runroot", f"{folder}/r", "--storage-driver", "vfs"]


def test_names(node, image):
    tagged = node.call("tag", image, "localhost/app", "example.com:99/y:3")
    assert tagged.returncode == 0 and tagged.stdout == "", tagged
    assert ident(node, "localhost/app:latest") == ident(node, "example.com:99/y:3") == ident(node, image)
    assert node.call("run", "--rm", "localhost/app", "echo", "fine").stdout == "fine\n"
    digest = ident(node, image)[1]
    refused = node.call("rmi", digest[7:19])
    assert refused.returncode == 125 and "give its name" in refused.stderr  # which of the three?
    assert node.call("save", "-o", str(node.folder / "by-id.tar"), digest[7:19]).returncode == 0
    refused = node.call("untag", image, image, "localhost/app", "example.com:99/y:3")
    assert refused.returncode == 125 and "no name left" in refused.stderr, refused
    assert node.call("untag", image, "localhost/app", "example.com:99/y:3").returncode == 0
    assert [one["reference"] for one in json.loads(node.call("images", "-o", "json").stdout)] == [image]
    assert node.call("tag", digest[7:19], "x:1").returncode == 0
    assert ident(node, "docker.io/library/x:1") == ident(node, image)
    assert node.call("rmi", "x:1").stdout == "docker.io/library/x:1\n"
    assert node.call("run", "--rm", image, "echo", "fine").stdout == "fine\n"


@pytest.mark.parametrize("args, words", [
    (["IMAGE"], "new names"),
    (["localhost/none:1", "x"], "not in the store"),
    (["IMAGE", "UPPER"], "UPPER"),
    (["IMAGE", "x@sha256:" + 64 * "0"], "by digest"),
])
def test_names_that_cannot_be(node, image, args, words):
    refused = node.call("tag", *[image if arg == "IMAGE" else arg for arg in args])
    assert refused.returncode == 125 and words in refused.stderr, refused
    assert len(json.loads(node.call("images", "-o", "json").stdout)) == 1


def test_a_name_that_a_container_was_made_by_stays(node, image):
    assert node.call("tag", image, "localhost/app:1").returncode == 0
    assert node.call("create", "--name", "web", "localhost/app:1", "true").returncode == 0
    refused = node.call("untag", image, "localhost/app:1")
    assert refused.returncode == 125 and "container web" in refused.stderr, refused
    assert node.call("rm", "web").returncode == 0
    assert node.call("untag", image, "localhost/app:1").returncode == 0


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_an_archive_comes_back_as_it_was(node, image, kind, tmp_path, podman_storage):
    """What we save we load with the same digests; podman and skopeo read it; the same images make the same bytes."""
    before, file = ident(node, image), tmp_path / "a.tar"
    saved = node.call("save", "--format", kind, "-o", str(file), image)
    assert (saved.returncode, saved.stdout, saved.stderr) == (0, "", "")
    assert file.stat().st_mode & 0o777 == 0o600 and list(tmp_path.glob(".tmp-*")) == []
    piped = subprocess.run(node.argv("save", "--format", kind, image), stdout=subprocess.PIPE, timeout=60).stdout
    assert piped == file.read_bytes()
    assert json.loads(run("skopeo", "inspect", "--config", f"{kind}:{file}"))["os"] == "linux"
    assert run("podman", *podman_storage, "load", "-q", "-i", file, text=True).split()[-1] == image
    assert run("podman", *podman_storage, "image", "inspect", "--format", "{{.Id}}", image, text=True).strip() == before[0][7:]
    assert node.call("rmi", image).returncode == 0
    assert node.call("load", "-i", str(file)).stdout == f"{image}\n"
    assert ident(node, image) == before
    assert node.call("run", "--rm", image, "echo", "fine").stdout == "fine\n"
    assert list((node.folder / "data/ingest").iterdir()) == []


def test_several_images_and_a_folder(node, image, tmp_path):
    assert node.call("tag", image, "localhost/b:2").returncode == 0
    file = tmp_path / "several.tar"
    assert node.call("save", "-m", "-o", str(file), image, "localhost/b:2").returncode == 0
    with tarfile.open(file) as archive:
        [entry] = json.load(archive.extractfile("manifest.json"))
        assert entry["RepoTags"] == [image, "localhost/b:2"]
        assert len(archive.getnames()) == len(set(archive.getnames()))
    folder = tmp_path / "layout"
    assert node.call("save", "--format", "oci-dir", "-o", str(folder), "localhost/b:2").returncode == 0
    assert json.loads(run("skopeo", "inspect", "--config", f"oci:{folder}"))["os"] == "linux"
    again = node.call("save", "--format", "oci-dir", "-o", str(folder), "localhost/b:2")
    assert again.returncode == 125 and "not an empty folder" in again.stderr
    assert node.call("rmi", image, "localhost/b:2").returncode == 0
    assert node.call("load", "-i", str(folder)).stdout == "localhost/b:2\n"
    assert sorted(node.call("load", "-i", str(file)).stdout.split()) == [image, "localhost/b:2"]


def test_an_archive_that_cannot_be_written_leaves_nothing(node, image, tmp_path):
    kept = tmp_path / "kept.tar"
    kept.write_text("older")
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small)
    try:
        full = node.call("save", "-o", str(small / "a.tar"), image)
        assert full.returncode == 125 and "No space left" in full.stderr, full
        full = node.call("save", "--format", "oci-dir", "-o", str(small / "dir"), image)
        assert full.returncode == 125 and list(small.iterdir()) == [], full
    finally:
        run("umount", small)
    for target, name in ((kept, "localhost/none:1"), (tmp_path / "no/dir/file", image), (tmp_path, image)):
        refused = node.call("save", "-o", str(target), name)
        assert refused.returncode == 125 and len(refused.stderr.splitlines()) == 1, refused
    assert kept.read_text() == "older"
    with open("/dev/full", "w") as device:
        refused = subprocess.run(node.argv("save", image), stdout=device, stderr=subprocess.PIPE, text=True, timeout=60)
    assert refused.returncode == 125 and "No space left" in refused.stderr
    assert node.call("save", "-o", "/dev/full", image).returncode == 125
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "kept.tar", "small"]


def test_streams_that_are_named(node, image, tmp_path):
    piped = subprocess.run(node.argv("save", image), stdout=subprocess.PIPE, timeout=60).stdout
    for name in ("-", "/dev/stdout", "/dev/fd/1"):
        named = subprocess.run(node.argv("save", "-o", name, image), stdout=subprocess.PIPE, timeout=60)
        assert (named.returncode, named.stdout) == (0, piped), name
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    saving = node.start("save", "-o", str(fifo), image)  # waits for who reads
    assert fifo.read_bytes() == piped and saving.wait(60) == 0 and fifo.is_fifo()
    refused = node.call("save", "-o", "/dev/fd/9", image)
    assert refused.returncode == 125 and "is no open file" in refused.stderr, refused
    link = tmp_path / "link.tar"
    link.symlink_to("real.tar")
    assert node.call("save", "-o", str(link), image).returncode == 0
    assert link.is_symlink() and (tmp_path / "real.tar").read_bytes() == piped


def test_a_damaged_blob_makes_no_archive(node, image, tmp_path):
    blobs = sorted((node.folder / "data/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    with open(blobs[-1], "r+b") as blob:
        blob.seek(100)
        byte = blob.read(1)
        blob.seek(100)
        blob.write(bytes([byte[0] ^ 1]))
    refused = node.call("save", "-o", str(tmp_path / "a.tar"), image)
    assert refused.returncode == 125 and "damaged" in refused.stderr, refused
    blobs[-1].unlink()
    refused = node.call("save", "-o", str(tmp_path / "a.tar"), image)
    assert refused.returncode == 125 and "is not in the store" in refused.stderr, refused
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob(".tmp-*"))
    assert list((node.folder / "data/ingest").iterdir()) == []


def test_no_archive_for_a_terminal(node, image):
    ours, theirs = pty.openpty()
    refused = subprocess.run(node.argv("save", image), stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(theirs)
    os.close(ours)
    assert refused.returncode == 125 and "--output" in refused.stderr


def test_history(node, image):
    rows = node.call("history", "--no-trunc", "--format", "{{.ID}}|{{.Size}}", image).stdout.splitlines()
    document = json.loads(node.call("inspect", image).stdout)[0]
    assert rows[0].split("|")[0] == document["Id"] and all(row.startswith("<missing>|") for row in rows[1:])
    steps = json.loads(node.call("history", "-o", "json", image).stdout)
    assert sum(not step["empty"] for step in steps) == len(document["RootFS"]["Layers"])
    assert steps[0]["id"] == document["Id"] and sum(step["size"] for step in steps) < document["Size"]
    assert node.call("history", image).stdout.split()[0] == "ID"
    assert image_verb(node, "history", image).stdout.split()[0] == "ID"
    assert node.call("history", "localhost/none").returncode == 125


def test_a_pin_survives_collections_and_pulls(node, image):
    assert node.call("pin", image).stdout == f"{image}\n"
    assert node.call("pull", image).returncode == 0
    assert json.loads(node.call("images", "-o", "json").stdout)[0]["pinned"] is True
    assert "pinned" in node.call("gc", "--all").stdout
    assert node.call("run", "--rm", image, "echo", "fine").stdout == "fine\n"
    assert node.call("tag", image, "localhost/b:1").returncode == 0
    collected = node.call("gc", "--all", "-o", "json")  # the other name goes, and nothing of the content
    assert [one["removed"] for one in json.loads(collected.stdout)["images"] if one["reference"] == "localhost/b:1"] == [True]
    assert node.call("fsck").returncode == 0
    assert node.call("unpin", image).returncode == 0
    assert node.call("gc", "--all").returncode == 0
    assert json.loads(node.call("images", "-o", "json").stdout) == []
    assert node.call("pin", "localhost/none").returncode == 125


def image_verb(node, *args, **options):
    return subprocess.run([node.argv("")[0], "image", *args, *node.flags], capture_output=True, text=True, timeout=60, **options)


def test_prune(node, image):
    refused = image_verb(node, "prune", "--all", stdin=subprocess.DEVNULL)
    assert refused.returncode == 125 and "--force" in refused.stderr
    assert image_verb(node, "prune", "--force").stdout == "Total reclaimed space: 0 B\n"
    assert node.call("create", "--name", "web", image, "true").returncode == 0
    assert node.call("start", "web").returncode == 0  # a record says what it uses
    assert node.call("tag", image, "localhost/b:1").returncode == 0
    assert image not in image_verb(node, "prune", "--all", "--force").stdout
    assert node.call("rm", "-f", "web").returncode == 0
    assert image in image_verb(node, "prune", "-af").stdout.splitlines()
    assert json.loads(node.call("images", "-o", "json").stdout) == []


def test_what_the_disk_has(node, image):
    used = json.loads(node.call("df", "-o", "json").stdout)
    images = used["summary"][0]
    assert (images["type"], images["total"], images["active"]) == ("Images", 1, 0)
    assert images["bytes"] == images["reclaimable_bytes"] > 1_000_000
    assert node.call("run", "--name", "web", image, "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3").returncode == 0
    used = json.loads(node.call("df", "-o", "json").stdout)
    assert used["summary"][0]["active"] == 1 and used["summary"][0]["reclaimable_bytes"] == 0
    [web] = used["containers"]
    assert web["name"] == "web" and 3 << 20 <= web["bytes"] < 4 << 20
    assert [web["reclaimable_bytes"] for web in used["summary"] if web["type"] == "Containers"] == [web["bytes"]]
    assert node.call("df").stdout.split()[:5] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert "in use: container web" in node.call("df", "-v").stdout
    assert node.call("df", "--format", "{{.Type}}").stdout == "Images\nContainers\n"
    assert node.call("rm", "web").returncode == 0


def test_the_disk_beside_a_container_that_cannot_be_measured(node, image):
    deep = "i=0; while [ $i -lt 600 ]; do mkdir dd; cd dd; i=$((i+1)); done; touch /made; exec sleep 600"
    far = f"i=0; while [ $i -lt 30 ]; do mkdir {'d' * 200}; cd {'d' * 200}; i=$((i+1)); done; touch /made; exec sleep 600"
    for name, line in [("deep", deep), ("far", far)]:
        assert node.call("run", "-d", "--name", name, image, "sh", "-c", line).returncode == 0
    for name in ("deep", "far"):
        assert any(node.call("exec", name, "test", "-e", "/made").returncode == 0 for _ in range(1000))
    assert node.call("pause", "far").returncode == 0
    done = node.call("df", "-o", "json")
    assert done.returncode == 1 and "the size of container deep is not known" in done.stderr, done
    used = json.loads(done.stdout)
    sizes = {container["name"]: container["bytes"] for container in used["containers"]}
    assert sizes["deep"] is None and sizes["far"] > 0
    assert used["summary"][1]["active"] == 2 and used["summary"][1]["reclaimable_bytes"] == 0
    shown = node.call("df", "-v")
    assert shown.returncode == 1 and "unknown" in shown.stdout
    assert node.call("rm", "-f", "deep", "far").returncode == 0
    assert node.call("df").returncode == 0


def test_the_last_name_stays(node, image):
    """However many take names at once."""
    names = [f"localhost/n:{i}" for i in range(8)]
    assert node.call("tag", image, *names).returncode == 0
    assert node.call("untag", image, image).returncode == 0
    running = [node.start("untag", names[0], name, stderr=subprocess.DEVNULL) for name in names]
    codes = [process.wait(60) for process in running]
    left = json.loads(node.call("images", "-o", "json").stdout)
    assert len(left) >= 1 and len(left) == sum(code != 0 for code in codes), (codes, left)
