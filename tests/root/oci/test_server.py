"""Pulls from a registry that misbehaves."""

import base64
import itertools
import json
import ssl
import subprocess

import pytest

import layout as layouts
from helper import (DATA_LOSS, FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, PULL_DENIED,
                    UNAVAILABLE, PullError)
from layout import Layer
from server import OCI_INDEX, OCI_MANIFEST, Answer, Server


@pytest.fixture
def server():
    with Server() as running:
        yield running


def image(server, **options):
    content = bytes(itertools.islice(itertools.cycle(range(251)), 3_000_000))
    layer = Layer().file("f", content)
    server.add_image("a", [(layer.blob(0), layer.tar())], **options)
    [path] = [p for p, (_, data) in server.content.items() if len(data) > 1_000_000]
    return f"{server.address}/a:1", path


def fails(store, reference, *credentials):
    with pytest.raises(PullError) as error:
        store.pull(reference, *credentials)
    assert store.index() == []
    assert not [name for name in store.litter() if name.startswith("layers-")]
    return error.value


def first_then(*answers):
    """The first request gets the first answer and so on; those after the last get the content."""
    rest = iter(answers)
    return lambda request: next(rest, None)


def test_requests_are_as_few_as_can_be(store, server):
    reference, _ = image(server)
    store.pull(reference)
    assert [(m, p.split("/")[3]) for m, p, _ in server.requests] == [
        ("HEAD", "manifests"), ("GET", "manifests"), ("GET", "blobs"), ("GET", "blobs")]
    for _, path, headers in server.requests:
        if "manifests" in path:
            for kind in ("oci.image.index", "oci.image.manifest", "distribution.manifest.list", "distribution.manifest.v2"):
                assert kind in headers["Accept"]
    server.requests.clear()
    store.pull(reference)
    assert [m for m, _, _ in server.requests] == ["HEAD"]


@pytest.mark.parametrize("stated", ["sha512:" + "0" * 128, "nonsense", ""])
def test_digest_header_that_says_nothing_to_us(store, server, stated):
    reference, _ = image(server)
    body = server.content["/v2/a/manifests/1"][1]
    server.rules["/v2/a/manifests/1"] = lambda request: Answer(
        200, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": stated}, body)
    store.pull(reference)


def test_no_digest_header_and_no_head(store, server):
    reference, _ = image(server)
    body = server.content["/v2/a/manifests/1"][1]
    server.rules["/v2/a/manifests/1"] = lambda request: (
        Answer(405) if request.command == "HEAD" else Answer(200, {"Content-Type": OCI_MANIFEST + "; charset=utf-8"}, body))
    store.pull(reference)


def test_a_broken_download_goes_on_where_it_stopped(store, server):
    reference, path = image(server)
    data = server.content[path][1]
    server.rules[path] = first_then(Answer(200, {}, data[:2_000_000], length=len(data), cut=True))
    store.pull(reference)
    ranges = [headers.get("Range") for _, p, headers in server.requests if p == path]
    assert ranges == [None, "bytes=2000000-"]


def test_a_server_that_ignores_ranges(store, server):
    reference, path = image(server)
    data = server.content[path][1]
    server.rules[path] = first_then(Answer(200, {}, data[:2_000_000], length=len(data), cut=True), Answer(200, {}, data))
    store.pull(reference)


def test_the_next_run_goes_on_too(store, server):
    reference, path = image(server)
    data = server.content[path][1]
    cut = Answer(200, {}, data[:1_500_000], length=len(data), cut=True)
    server.rules[path] = first_then(cut, *[Answer(503)] * 20)
    assert fails(store, reference).code == UNAVAILABLE
    assert len(store.litter()) == 1
    del server.rules[path]
    server.requests.clear()
    store.pull(reference)
    assert [h.get("Range") for _, p, h in server.requests if p == path] == ["bytes=1500000-"]
    assert store.litter() == []


@pytest.mark.parametrize("name, make", [
    ("other bytes", lambda data: Answer(200, {}, bytes(len(data)))),
    ("one bit", lambda data: Answer(200, {}, data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])),
    ("too long", lambda data: Answer(200, {}, data + b"x")),
    ("endless", lambda data: Answer(200, {}, itertools.repeat(bytes(65536)))),
    ("a wrong range", lambda data: Answer(206, {"Content-Range": f"bytes 5-{len(data) - 1}/{len(data)}"}, data[5:])),
])
def test_wrong_blobs_are_data_loss_and_not_kept(store, server, name, make):
    reference, path = image(server)
    server.rules[path] = lambda request: make(server.content[path][1])
    error = fails(store, reference)
    assert error.code == DATA_LOSS
    assert path.rpartition("/")[2] in error.message
    assert store.litter() == [] and not store.has_blob(path.rpartition("/")[2])


def test_wrong_range_on_resume(store, server):
    reference, path = image(server)
    data = server.content[path][1]
    server.rules[path] = first_then(
        Answer(200, {}, data[:2_000_000], length=len(data), cut=True),
        Answer(206, {"Content-Range": f"bytes 1000-{len(data) - 1}/{len(data)}"}, data[1000:]))
    assert fails(store, reference).code == DATA_LOSS


def test_encoded_blobs_are_refused(store, server):
    reference, path = image(server)
    server.rules[path] = lambda request: Answer(200, {"Content-Encoding": "gzip"}, server.content[path][1])
    error = fails(store, reference)
    assert (error.code, "Content-Encoding" in error.message) == (FAILED_PRECONDITION, True)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_transient_errors_are_tried_again(store, server, status):
    reference, path = image(server)
    server.rules[path] = first_then(Answer(status), Answer(status))
    store.pull(reference)
    assert server.count("GET", path) == 3


def test_transient_for_ever_gives_up(store, server):
    reference, path = image(server)
    server.rules[path] = lambda request: Answer(503, body=b'{"errors":[{"message":"on\\nfire"}]}')
    error = fails(store, reference)
    assert error.code == UNAVAILABLE and "503: on fire" in error.message
    assert server.count("GET", path) == 5


@pytest.mark.parametrize("status, code", [(400, FAILED_PRECONDITION), (404, NOT_FOUND), (403, PERMISSION_DENIED),
                                          (410, FAILED_PRECONDITION)])
def test_lasting_errors_are_not(store, server, status, code):
    reference, path = image(server)
    server.rules[path] = lambda request: Answer(status)
    assert fails(store, reference).code == code
    assert server.count("GET", path) == 1


def test_retry_after(store, server):
    reference, path = image(server)
    server.rules[path] = first_then(Answer(429, {"Retry-After": "1"}), Answer(429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}))
    store.pull(reference)


# --- authentication


def token_server(server, reference, challenge=None, token=lambda request: {"token": "t0k3n"}):
    """Asks for a token on everything; /token gives it."""
    if challenge is None:
        challenge = f'Bearer realm="http://{server.address}/token",service="test",scope="repository:a:pull"'

    def guard(request):
        if request.headers.get("Authorization") == "Bearer t0k3n":
            return None
        return Answer(401, {"WWW-Authenticate": challenge})

    def give(request):
        body = token(request)
        return body if isinstance(body, Answer) else Answer(200, {}, json.dumps(body).encode())

    for path in list(server.content):
        server.rules[path] = guard
    server.rules["/token"] = give


def test_anonymous_token(store, server):
    reference, _ = image(server)
    token_server(server, reference)
    store.pull(reference)
    assert server.count("GET", "/token") == 1
    [query] = [p for _, p, _ in server.requests if p.startswith("/token")]
    assert query == "/token?service=test&scope=repository%3Aa%3Apull"


def test_token_with_credentials(store, server):
    reference, _ = image(server)
    wanted = "Basic " + base64.b64encode(b"me:s3cret").decode()
    token_server(server, reference, token=lambda request: {"access_token": "t0k3n"} if
                 request.headers.get("Authorization") == wanted else Answer(401))
    assert fails(store, reference, "me", "wrong").message == PULL_DENIED
    store.pull(reference, "me", "s3cret")


def test_identity_token(store, server):
    """A password without a user name is a refresh token: it is posted to the token server, and goes nowhere else."""
    reference, _ = image(server)
    forms = []

    def token(request):
        forms.append((request.command, request.form, request.headers.get("Authorization")))
        return {"access_token": "t0k3n"}

    token_server(server, reference, token=token)
    store.pull(reference, "", "identity & token")
    assert forms == [("POST", "grant_type=refresh_token&client_id=containerd-driver&service=test&scope=repository%3Aa%3Apull"
                              "&refresh_token=identity%20%26%20token", None)]
    assert not any("identity & token" in str(headers) or "identity" in path for _, path, headers in server.requests)


@pytest.mark.parametrize("name, token, code", [
    ("refused", lambda request: Answer(403), PERMISSION_DENIED),
    ("useless", lambda request: {"token": "another"}, PERMISSION_DENIED),
    ("no token", lambda request: {}, UNAVAILABLE),
    ("no JSON", lambda request: Answer(200, {}, b"<html>"), UNAVAILABLE),
    ("header injection", lambda request: {"token": "a\r\nX-Evil: 1"}, UNAVAILABLE),
    ("huge", lambda request: Answer(200, {}, bytes(100_000)), INVALID_ARGUMENT),
    ("redirected", lambda request: Answer(302, {"Location": "/elsewhere"}), FAILED_PRECONDITION),
])
def test_token_servers_that_misbehave(store, server, name, token, code):
    reference, _ = image(server)
    token_server(server, reference, token=token)
    error = fails(store, reference, "me", "s3cret")
    assert error.code == code
    assert "s3cret" not in error.message
    assert server.count("GET", "/elsewhere") == 0


@pytest.mark.parametrize("challenge", ['', 'Negotiate', 'Bearer scope="x"', 'Bearer realm="http://auth.example/token"',
                                       'Bearer realm="file:///etc/passwd"', 'Bearer realm="never closed', 'Digest nonce="x"'])
def test_challenges_that_cannot_be_met(store, server, challenge):
    reference, _ = image(server)
    token_server(server, reference, challenge=challenge)
    assert fails(store, reference, "me", "s3cret").code in (PERMISSION_DENIED, INVALID_ARGUMENT)


def test_missing_repository_behind_a_token_is_denied(store, server):
    reference, _ = image(server)
    token_server(server, reference)
    server.rules["/v2/b/manifests/1"] = server.rules["/v2/a/manifests/1"]
    error = fails(store, f"{server.address}/b:1")
    assert (error.code, error.message) == (PERMISSION_DENIED, PULL_DENIED)


# --- redirects


def test_redirected_blobs_lose_their_authorization(store, server):
    reference, path = image(server)
    token_server(server, reference)
    data = server.content[path][1]
    with Server() as cdn:
        cdn.content["/signed"] = ("application/octet-stream", data)
        guard = server.rules[path]
        server.rules[path] = lambda request: guard(request) or Answer(
            307, {"Location": f"http://{cdn.address}/signed?signature=s3cret"})
        store.pull(reference)
        [(_, _, headers)] = cdn.requests
        assert "Authorization" not in headers
        # The next piece is asked from the registry again: a signed link does not live long.
        assert [p for _, p, h in server.requests if p == path and "Authorization" in h] == [path]


def test_a_challenge_of_a_redirect_target_is_not_answered(store, server):
    reference, path = image(server)
    with Server() as cdn:
        cdn.rules["/x"] = lambda request: Answer(401, {"WWW-Authenticate": f'Basic realm="x", Bearer realm="http://{cdn.address}/t"'})
        server.rules[path] = lambda request: Answer(302, {"Location": f"http://{cdn.address}/x"})
        assert fails(store, reference, "me", "s3cret").code == PERMISSION_DENIED
        assert all("Authorization" not in h for _, _, h in cdn.requests)
        assert cdn.count("GET", "/t") == 0


@pytest.mark.parametrize("location", ["/v2/a/loop", "file:///etc/passwd", "ftp://127.0.0.1/", "http://example.com/x", "",
                                      "http://user:pw@127.0.0.1/", "gopher://127.0.0.1", "//example.com/x"])
def test_redirects_that_are_not_followed(store, server, location):
    reference, path = image(server)
    redirect = lambda request: Answer(302, {"Location": location} if location else {})  # noqa: E731
    server.rules[path] = server.rules["/v2/a/loop"] = redirect
    assert fails(store, reference).code in (FAILED_PRECONDITION, INVALID_ARGUMENT)
    assert server.count("GET", "/v2/a/loop") <= 5


# --- TLS


def test_https_is_verified(store, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    try:
        server = Server(443, tls)  # on loopback, this port alone means https
    except OSError:
        pytest.skip("port 443 is taken")
    with server:
        image(server)
        error = fails(store, "127.0.0.1:443/a:1")
        assert error.code == FAILED_PRECONDITION and "CA" in error.message
        with pytest.raises(PullError) as wrong_name:
            store.pull("localhost:443/a:1", env={"SSL_CERT_FILE": str(certificate)})
        assert wrong_name.value.code == FAILED_PRECONDITION
        store.pull("127.0.0.1:443/a:1", env={"SSL_CERT_FILE": str(certificate)})


# --- documents


def manifest_of(server, **changes):
    document = json.loads(server.content["/v2/a/manifests/1"][1])
    document.update(changes)
    return layouts.dump(document)


@pytest.mark.parametrize("name, make, code", [
    ("a manifest with manifests", lambda s: manifest_of(s, manifests=[]), INVALID_ARGUMENT),
    ("no JSON", lambda s: b"<html>", INVALID_ARGUMENT),
    ("deep JSON", lambda s: b'{"a":' * 50_000, INVALID_ARGUMENT),
    ("schema 1", lambda s: b'{"schemaVersion":1,"fsLayers":[]}', FAILED_PRECONDITION),
    ("over the limit", lambda s: manifest_of(s, padding="x" * (4 << 20)), INVALID_ARGUMENT),
    ("many layers", lambda s: manifest_of(s, layers=json.loads(manifest_of(s))["layers"] * 129), INVALID_ARGUMENT),
    ("a traversing digest", lambda s: manifest_of(s, config={"mediaType": layouts.OCI_CONFIG, "size": 2,
                                                             "digest": "sha256:../../../../etc/passwd"}), INVALID_ARGUMENT),
    ("an artifact", lambda s: manifest_of(s, config=s.add_blob("a", b"{}", "application/vnd.oci.empty.v1+json")),
     FAILED_PRECONDITION),
])
def test_manifests_that_are_refused(store, server, name, make, code):
    reference, _ = image(server)
    server.add_manifest("a", make(server), OCI_MANIFEST, "1")
    error = fails(store, reference)
    assert error.code == code


def test_manifest_that_is_not_what_was_asked_for(store, server):
    reference, _ = image(server)
    digest = layouts.digest_of(server.content["/v2/a/manifests/1"][1])
    server.content[f"/v2/a/manifests/{digest}"] = (OCI_MANIFEST, manifest_of(server, annotations={"evil": "yes"}))
    assert fails(store, reference).code == DATA_LOSS
    assert fails(store, f"{server.address}/a@{digest}").code == DATA_LOSS


def test_diff_ids_that_are_too_few(store, server):
    reference, _ = image(server, config={"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64] * 2}})
    assert fails(store, reference).code == INVALID_ARGUMENT


def test_nested_indexes(store, server):
    image(server)
    entry = {**server.add_manifest("a", server.content["/v2/a/manifests/1"][1], OCI_MANIFEST),
             "platform": {"os": "linux", "architecture": "amd64"}}
    for depth in range(1, 6):
        body = layouts.dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
        entry = server.add_manifest("a", body, OCI_INDEX, f"depth{depth}")
    store.pull(f"{server.address}/a:depth4")
    with pytest.raises(PullError) as error:
        store.pull(f"{server.address}/a:depth5")
    assert error.value.code == INVALID_ARGUMENT


def test_an_entry_without_platform_is_judged_by_its_config(store, server):
    other = server.add_image("a", [Layer().file("other", "x")], config={"architecture": "s390x"})
    ours = server.add_image("a", [Layer().file("ours", "x")])
    body = layouts.dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [other, ours]})
    server.add_manifest("a", body, OCI_INDEX, "index")
    reference = f"{server.address}/a:index"
    store.pull(reference)
    assert (store.layer_dirs(reference)[0] / "ours").exists()


def test_headers_without_end(store, server):
    reference, _ = image(server)
    server.rules["/v2/a/manifests/1"] = lambda request: Answer(200, {f"X-{i}": "y" * 1000 for i in range(90)})
    assert fails(store, reference).code == UNAVAILABLE


def test_gzip_bomb_is_stopped_by_its_ratio(store, server):
    zeros = Layer().file("zeros", bytes(300 << 20))
    server.add_image("a", [(zeros.blob(9), zeros.tar())])
    error = fails(store, f"{server.address}/a:1")
    assert error.code == INVALID_ARGUMENT and "times its size" in error.message
