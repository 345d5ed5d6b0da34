"""Ways to a registry that are not a plain connection over IPv4: proxies from the environment, and IPv6."""

import socket
import socketserver
import ssl
import subprocess
import threading

import pytest

from helper import DRIVER, PROGRAM, UNAVAILABLE, PullError, tree
from layout import Layer
from server import Answer, Server

NAME = "registry.test/a:1"  # no such host: only the proxy gets there


def hosts(store, text):
    folder = store.hosts / "registry.test"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(text)


def check(store, reference):
    with store.mounted(reference) as root:
        assert sorted(tree(root)) == ["f"]


@pytest.fixture
def server():
    """A registry, and a proxy for plain HTTP: it answers to URLs, too."""
    with Server() as running:
        running.add_image("a", [Layer().file("f", b"content")])
        yield running


class Tunnel(socketserver.ThreadingTCPServer):
    """A proxy that leads every CONNECT to `target`, for who has `password`. `asked` has the heads of all requests."""

    daemon_threads = True

    def __init__(self, target, password=None):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.target, self.password, self.asked = target, password, []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = self.request.recv(1)
                if not piece:
                    return
                head += piece
            self.server.asked.append(head.decode())
            if self.server.password and f"Proxy-Authorization: Basic {self.server.password}\r\n".encode() not in head:
                self.request.sendall(b"HTTP/1.1 407 who are you\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(self.server.target) as other:
                self.request.sendall(b"HTTP/1.1 200 here\r\n\r\n")
                back = threading.Thread(target=relay, args=(other, self.request), daemon=True)
                back.start()
                relay(self.request, other)
                back.join()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


def relay(source, target):
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture(scope="module")
def tls_registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=registry.test", "-addext", "subjectAltName=DNS:registry.test", "-keyout",
                    folder / "key", "-out", folder / "crt"], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "crt", folder / "key")
    with Server(tls=tls) as running:
        running.add_image("a", [Layer().file("f", b"content")])
        yield running, folder / "crt"


@pytest.fixture
def tunnel(tls_registry):
    host, port = tls_registry[0].address.split(":")
    with Tunnel((host, int(port))) as running:
        yield running
        running.shutdown()


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_plain_http_through_a_proxy(store, server, variable):
    hosts(store, 'server = "http://registry.test"\n')
    subprocess.run([DRIVER, "pull", "--data-dir", store.path, "--image-helper", PROGRAM, "--hosts-dir", store.hosts, NAME],
                   env={variable: f"http://{server.address}"}, check=True, capture_output=True, timeout=60)
    check(store, NAME)
    assert {path.split("/v2/")[0] for _, path, _ in server.requests} == {"http://registry.test"}


def test_https_through_a_tunnel(store, tunnel, tls_registry):
    """The proxy sees no more than the name; the certificate is the registry's."""
    hosts(store, f'server = "https://registry.test"\nca = "{tls_registry[1]}"\n')
    store.pull(NAME, env={"https_proxy": f"http://{tunnel.address}"})
    check(store, NAME)
    assert {head.split("\r\n")[0] for head in tunnel.asked} == {"CONNECT registry.test:443 HTTP/1.1"}
    assert not any("Authorization" in head for head in tunnel.asked)


def test_a_tunnel_that_wants_a_password(store, tunnel, tls_registry):
    hosts(store, f'server = "https://registry.test"\nca = "{tls_registry[1]}"\n')
    tunnel.password = "bWU6c2VzYW1l"  # me:sesame
    with pytest.raises(PullError) as denied:
        store.pull(NAME, env={"https_proxy": f"http://me:wrong@{tunnel.address}"})
    assert denied.value.code == UNAVAILABLE and "wrong" not in denied.value.message
    assert "the proxy refuses with 407; set https_proxy to http://USER:PASSWORD@HOST:PORT" in denied.value.message
    store.pull(NAME, env={"https_proxy": f"http://me:sesame@{tunnel.address}"})
    check(store, NAME)


def test_a_proxy_that_refuses(store, server):
    hosts(store, 'server = "http://registry.test"\n')
    server.rules["/v2/a/manifests/1"] = lambda _: Answer(407, {"Proxy-Authenticate": "Basic realm=x"})
    with pytest.raises(PullError) as denied:
        store.pull(NAME, env={"http_proxy": f"http://{server.address}"})
    assert denied.value.code == UNAVAILABLE
    assert "the proxy refuses with 407; set http_proxy to http://USER:PASSWORD@HOST:PORT" in denied.value.message


def test_what_needs_no_proxy_goes_directly(store, server, tunnel):
    """Names in no_proxy, and registries of this machine always."""
    reference = f"{server.address}/a:1"
    store.pull(reference, env={"http_proxy": f"http://{tunnel.address}"})
    check(store, reference)
    hosts(store, 'server = "https://registry.test"\n')
    with pytest.raises(PullError) as error:
        store.pull(NAME, env={"https_proxy": f"http://{tunnel.address}", "no_proxy": "registry.test"})
    assert error.value.code == UNAVAILABLE
    assert tunnel.asked == []


def test_ipv6(store):
    with Server(ip="::1") as server:
        server.add_image("a", [Layer().file("f", b"content")])
        reference = f"{server.address}/a:1"
        store.pull(reference)
        check(store, reference)
