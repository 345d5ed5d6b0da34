"""The helper asks what may be fetched, and waits for the answer."""

import io
import json
import subprocess
import tarfile

import pytest

from helper import digest_of

CANCELLED, INVALID_ARGUMENT = 1, 3


def event(process):
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return json.loads(line)


def resolved(process):
    """The question, after progress and warnings."""
    while True:
        found = event(process)
        if "resolved" in found:
            return found["resolved"]
        assert "progress" in found or "warning" in found, found


def answer(process, text):
    """All that the helper says then."""
    out, err = process.communicate(text, timeout=30)
    assert "Sanitizer" not in err, err
    return [json.loads(line) for line in out.splitlines()]


def test_nothing_but_the_manifest_is_fetched_before_the_answer(registry, store):
    reference = f"{registry}/library/busybox:latest"
    process = store.start(reference, confirm=True)
    question = resolved(process)
    assert question["reference"] == reference
    assert question["digest"].startswith("sha256:") and question["size"] > 100
    assert question["media_type"].startswith("application/vnd.")
    assert list((store.path / "blobs/sha256").iterdir()) == []
    assert list((store.path / "layers").iterdir()) == []
    events = answer(process, "go\n")
    assert events[-1] == {"done": {"references": [reference]}}
    entry, = store.index()
    assert entry["annotations"]["containerd-driver.resolved-digest"] == question["digest"]
    assert entry["annotations"]["containerd-driver.resolved-type"] == question["media_type"]
    assert entry["annotations"]["containerd-driver.resolved-size"] == str(question["size"])
    # What has not changed since is asked about as well.
    again = store.start(reference, confirm=True)
    assert resolved(again) == question
    assert answer(again, "go\n")[-1] == {"done": {"references": [reference]}}


@pytest.mark.parametrize("text", ["", "no\n", "gone\n", "\n", "g"])
def test_anything_else_is_a_no(registry, store, text):
    process = store.start(f"{registry}/library/busybox:latest", confirm=True)
    resolved(process)
    events = answer(process, text)
    assert events[-1]["error"]["code"] == CANCELLED
    assert process.returncode != 0
    assert store.index() == [] and store.litter() == []
    assert list((store.path / "blobs/sha256").iterdir()) == []


def layout(path, name):
    """An OCI archive of one image without content but a layer, which calls itself `name`."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        out.addfile(tarfile.TarInfo("file"), io.BytesIO())
    layer = tar.getvalue()
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}).encode()
    kind = "application/vnd.oci.image."
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
        "config": {"mediaType": kind + "config.v1+json", "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": kind + "layer.v1.tar", "digest": digest_of(layer), "size": len(layer)}]}).encode()
    index = {"schemaVersion": 2, "manifests": [
        {"mediaType": kind + "manifest.v1+json", "digest": digest_of(manifest), "size": len(manifest),
         "annotations": {"io.containerd.image.name": name.replace("OWN", digest_of(manifest))}}]}
    (path / "blobs/sha256").mkdir(parents=True)
    for blob in (layer, config, manifest):
        (path / "blobs/sha256" / digest_of(blob)[7:]).write_bytes(blob)
    (path / "index.json").write_text(json.dumps(index))
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return digest_of(manifest)


def load(store, path, text):
    """The helper's events after the questions that an archive leads to, each answered with `text`."""
    request = {"data_dir": str(store.path), "reference": "", "username": "", "password": "", "hosts_dir": "",
               "archive": True, "confirm": True}
    line = f"exec 3< {path}; exec {store.program}"
    process = subprocess.run(["bash", "-c", line], input=json.dumps(request) + "\n" + text, capture_output=True,
                             text=True, timeout=30)
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_an_archive_is_asked_about_before_it_is_unpacked(store, tmp_path):
    digest = layout(tmp_path / "layout", "example.com/a:1")
    events = load(store, tmp_path / "layout", "")
    assert events[-2]["resolved"]["digest"] == digest and events[-2]["resolved"]["reference"] == "example.com/a:1"
    assert events[-1]["error"]["code"] == CANCELLED
    assert list((store.path / "layers").iterdir()) == [] and store.index() == []
    events = load(store, tmp_path / "layout", "go\n")
    assert events[-1] == {"done": {"references": ["example.com/a:1"]}}


def test_an_archive_cannot_take_the_name_of_another_digest(store, tmp_path):
    digest = layout(tmp_path / "liar", "example.com/a@sha256:" + "a" * 64)
    events = load(store, tmp_path / "liar", "go\n")
    assert events[-1]["error"]["code"] == INVALID_ARGUMENT
    assert digest in events[-1]["error"]["message"]
    assert store.index() == []
    digest = layout(tmp_path / "honest", "example.com/a@OWN")
    events = load(store, tmp_path / "honest", "go\n")
    assert events[-1] == {"done": {"references": [f"example.com/a@{digest}"]}}
