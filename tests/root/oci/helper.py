"""containerd-driver-image as the driver uses it, and a look at what it leaves in the store."""

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("CONTAINERD_DRIVER_IMAGE", str(ROOT / "build/src/containerd-driver-image"))
DRIVER = os.environ.get("CONTAINERD_DRIVER", str(ROOT / "build/src/containerd-driver"))
BROKEN_PROGRAM = os.environ.get("BROKEN_IMAGE_HELPER", str(ROOT / "build/tests/root/broken_image_helper"))
BROKEN_UNPACK = os.environ.get("BROKEN_UNPACK", str(ROOT / "build/tests/root/broken_unpack"))
ATTACKER = os.environ.get("ATTACKER", str(ROOT / "build/tests/root/attacker"))

# The codes of errors, as in src/base/result.h.
INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 3, 5, 7, 8
FAILED_PRECONDITION, UNAVAILABLE, DATA_LOSS = 9, 14, 15
PULL_DENIED = "pull access denied, repository does not exist or may require authorization"


class PullError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Store:
    def __init__(self, path, program=PROGRAM):
        self.path, self.program = Path(path), program
        self.hosts = self.path.with_name("certs.d")  # hosts.toml files; absent unless a test makes it

    def start(self, reference, username="", password="", env=None, **more):
        """The running helper, its request already given. With confirm=True it is to be answered by its stdin."""
        process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=env or {}, text=True)
        request = {"data_dir": str(self.path), "reference": reference, "username": username, "password": password,
                   "hosts_dir": str(self.hosts)} | more
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        if not more.get("confirm"):
            process.stdin.close()
            process.stdin = None
        return process

    def pull(self, reference, username="", password="", env=None, timeout=60):
        """All events of a pull; PullError if it fails."""
        process = self.start(reference, username, password, env)
        out, err = process.communicate(timeout=timeout)
        assert "Sanitizer" not in err, err
        events = [json.loads(line) for line in out.splitlines()]
        assert events, f"exit {process.returncode}: {err}"
        if "error" in events[-1]:
            raise PullError(events[-1]["error"]["code"], events[-1]["error"]["message"])
        assert list(events[-1]) == ["done"] and process.returncode == 0
        return events

    def index(self):
        path = self.path / "index.json"
        return json.loads(path.read_text())["manifests"] if path.exists() else []

    def blob(self, digest):
        return (self.path / "blobs/sha256" / digest[7:]).read_bytes()

    def has_blob(self, digest):
        return (self.path / "blobs/sha256" / digest[7:]).exists()

    def layer_dirs(self, reference):
        """Bottom first."""
        entry = next(e for e in self.index() if e["annotations"]["org.opencontainers.image.ref.name"] == reference)
        config = json.loads(self.blob(json.loads(self.blob(entry["digest"]))["config"]["digest"]))
        chain, folders = "", []
        for diff_id in config["rootfs"]["diff_ids"]:
            chain = digest_of(f"{chain} {diff_id}".encode()) if chain else diff_id
            folders.append(self.path / "layers" / chain[7:])
        return folders

    def litter(self):
        return sorted(p.name for p in (self.path / "ingest").iterdir()) if self.path.exists() else []

    @contextlib.contextmanager
    def mounted(self, reference):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for name in ("upper", "work", "root"):
                (folder / name).mkdir(mode=0o755)
            lower = ":".join(str(d) for d in reversed(self.layer_dirs(reference)))
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={folder}/upper,"
                            f"workdir={folder}/work", folder / "root"], check=True)
            try:
                yield folder / "root"
            finally:
                subprocess.run(["umount", folder / "root"], check=True)


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tree(root):
    """path → everything that an image says about it, for comparisons. The root itself is left out."""
    out, links = {}, {}
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            xattrs = {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)
                      if not k.startswith("trusted.overlay.")}
            content = ""
            if stat.S_ISREG(info.st_mode):
                content = digest_of(Path(path).read_bytes())
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            relative = os.path.relpath(path, root)
            out[relative] = [oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns // 10**9, info.st_rdev,
                             sorted(xattrs.items()), content]
            if not stat.S_ISDIR(info.st_mode) and info.st_nlink > 1:
                links.setdefault((info.st_dev, info.st_ino), []).append(relative)
    for group in links.values():
        # An inode of a lower layer counts a name that an upper layer has replaced.
        for path in group if len(group) > 1 else []:
            out[path].append(sorted(group))
    return out
