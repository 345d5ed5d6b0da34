"""OCI images from Python values: a tar layer, a config, a manifest, an image layout, and a push.

Everything is deterministic: one fixed time, sorted entries, no names of users. The same inputs give the same
digests, on any machine.
"""

import gzip
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

TIME = 1704067200  # 2024-01-01T00:00:00Z
CREATED = "2024-01-01T00:00:00Z"

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Layer:
    """Collects entries; `blob()` is the gzip-compressed tar. A path may be added once; parents come by themselves."""

    def __init__(self):
        self._entries = {}

    def dir(self, path, mode=0o755, uid=0, gid=0):
        return self._add(path, tarfile.DIRTYPE, mode, uid, gid)

    def file(self, path, data, mode=0o644, uid=0, gid=0):
        """`data` is bytes, text, or a Path on this machine to copy."""
        if isinstance(data, Path):
            data = data.read_bytes()
        elif isinstance(data, str):
            data = data.encode()
        return self._add(path, tarfile.REGTYPE, mode, uid, gid, data=data)

    def link(self, path, target):
        return self._add(path, tarfile.SYMTYPE, 0o777, 0, 0, linkname=target)

    def hardlink(self, path, target):
        return self._add(path, tarfile.LNKTYPE, 0o644, 0, 0, linkname=target)

    def whiteout(self, path):
        parent, _, name = path.rpartition("/")
        return self.file(f"{parent}/.wh.{name}".lstrip("/"), b"")

    def opaque(self, path):
        return self.file(f"{path}/.wh..wh..opq", b"")

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for info, data in self._sorted():
                tar.addfile(info, io.BytesIO(data))
        return out.getvalue()

    def blob(self, level=6):
        return compress(self.tar(), level)

    def _add(self, path, kind, mode, uid, gid, data=b"", linkname=""):
        path = path.strip("/")
        parent = path.rpartition("/")[0]
        if parent and parent not in self._entries:
            self.dir(parent)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
        info.size, info.mtime, info.linkname = len(data), TIME, linkname
        assert path not in self._entries, path
        self._entries[path] = (info, data)
        return self

    def _sorted(self):
        # A hard link must come after its target, a child after its directory.
        return sorted(self._entries.values(), key=lambda e: (e[0].type == tarfile.LNKTYPE, e[0].name))


def compress(data, level=6):
    return gzip.compress(data, compresslevel=level, mtime=0)


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI image layout in a folder: blobs, and an index that names the images."""

    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.images = []  # (name, descriptor)

    def blob(self, data, media_type):
        digest = digest_of(data)
        path = self.folder / "blobs/sha256" / digest[7:]
        if not path.exists():
            path.write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def read(self, descriptor):
        return (self.folder / "blobs/sha256" / descriptor["digest"][7:]).read_bytes()

    def image(self, layers, config, architecture, docker=False, diff_ids=None, history=None):
        """Adds config and manifest for `layers`, a list of (compressed blob, uncompressed tar). Returns the descriptor."""
        config = {
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {
                "type": "layers",
                "diff_ids": diff_ids or [digest_of(tar) for _, tar in layers],
            },
            "history": history or [{"created": CREATED} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": self.blob(dump(config), DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [self.blob(blob, DOCKER_LAYER if docker else OCI_LAYER) for blob, _ in layers],
        }
        return self.blob(dump(manifest), manifest["mediaType"])

    def index(self, descriptors):
        """An index over `descriptors`, which carry their `platform`."""
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}
        return self.blob(dump(index), OCI_INDEX)

    def name(self, name, descriptor):
        self.images.append((name, descriptor))

    def close(self):
        manifests = [
            {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
            for name, descriptor in self.images
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        (self.folder / "index.json").write_bytes(dump(index))


def dump(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def push(layout, registry):
    """Pushes every named image of `layout` to `registry` (http://host:port). Images may be wrong on purpose: what
    the registry itself does not check is pushed as it is."""
    for name, descriptor in layout.images:
        repository, _, tag = name.rpartition(":")
        _push_manifest(layout, registry, repository, descriptor, tag)


def _push_manifest(layout, registry, repository, descriptor, reference):
    data = layout.read(descriptor)
    manifest = json.loads(data)
    for child in manifest.get("manifests", []):
        _push_manifest(layout, registry, repository, child, child["digest"])
    for blob in [manifest["config"], *manifest["layers"]] if "layers" in manifest else []:
        _push_blob(registry, repository, layout.read(blob), blob["digest"])
    _call("PUT", f"{registry}/v2/{repository}/manifests/{reference}", data, descriptor["mediaType"])


def _push_blob(registry, repository, data, digest):
    try:
        _call("HEAD", f"{registry}/v2/{repository}/blobs/{digest}")
        return
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
    location = _call("POST", f"{registry}/v2/{repository}/blobs/uploads/", b"").headers["Location"]
    location += ("&" if "?" in location else "?") + urllib.parse.urlencode({"digest": digest})
    _call("PUT", urllib.parse.urljoin(registry, location), data, "application/octet-stream")


def _call(method, url, data=None, content_type=None):
    request = urllib.request.Request(url, data=data, method=method)
    if content_type:
        request.add_header("Content-Type", content_type)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as response:
        response.read()
        return response
