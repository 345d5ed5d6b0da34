"""hosts.toml: mirrors, their order and what each may do, certificates, and where credentials go."""

import base64
import itertools
import ssl
import subprocess

import pytest

from helper import (DATA_LOSS, FAILED_PRECONDITION, NOT_FOUND, PERMISSION_DENIED, PULL_DENIED, UNAVAILABLE, PullError)
from layout import Layer
from registry import PASSWORD, USERNAME, free_port
from server import Answer, Server

NAME = "registry.test/a:1"  # no such host: what is pulled came from where the file says
CANONICAL = "registry.test/a:1"


@pytest.fixture
def servers():
    with Server() as one, Server() as two:
        yield one, two


def add_image(server, seed=251, size=3_000_000):
    content = bytes(itertools.islice(itertools.cycle(range(seed)), size))
    layer = Layer().file("f", content)
    server.add_image("a", [(layer.blob(0), layer.tar())])
    return next(path for path, (_, data) in server.content.items() if len(data) > 1_000_000)


def write_hosts(store, text, host="registry.test"):
    folder = store.hosts / host
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(text)
    return folder


def http(server):
    return f'"http://{server.address}"'


def warnings(events):
    return [e["warning"] for e in events if "warning" in e]


def fails(store, *more, **options):
    with pytest.raises(PullError) as error:
        store.pull(NAME, *more, **options)
    assert store.index() == []
    return error.value


def asked(server):
    return [f"{method} {path.partition('?')[0].split('/')[-2]}" for method, path, _ in server.requests]


def test_the_first_mirror_serves_everything(store, servers):
    one, two = servers
    add_image(one)
    add_image(two)
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    assert warnings(store.pull(NAME)) == []
    assert asked(one) == ["HEAD manifests", "GET manifests", "GET blobs", "GET blobs"] and asked(two) == []
    assert all(path.endswith("?ns=registry.test") for _, path, _ in one.requests)
    assert store.index()[0]["annotations"]["org.opencontainers.image.ref.name"] == CANONICAL


def test_a_mirror_that_is_down_is_told_and_passed_over(store, servers):
    _, two = servers
    add_image(two)
    gone = f"127.0.0.1:{free_port()}"
    write_hosts(store, f'server = {http(two)}\n[host."http://{gone}"]\n')
    told = warnings(store.pull(NAME))
    assert len(told) == 1 and gone in told[0] and CANONICAL in told[0]


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_mirror_that_refuses_is_passed_over_at_once(store, servers, status):
    one, two = servers
    add_image(two)
    one.rules["/v2/a/manifests/1"] = lambda request: Answer(status)
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    assert len(warnings(store.pull(NAME))) == 1
    # A registry that knows no HEAD would say so with any of these, but with 401. It is asked for no blob.
    assert asked(one) == ["HEAD manifests"] + ["GET manifests"] * (status != 401)


def test_a_mirror_that_does_not_have_it_is_no_news(store, servers):
    one, two = servers
    add_image(two)
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    assert warnings(store.pull(NAME)) == []


def test_a_download_goes_on_at_the_next_host(store, servers):
    one, two = servers
    path = add_image(one)
    add_image(two)
    data = one.content[path][1]
    one.rules[path] = lambda request: Answer(200, {}, data[:1_000_000], len(data), cut=True)
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    store.pull(NAME)
    [ranges] = [headers["Range"] for _, p, headers in two.requests if "blobs" in p]
    assert ranges.startswith("bytes=") and ranges != "bytes=0-"


def test_a_mirror_without_resolve_never_says_what_a_tag_means(store, servers):
    one, two = servers
    add_image(one, seed=13)  # another image under the same tag
    add_image(two)
    write_hosts(store, f'server = {http(two)}\n[host.{http(one)}]\ncapabilities = ["pull"]\n')
    store.pull(NAME)
    assert asked(two)[0] == "HEAD manifests"
    assert not [p for _, p, _ in one.requests if p.partition("?")[0].endswith("/manifests/1")]


def test_a_mirror_without_resolve_serves_digests(store, servers):
    one, two = servers
    descriptor = one.add_image("a", [Layer().file("f", "x")])
    write_hosts(store, f'server = {http(two)}\n[host.{http(one)}]\ncapabilities = ["pull"]\n')
    store.pull(f"registry.test/a@{descriptor['digest']}")
    assert asked(two) == []


def test_content_that_is_not_its_digest_comes_from_the_next(store, servers):
    one, two = servers
    add_image(two)
    path = next(p for p in two.content if "/manifests/sha256" in p)
    one.content[path] = (two.content[path][0], two.content[path][1] + b" ")
    write_hosts(store, f'server = {http(two)}\n[host.{http(one)}]\ncapabilities = ["pull"]\n')
    told = warnings(store.pull(NAME))
    assert len(told) == 1 and "damaged" in told[0]


BAD_BLOBS = [
    ("another byte", lambda data: Answer(200, {}, bytes([data[0] ^ 1]) + data[1:])),
    ("one bit in the middle", lambda data: Answer(200, {}, data[:1_000_000] + bytes([data[1_000_000] ^ 1]) + data[1_000_001:])),
    ("other bytes", lambda data: Answer(200, {}, bytes(len(data)))),
    ("truncated, and says so", lambda data: Answer(200, {}, data[:1_000_000])),
    ("truncated by the connection", lambda data: Answer(200, {}, data[:1_000_000], len(data), cut=True)),
    ("truncated, and wrong", lambda data: Answer(200, {}, bytes(1_000_000))),
    ("too long", lambda data: Answer(200, {}, bytes(len(data) + 1))),
    ("a web page", lambda data: Answer(200, {"Content-Type": "text/html"}, b"<html>log in to the hotel's network</html>"))]


@pytest.mark.parametrize("make", [make for _, make in BAD_BLOBS], ids=[name for name, _ in BAD_BLOBS])
def test_a_blob_that_one_host_has_wrong_comes_from_the_next(store, servers, make):
    one, two = servers
    path = add_image(one)
    add_image(two)
    data = one.content[path][1]
    one.rules[path] = lambda request: make(data) if "Range" not in request.headers else Answer(416)
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    told = warnings(store.pull(NAME))
    assert len(told) == 1 and told[0].startswith(f"{one.address} does not serve"), told
    assert store.blob(path.rpartition("/")[2]) == data and store.litter() == []
    assert one.count("GET", path) == 1 and two.count("GET", path) in (1, 2)


def test_wrong_configs_come_from_the_next_host_too(store, servers):
    one, two = servers
    add_image(one)
    add_image(two)
    path = next(path for path, (_, data) in one.content.items() if "/blobs/" in path and len(data) < 10_000)
    one.rules[path] = lambda request: Answer(200, {}, one.content[path][1][::-1])
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    [told] = warnings(store.pull(NAME))
    assert one.address in told and "damaged" in told


def test_each_host_s_fault_is_told_when_all_have_it_wrong(store, servers):
    one, two = servers
    path = add_image(one)
    add_image(two)
    data = one.content[path][1]
    for server, byte in ((one, b"x"), (two, b"y")):
        server.rules[path] = lambda request, byte=byte: Answer(200, {}, byte * len(data))
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    error = fails(store)
    assert error.code == DATA_LOSS
    for server in servers:
        assert f"{server.address}: blob {path.rpartition('/')[2]} arrived damaged" in error.message
        assert server.count("GET", path) == 1
    assert store.litter() == []


def test_what_an_image_has_wrong_is_no_host_s_fault(store, servers):
    """The bytes are what their digest says, and still no layer: then nobody else is asked."""
    one, two = servers
    for server in servers:
        server.add_image("a", [(bytes(range(256)) * 8000, b"")])
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    error = fails(store)
    assert "not a gzip, zstd or plain tar archive" in error.message and asked(two) == []


def test_a_part_that_was_left_damaged_is_fetched_anew(store, servers):
    """As a power cut leaves it: the file has its length, and zeros where the data was not written yet."""
    one, _ = servers
    path = add_image(one)
    write_hosts(store, f"server = {http(one)}\n")
    (store.path / "ingest").mkdir(parents=True, mode=0o700)
    (store.path / "ingest" / path.rpartition(":")[2]).write_bytes(bytes(1_500_000))
    store.pull(NAME)
    assert [h.get("Range") for _, p, h in one.requests if p.startswith(path)] == ["bytes=1500000-", None]
    assert store.litter() == []


@pytest.mark.parametrize("one_says,two_says,code", [
    (404, 404, NOT_FOUND), (404, 401, PERMISSION_DENIED), (403, 404, PERMISSION_DENIED), (404, 503, UNAVAILABLE),
    (503, 404, NOT_FOUND), (503, 401, PERMISSION_DENIED), (401, 503, UNAVAILABLE),
    (418, 404, FAILED_PRECONDITION)])
def test_the_error_says_what_each_host_said(store, servers, one_says, two_says, code):
    one, two = servers
    for server, status in [(one, one_says), (two, two_says)]:
        server.rules["/v2/a/manifests/1"] = lambda request, status=status: Answer(status)
    write_hosts(store, f"server = {http(two)}\n[host.{http(one)}]\n")
    error = fails(store)
    assert error.code == code
    assert one.address in error.message and two.address in error.message
    assert (PULL_DENIED in error.message) == bool({one_says, two_says} & {401, 403})


def test_the_docker_hub_sentence(store, locked_registry):
    write_hosts(store, f'server = "http://{locked_registry}"\n', "docker.io")
    with pytest.raises(PullError) as error:
        store.pull("shm32/hello-world:private")
    assert (error.value.code, error.value.message) == (PERMISSION_DENIED, PULL_DENIED)


def challenge(request):
    return None if "Authorization" in request.headers else Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})


def test_credentials_go_to_the_registry_and_to_no_mirror(store, servers):
    mirror, own = servers
    add_image(own)
    for server in (mirror, own):
        for path in own.content:
            server.rules[path] = challenge
    write_hosts(store, f"[host.{http(mirror)}]\n", own.address.replace(":", "_") + "_")
    store.pull(f"{own.address}/a:1", USERNAME, PASSWORD)
    basic = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    assert mirror.requests and not [h for _, _, h in mirror.requests if "Authorization" in h]
    assert [h for _, _, h in own.requests if h.get("Authorization") == basic]


def test_headers_go_to_their_host_and_not_where_it_redirects_to(store, servers):
    one, two = servers
    path = add_image(one)
    two.content["/t"] = one.content[path]
    one.rules[path] = lambda request: Answer(307, {"Location": f"http://{two.address}/t"})
    write_hosts(store, f'server = {http(one)}\n[header]\nX-Key = "sesame"\nAuthorization = "Bearer fixed"\n')
    store.pull(NAME)
    assert all(h["X-Key"] == "sesame" and h["Authorization"] == "Bearer fixed" for _, _, h in one.requests)
    assert two.requests and not [h for _, _, h in two.requests if "X-Key" in h or "Authorization" in h]


@pytest.mark.parametrize("text,words", [("server = [", ["line 1"]), ("[host.\"https://a\"]\nca = \"none.crt\"", ["none.crt"]),
                                        ('capabilities = ["push"]', ["capability pull"])])
def test_a_wrong_file_is_refused_by_name(store, text, words):
    folder = write_hosts(store, text)
    error = fails(store)
    assert error.code == FAILED_PRECONDITION
    for word in [str(folder), *words]:
        assert word in error.message


def test_unknown_keys_are_told(store, servers):
    add_image(servers[0])
    write_hosts(store, f'server = {http(servers[0])}\nskip_verfy = true\n')
    assert ["skip_verfy" in text for text in warnings(store.pull(NAME))] == [True]


# --- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "client"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / f"{name}.key",
                        "-out", folder / f"{name}.crt"], check=True, capture_output=True)
    return folder


@pytest.fixture
def tls_server(certificates):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    with Server(tls=tls) as server:
        yield server


def test_ca_and_skip_verify(store, tls_server, certificates):
    add_image(tls_server)
    address = f'server = "https://{tls_server.address}"\n'
    folder = write_hosts(store, address)
    error = fails(store)
    assert error.code == FAILED_PRECONDITION and "hosts.toml" in error.message
    write_hosts(store, address + 'ca = "../../ca.crt"\n')
    (folder / "../../ca.crt").write_bytes((certificates / "client.crt").read_bytes())
    assert fails(store).code == FAILED_PRECONDITION
    (folder / "../../ca.crt").write_bytes((certificates / "server.crt").read_bytes())
    store.pull(NAME)
    write_hosts(store, address + "skip_verify = true\n")
    store.pull(NAME)


def test_skip_verify_does_not_hold_for_redirects(store, tls_server, servers):
    path = add_image(servers[0])
    tls_server.content["/t"] = servers[0].content[path]
    servers[0].rules[path] = lambda request: Answer(307, {"Location": f"https://{tls_server.address}/t"})
    write_hosts(store, f"server = {http(servers[0])}\nskip_verify = true\n")
    assert fails(store).code == FAILED_PRECONDITION
    assert tls_server.count("GET", "/t") == 0


@pytest.mark.parametrize("one_file", [False, True], ids=["pair", "one file"])
def test_client_certificate(store, certificates, one_file):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificates / "client.crt")
    with Server(tls=tls) as server:
        add_image(server)
        host = server.address.replace(":", "_") + "_"
        address = f'server = "https://{server.address}"\nca = "{certificates}/server.crt"\n'
        folder = write_hosts(store, address, host)
        with pytest.raises(PullError):
            store.pull(f"{server.address}/a:1")
        if one_file:
            write_hosts(store, address + f'client = ["{certificates}/both.pem"]\n', host)
            (certificates / "both.pem").write_bytes(
                (certificates / "client.crt").read_bytes() + (certificates / "client.key").read_bytes())
        else:
            write_hosts(store, address + f'client = [["{certificates}/client.crt", "{certificates}/client.key"]]\n', host)
        assert folder.is_dir()
        store.pull(f"{server.address}/a:1")
