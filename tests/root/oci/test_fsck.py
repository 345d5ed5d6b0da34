"""`containerd-driver fsck`: finds each kind of damage, removes it without a word too many, and a pull makes it good."""

import fcntl
import json
import os
import shutil
import subprocess

import pytest

from helper import DRIVER, tree
from layout import Layer
from server import Server


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture
def image(store, server):
    """The reference of an image of two layers that is in the store."""
    lower = Layer().dir("d").file("d/one", "first\n").file("d/two", "second\n").link("l", "d/one")
    upper = Layer().file("top", b"x" * 100_000)
    server.add_image("a", [(part.blob(), part.tar()) for part in (lower, upper)])
    reference = f"{server.address}/a:1"
    store.pull(reference)
    return reference


def fsck(store, *flags):
    done = subprocess.run([DRIVER, "fsck", "--output", "json", "--data-dir", store.path, *flags], capture_output=True,
                          text=True, timeout=60)
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


def replace(path, data):
    path.unlink()
    path.write_bytes(data)


def manifest_of(store):
    [entry] = store.index()
    return entry["digest"], json.loads(store.blob(entry["digest"]))


def blob_path(store, digest):
    return store.path / "blobs/sha256" / digest[7:]


def damage_manifest(store, _):
    path = blob_path(store, manifest_of(store)[0])
    replace(path, path.read_bytes()[:-1])
    return path


def damage_config(store, _):
    path = blob_path(store, manifest_of(store)[1]["config"]["digest"])
    replace(path, path.read_bytes() + b" ")
    return path


def lose_config(store, _):
    path = blob_path(store, manifest_of(store)[1]["config"]["digest"])
    path.unlink()
    return path


def damage_blob(store, _):
    path = blob_path(store, manifest_of(store)[1]["layers"][1]["digest"])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    replace(path, bytes(data))
    return path


def lose_layer(store, reference):
    [folder, _] = store.layer_dirs(reference)
    shutil.rmtree(folder)
    return folder


def empty_file(store, reference):
    """What a power cut leaves of a file whose data was never written."""
    [folder, _] = store.layer_dirs(reference)
    info = os.lstat(folder / "d/one")
    os.truncate(folder / "d/one", 0)
    os.utime(folder / "d/one", ns=(info.st_atime_ns, info.st_mtime_ns))
    return folder


def another_file(store, reference):
    [_, folder] = store.layer_dirs(reference)
    (folder / "new").touch()
    return folder


def another_mode(store, reference):
    [folder, _] = store.layer_dirs(reference)
    (folder / "d/two").chmod(0o600)
    return folder


def another_target(store, reference):
    [folder, _] = store.layer_dirs(reference)
    info = os.lstat(folder / "l")
    (folder / "l").unlink()
    (folder / "l").symlink_to("d/two")
    os.utime(folder / "l", ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
    return folder


DAMAGES = [damage_manifest, damage_config, lose_config, damage_blob, lose_layer, empty_file, another_file, another_mode,
           another_target]


def test_nothing_is_wrong_after_a_pull(store, image):
    code, said = fsck(store)
    assert (code, said["findings"]) == (0, [])
    assert (said["images"], said["blobs"], said["layers"], said["layers_without_seal"]) == (1, 4, 2, 0)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_removed_and_made_good(store, server, image, damage):
    with store.mounted(image) as root:
        before = tree(root)
    path = damage(store, image)
    name = str(path.relative_to(store.path))

    code, said = fsck(store)
    assert code == 1
    [finding] = said["findings"]
    assert (finding["path"], finding["images"], finding["removed"]) == (name, [image], False)
    existed = path.exists()

    code, said = fsck(store, "--repair")
    [finding] = said["findings"]
    assert (code, finding["path"], finding["removed"]) == (0, name, True)
    assert not path.exists() and list((store.path / "trash").iterdir()) == [], existed
    assert fsck(store) == (0, {**fsck(store)[1], "findings": []})
    assert len(store.index()) == (1 if damage is damage_blob else 0)

    store.pull(image)
    assert fsck(store)[0] == 0
    with store.mounted(image) as root:
        assert tree(root) == before


def test_it_pulls_again_when_told_to(store, server, image):
    damage_manifest(store, image)
    empty_file_of = (store.path / "layers").iterdir()
    for folder in empty_file_of:
        (folder / "stray").touch()
    code, said = fsck(store, "--repair", "--pull")
    assert (code, said["pulled"]) == (0, [{"reference": image, "error": ""}])
    assert fsck(store)[0] == 0 and len(store.index()) == 1


def test_a_registry_that_is_gone_is_told(store, server, image):
    folder = another_file(store, image)
    server.__exit__()
    code, said = fsck(store, "--repair", "--pull")
    assert code == 1 and not folder.exists()
    [pulled] = said["pulled"]
    assert pulled["reference"] == image and "127.0.0.1" in pulled["error"]


def test_what_a_pull_needs_stays(store, image):
    """As what a container runs on: held by a lock, not by what we remember."""
    folder = another_file(store, image)
    hold = store.path / "ingest/hold-1-0"
    with hold.open("w") as held:
        held.write(f"a pull of b\nlayers/{folder.name}\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = fsck(store, "--repair")
        [finding] = said["findings"]
        assert (code, finding["removed"]) == (1, False) and "a pull of b uses it" in finding["stays"]
        assert folder.is_dir() and len(store.index()) == 1
    code, said = fsck(store, "--repair")
    assert code == 0 and not folder.exists() and not hold.exists()
    assert sorted(f["path"] for f in said["findings"]) == ["ingest/hold-1-0", f"layers/{folder.name}"]


def test_what_was_left_and_what_is_no_content(store, image):
    (store.path / "ingest/layers-1-0/0").mkdir(parents=True)
    (store.path / "ingest" / ("a" * 64)).write_bytes(b"a download to go on with")
    (store.path / "blobs/sha256/README").write_text("what is this?")
    (store.path / "layers/mine").mkdir()
    (store.path / "seals" / ("b" * 64)).write_text("{}")
    wanted = ["blobs/sha256/README", "ingest/layers-1-0", "layers/mine", f"seals/{'b' * 64}"]
    for flags, code in (([], 1), (["--repair"], 0)):
        said = fsck(store, *flags)
        assert (said[0], sorted(f["path"] for f in said[1]["findings"])) == (code, wanted)
    assert fsck(store)[0] == 0 and store.litter() == ["a" * 64]


def test_an_index_that_is_no_json(store, image):
    (store.path / "index.json").write_text("{")
    assert fsck(store)[0] == 1
    assert fsck(store, "--repair")[0] == 0
    assert (store.path / "index.json.damaged").read_text() == "{"
    store.pull(image)
    assert len(store.index()) == 1 and fsck(store)[0] == 0


def test_layers_without_a_seal_are_counted(store, image):
    for seal, text in zip((store.path / "seals").iterdir(), (None, b"")):
        seal.unlink()
        if text is not None:
            seal.write_bytes(text)
    code, said = fsck(store)
    assert (code, said["layers_without_seal"], said["findings"]) == (0, 2, [])


def test_for_people(store, image, tmp_path):
    def call(*flags, data=store.path):
        return subprocess.run([DRIVER, "fsck", "--data-dir", data, *flags], capture_output=True, text=True, timeout=60)

    (tmp_path / "empty").mkdir()
    assert call(data=tmp_path / "empty").returncode == 0
    assert "0 problems" in call().stdout
    folder = another_file(store, image)
    said = call()
    assert said.returncode == 1 and folder.name in said.stdout and image in said.stdout and "--repair" in said.stdout
    assert call("--pull").returncode == 125
    assert "removed" in call("--repair").stdout
