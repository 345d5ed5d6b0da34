"""Names of registries, looked up in the fetch stage's view: by /etc/hosts, and by DNS as systemd-resolved sets it up,
where /etc/resolv.conf is a link into /run and the name service that libc asks first is behind a unix socket.

The test runs in mount and network namespaces of its own: this file, as a program."""

import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "images")]

from helper import Store  # noqa: E402
from layout import Layer  # noqa: E402
from server import Server  # noqa: E402

STUB = ("127.0.0.53", 53)


def test_names_come_from_hosts_and_dns(store, tmp_path):
    done = subprocess.run(["unshare", "--mount", "--net", "--propagation", "private", sys.executable, "-B", __file__,
                           tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["in-hosts.test", "in-dns.test"]


def answer(query):
    """One question: the A record of in-dns.test, else nothing."""
    end = query.index(b"\0", 12) + 5
    name, kind = query[12:end - 4], struct.unpack(">H", query[end - 4:end - 2])[0]
    found = name == b"\x06in-dns\x04test\0" and kind == 1
    record = b"\xc0\x0c" + struct.pack(">HHIH4s", 1, 1, 60, 4, socket.inet_aton("127.0.0.1")) if found else b""
    return query[:2] + struct.pack(">HHHHH", 0x8180, 1, int(found), 0, 0) + query[12:end] + record


def serve_names():
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind(STUB)

    def serve():
        while True:
            query, who = dns.recvfrom(512)
            dns.sendto(answer(query), who)

    threading.Thread(target=serve, daemon=True).start()


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def main(folder):
    mount("-t", "tmpfs", "tmpfs", "/run")
    os.makedirs("/run/systemd/resolve")
    Path("/run/systemd/resolve/stub-resolv.conf").write_text(f"nameserver {STUB[0]}\noptions timeout:5\n")
    for name in ("upper", "work"):
        os.mkdir(f"/run/{name}")
    mount("-t", "overlay", "overlay", "-o", "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work", "/etc")
    Path("/etc/resolv.conf").unlink(missing_ok=True)
    os.symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
    Path("/etc/nsswitch.conf").write_text("hosts: files resolve [!UNAVAIL=return] dns\n")
    Path("/etc/hosts").write_text("127.0.0.1 in-hosts.test\n")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    serve_names()
    with Server() as server:
        layer = Layer().file("f", "x")
        server.add_image("a", [(layer.blob(), layer.tar())])
        for name in ("in-hosts.test", "in-dns.test"):
            store = Store(folder / name / "store")
            hosts = store.hosts / name
            hosts.mkdir(parents=True)
            port = server.address.rpartition(":")[2]
            (hosts / "hosts.toml").write_text(f'server = "http://{name}:{port}"\n')
            store.pull(f"{name}/a:1")
            print(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
