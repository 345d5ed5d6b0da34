"""The images that the tests, the benches and the demo run, made from files of this machine's Debian packages.

`layout()` returns an OCI layout with all of them, built once and cached by its inputs. The names are those of the
example jobs. Names under `broken/` are wrong in one way each; the tests that use them say how.
"""

import hashlib
import inspect
import os
import platform
import random
import re
import shutil
import subprocess
from pathlib import Path

import layout as layout_module
from layout import Layer, Layout, compress, digest_of

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "containerd-driver"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OTHER_ARCH = {"amd64": "arm64", "arm64": "amd64"}[ARCH]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What is copied from this machine; a new version of one of these packages makes new images.
# (libssl3 is libssl3t64 from Debian 13 on.)
PACKAGES = ["busybox-static", "redis-server", "bash", "coreutils", "util-linux", "libcap2-bin", "stress-ng", "libc6",
            "libssl3", "libssl3t64"]

COREUTILS = "cat chmod chown cp cut date df dd echo env expr false head id ln ls mkdir mktemp mv nproc od pwd readlink " \
            "rm rmdir sha256sum sleep sort stat stty tail tee test timeout touch tr true tty uname wc whoami yes".split()

PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"

HELLO = """#!/bin/sh
trap 'exit 0' TERM INT
while :; do
  echo "Hello world: sleeping for 3 seconds."
  sleep 3 &
  wait $!
done
"""

SIGNAL_HANDLER = """#!/bin/sh
# Prints the name of every signal that can be caught; SIGTERM also ends it.
for name in HUP INT QUIT USR1 USR2 PIPE ALRM CONT TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR; do
  trap "echo 'Received signal: SIG$name'" $name
done
trap 'echo "Received signal: SIGTERM"; exit 0' TERM
echo "Waiting for signals."
while :; do
  sleep 1000 &
  wait $!
  kill $! 2>/dev/null
done
"""

STRESS = "--cpu 4 --io 4 --vm 4 --vm-bytes 256M --fork 4 --timeout 180s".split()

# One mode a line; the tests use them as `args`.
PROBE = r"""#!/bin/sh
mode=$1
[ $# -gt 0 ] && shift
case $mode in
  args)   for a in "$@"; do echo "arg=$a"; done ;;
  env)    env | sort ;;
  exit)   exit "$1" ;;
  proc)   echo "pid1=$(tr '\0' ' ' < /proc/1/cmdline)"; grep -E '^(Name|Pid|NSpid|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp):' /proc/1/status
          grep -E '^(Cap)' /proc/1/status; cat /proc/1/mountinfo; cat /proc/1/cgroup ;;
  sleep)  trap 'exit 0' TERM; echo started; sleep "${1:-1000000}" & wait $! ;;
  ignore) trap '' TERM INT; echo ignoring; while :; do sleep 1000 & wait $!; done ;;
  count)  trap 'echo stopping; exit 0' TERM; i=0
          while :; do echo "count $i"; i=$((i + 1)); sleep "${1:-0.2}"; done ;;
  until)  echo "waiting for $1"; while [ ! -e "$1" ]; do sleep 0.1; done; exit "${2:-0}" ;;
  both)   echo out; echo err >&2; sleep "${1:-1000000}" ;;
  burst)  head -c "$1" /dev/zero | tr '\0' 'x' ;;
  spin)   trap 'exit 0' TERM; while :; do :; done ;;
  memory) echo eating; head -c "$1" /dev/zero | tail -c "$1" > /dev/null ;;
  *)      echo "probe: unknown mode: $mode" >&2; exit 64 ;;
esac
"""

REDIS_ENTRYPOINT = """#!/bin/sh
# Options alone, or a configuration file, are for redis-server; as root it is run as the user redis.
# By its path, because this shell prefers an applet of its own that knows less.
set -e
case "${1:-}" in
  -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  chown redis .
  exec /usr/local/bin/setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
umask 0077
exec "$@"
"""


def layout(progress=print):
    """The folder of the layout with all images, made now unless the cache has it."""
    folder = CACHE / f"images-{_key()}"
    if not (folder / "index.json").exists():
        progress("making the test images")
        CACHE.mkdir(parents=True, exist_ok=True)
        staging = CACHE / f"images.{os.getpid()}.tmp"
        shutil.rmtree(staging, ignore_errors=True)
        _make_all(Layout(staging))
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    return folder


# Images of the pull bench: MiB of each layer before it is compressed, and the sizes of files to choose from.
BULK = {
    "medium": ([170, 120, 80, 60, 4], [1 << 9, 1 << 13, 1 << 13, 1 << 15, 1 << 17, 1 << 20, 1 << 23]),
    "large": ([420, 260, 180, 110, 70, 20],
              [1 << 9, 1 << 10, 1 << 12, 1 << 12, 1 << 13, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 16]),
}


def bulk_layout(size, progress=print):
    """A layout with one image, `bench/<size>:1`: about 300 MB compressed in 5 layers, or 950 MB and 60,000 files in 6."""
    source = repr(BULK[size]).encode() + inspect.getsource(_make_bulk).encode() + Path(layout_module.__file__).read_bytes()
    folder = CACHE / f"{size}-{hashlib.sha256(source).hexdigest()[:16]}"
    if not (folder / "index.json").exists():
        progress(f"making the {size} image of the pull bench (some minutes, once)")
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{size}-*"):
            shutil.rmtree(stale, ignore_errors=True)  # twice the image, with its registry
        staging = CACHE / f"{size}.{os.getpid()}.tmp"
        shutil.rmtree(staging, ignore_errors=True)
        _make_bulk(Layout(staging), size)
        staging.rename(folder)
    return folder


def _key():
    versions = subprocess.run(  # it fails for the names that this release does not have
        ["dpkg-query", "-W", "-f=${Package} ${Version}\n", *PACKAGES], check=False, capture_output=True).stdout
    here = Path(__file__).parent
    return hashlib.sha256(versions + (here / "layout.py").read_bytes() + (here / "images.py").read_bytes()).hexdigest()[:16]


def _make_all(out):
    busybox = _packed(_busybox())
    hello = _packed(_script("hello", HELLO))
    signal_handler = _packed(_script("signal_handler", SIGNAL_HANDLER))
    probe = _packed(_script("probe", PROBE))
    ubuntu = [_packed(_ubuntu_base()), _packed(_ubuntu_tools())]
    redis = [busybox, _packed(_redis_server()), _packed(_redis_entrypoint())]

    def image(layers, docker=False, **config):
        return out.image(layers, {"Env": [PATH], **config}, ARCH, docker)

    plain = image([busybox], Cmd=["sh"])
    out.name("library/busybox:latest", plain)
    out.name("library/busybox:docker", image([busybox], docker=True, Cmd=["sh"]))
    out.name("library/busybox:multi", out.index([
        {**out.image([hello], {"Cmd": ["/hello"]}, OTHER_ARCH), "platform": {"architecture": OTHER_ARCH, "os": "linux"}},
        {**plain, "platform": {"architecture": ARCH, "os": "linux"}},
    ]))
    out.name("library/redis:alpine", image(
        redis, Env=[PATH, "REDIS_VERSION=7"], Entrypoint=["docker-entrypoint.sh"], Cmd=["redis-server"],
        WorkingDir="/data", ExposedPorts={"6379/tcp": {}}, Volumes={"/data": {}}))
    out.name("library/ubuntu:16.04", image(ubuntu, Cmd=["/bin/bash"]))
    out.name("library/probe:latest", image([busybox, probe], Entrypoint=["/probe"], Cmd=["sleep"]))
    out.name("library/probe:sigusr1", image([busybox, probe], Entrypoint=["/probe"], Cmd=["sleep"], StopSignal="SIGUSR1"))
    out.name("library/probe:user", image([busybox, probe], Entrypoint=["/probe"], Cmd=["proc"], User="nobody"))
    out.name("shm32/hello:world", image([busybox, hello], Cmd=["/hello"]))
    # shm32/hello-world:private is nowhere: whoever asks for it is asked for a password, and learns no more.
    out.name("shm32/stress:1.0", image([busybox, _packed(_stress())], Entrypoint=["stress-ng"], Cmd=STRESS))
    out.name("shm32/signal_handler:1.0", image([busybox, signal_handler], Entrypoint=["/signal_handler"]))
    _broken(out, busybox)
    out.close()


def _broken(out, busybox):
    config = {"Env": [PATH], "Cmd": ["sh"]}
    junk = b"this is neither gzip nor tar\n" * 100
    out.name("broken/not-gzip:1", out.image([(junk, junk)], config, ARCH))
    # Content of its own: a layer that is in the store already is not fetched, so that it could not be found broken.
    whole, tar = _packed(Layer().file("cut", bytes(range(256)) * 256))
    out.name("broken/truncated:1", out.image([(whole[:len(whole) // 2], tar)], config, ARCH))
    out.name("broken/diffid:1", out.image([busybox], config, ARCH, diff_ids=[digest_of(b"something else")]))
    out.name("broken/arch:1", out.image([busybox], config, "s390x"))
    out.name("broken/digest:1", out.image([_packed(Layer().file("lie", "x" * 4096))], config, ARCH))
    out.name("broken/no-such-platform:1", out.index([
        {**out.image([busybox], config, "s390x"), "platform": {"architecture": "s390x", "os": "linux"}}]))


def _packed(layer, level=6):
    tar = layer.tar()
    return compress(tar, level), tar


def _base(layer, passwd=PASSWD, group=GROUP):
    """The folders and links of a merged-/usr system."""
    for name in "dev etc home proc root sys usr/bin usr/sbin usr/lib usr/lib64 var/cache var/lib".split():
        layer.dir(name)
    for name in "bin sbin lib lib64".split():
        layer.link(name, f"usr/{name}")
    layer.dir("tmp", 0o1777)
    layer.file("etc/passwd", passwd).file("etc/group", group).file("etc/os-release", "ID=test\n")
    return layer


def _busybox():
    layer = _base(Layer())
    layer.file("usr/bin/busybox", Path("/bin/busybox"), 0o755)
    applets = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in sorted(set(applets) - {"busybox"}):
        layer.link(f"usr/bin/{applet}", "busybox")
    layer.file("etc/not-executable", "#!/bin/sh\necho never\n", 0o644)
    return layer.file("var/cache/removed-by-the-next-layer", "x")


def _script(name, text):
    return Layer().file(name, text, 0o755)


def _ubuntu_base():
    layer = _base(Layer())
    _programs(layer, ["/bin/bash"])
    layer.link("usr/bin/sh", "bash")
    layer.file("usr/bin/busybox", Path("/bin/busybox"), 0o755)
    for applet in "awk clear find grep hostname ip kill mount mountpoint nc ping ps sed umount vi wget xargs".split():
        layer.link(f"usr/bin/{applet}", "busybox")
    return layer


def _ubuntu_tools():
    layer = Layer()
    _programs(layer, ["/usr/sbin/capsh", *(f"/usr/bin/{name}" for name in COREUTILS)], have=_libraries(["/bin/bash"]))
    return layer


def _redis_server():
    layer = Layer()
    _programs(layer, ["/usr/bin/redis-server", "/usr/bin/redis-cli"])
    layer.file("etc/passwd", PASSWD + "redis:x:999:1000:redis:/home/redis:/bin/sh\n")
    layer.file("etc/group", GROUP + "redis:x:1000:\n")
    layer.dir("data", 0o755, 999, 1000)
    return layer.whiteout("var/cache/removed-by-the-next-layer")


def _redis_entrypoint():
    layer = Layer()
    have = _libraries(["/usr/bin/redis-server", "/usr/bin/redis-cli"])
    layer.file("usr/local/bin/setpriv", Path("/usr/bin/setpriv"), 0o755)
    _copy_libraries(layer, _libraries(["/usr/bin/setpriv"]) - have)
    return layer.file("usr/local/bin/docker-entrypoint.sh", REDIS_ENTRYPOINT, 0o755)


def _stress():
    layer = Layer()
    _programs(layer, ["/usr/bin/stress-ng"])
    return layer


def _programs(layer, paths, have=frozenset()):
    for path in paths:
        layer.file(_merged(path), Path(path).resolve(), 0o755)
    _copy_libraries(layer, _libraries(paths) - have)


def _copy_libraries(layer, libraries):
    for path in sorted(libraries):
        layer.file(_merged(path), Path(path).resolve(), 0o755)


def _libraries(programs):
    """Absolute paths of the shared libraries and the loader that `programs` need."""
    out = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    return {_merged(p) for p in re.findall(r"(?:=> |^\t)(/\S+)", out, re.M)}


def _merged(path):
    """/lib/x and /bin/x are /usr/lib/x and /usr/bin/x."""
    return path if path.startswith("/usr/") else f"/usr{path}"


def _make_bulk(out, name):
    """About two thirds of the bytes of each file are incompressible."""
    layer_sizes, file_sizes = BULK[name]
    rng = random.Random(300)
    words = b" ".join(rng.randbytes(3).hex().encode() for _ in range(4096))
    layers = []
    for number, megabytes in enumerate(layer_sizes):
        layer = Layer()
        left, count = megabytes << 20, 0
        while left > 0:
            size = min(left, int(rng.choice(file_sizes) * (0.4 + rng.random())))
            noise = size * 2 // 3
            start = rng.randrange(len(words) // 2)
            text = (words[start:] * (1 + size // (len(words) - start)))[:size - noise]
            layer.file(f"opt/layer{number}/{count % 97}/f{count}", rng.randbytes(noise) + text, rng.choice([0o644, 0o755, 0o600]))
            left, count = left - size, count + 1
        layers.append(_packed(layer))
    out.name(f"bench/{name}:1", out.image(layers, {"Cmd": ["/bin/true"]}, ARCH))
    out.close()


if __name__ == "__main__":
    print(layout())
