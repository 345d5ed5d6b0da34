"""Registries, documents and archives as they are met in the field: what Docker, containerd or podman pull is pulled."""

import bz2
import gzip
import io
import json
import lzma
import ssl
import subprocess
import tarfile
import time

import pytest

import layout as layouts
from helper import DRIVER, PERMISSION_DENIED, PULL_DENIED, PullError, digest_of
from layout import Layer
from rawtar import Tar
from server import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Answer, Server

HOST = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()[:1]
needs_address = pytest.mark.skipif(not HOST, reason="the machine has no address but loopback")


@pytest.fixture
def server():
    with Server() as running:
        yield running


def image(server, **changes):
    server.add_image("a", [Layer().file("f", "content")], **changes)
    return f"{server.address}/a:1"


def for_all(server, part, rule):
    for path in list(server.content):
        if part in path:
            server.rules[path] = rule


def errors(*messages):
    return json.dumps({"errors": [{"code": "X", "message": m} for m in messages]}).encode()


# --- registries

@pytest.mark.parametrize("status", [400, 403, 404, 405, 429, 500, 501, 503])
def test_head_is_refused_and_get_works(store, server, status):
    reference = image(server)
    for_all(server, "/manifests/", lambda r: Answer(status) if r.command == "HEAD" else None)
    store.pull(reference)
    assert server.count("GET", "/manifests/") == 1


@pytest.mark.parametrize("status", [400, 403, 404])
def test_the_reason_of_a_registry_is_told(store, server, status):
    reference = image(server)
    for_all(server, "", lambda r: Answer(status, {}, errors("your address\x1b[2J is not known\n", "ask your team")))
    with pytest.raises(PullError) as failed:
        store.pull(reference)
    assert "your address [2J is not known ; ask your team" in failed.value.message
    if status == 403:
        assert failed.value.code == PERMISSION_DENIED and failed.value.message.startswith(PULL_DENIED)


def test_a_secret_that_a_registry_repeats_is_not_told(store, server):
    reference = image(server)

    def repeat(request):
        if request.path.startswith("/token"):
            return Answer(200, {}, b'{"token":"t0ken-canary"}')
        if request.headers.get("Authorization") != "Bearer t0ken-canary":
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{server.address}/token"'})
        return Answer(403, {}, errors("pw-canary and Bearer t0ken-canary are no good"))
    server.rules["/token"] = repeat
    for_all(server, "/v2/", repeat)
    with pytest.raises(PullError) as failed:
        store.pull(reference, "me", "pw-canary")
    assert "canary" not in failed.value.message and "*** and Bearer *** are no good" in failed.value.message


@pytest.mark.parametrize("head, get", [("application/json", OCI_MANIFEST), (OCI_INDEX, OCI_MANIFEST), ("", OCI_MANIFEST),
                                       ("text/plain", "text/plain"), ("", "application/octet-stream")])
def test_content_types(store, server, head, get):
    """HEAD's is not the document's; one that says nothing leaves it to the document."""
    reference = image(server)
    body = server.content["/v2/a/manifests/1"][1]
    for_all(server, "/manifests/", lambda r: Answer(200, {
        "Content-Type": head if r.command == "HEAD" else get, "Docker-Content-Digest": layouts.digest_of(body)}, body))
    store.pull(reference)
    assert store.index()[0]["mediaType"] == OCI_MANIFEST


def test_a_manifest_that_is_there_by_its_tag_only(store, server):
    reference = image(server)
    for path in [p for p in server.content if "/manifests/sha256:" in p]:
        del server.content[path]
    store.pull(reference)


def test_a_challenge_behind_a_redirect_is_answered_anonymously(store, server):
    reference = image(server)
    with Server() as real:
        real.content.update(server.content)

        def guard(request):
            if request.headers.get("Authorization") == "Bearer anonymous":
                return None
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{real.address}/token",service="s"'})
        for_all(real, "/v2/", guard)
        real.rules["/token"] = lambda r: Answer(200, {}, b'{"token":"","access_token":"anonymous"}')
        for_all(server, "/v2/", lambda r: Answer(307, {"Location": f"http://{real.address}{r.path}"}))
        store.pull(reference, "me", "s3cret")
        assert real.count("GET", "/token") == 1  # for all that comes from there
        assert all("Basic" not in h.get("Authorization", "") for _, _, h in real.requests)
        assert all("account" not in path for _, path, _ in real.requests)


def test_a_token_request_follows_redirects_without_credentials_only(store, server):
    reference = image(server)
    with Server() as other:
        other.rules["/t"] = lambda r: Answer(200, {}, b'{"token":"x"}')
        server.rules["/token"] = lambda r: Answer(302, {"Location": f"http://{other.address}/t"})
        for_all(server, "/v2/", lambda r: None if r.headers.get("Authorization") == "Bearer x" else Answer(
            401, {"WWW-Authenticate": f'Bearer realm="http://{server.address}/token"'}))
        with pytest.raises(PullError) as refused:
            store.pull(reference, "me", "s3cret")
        assert "redirects" in refused.value.message and other.requests == []
        store.pull(reference)
        server.rules["/token"] = lambda r: Answer(302, {"Location": "/token"})
        with pytest.raises(PullError):
            store.pull(reference.replace(":1", "@" + digest_of(b"none")))


@pytest.mark.parametrize("coding", ["aws-chunked", "Identity", "utf-8"])
def test_encodings_that_are_said_and_not_applied(store, server, coding):
    """Object stores keep what an upload said. The digest tells whether the bytes are right."""
    reference = image(server)
    for_all(server, "/v2/", lambda r: Answer(200, {"Content-Encoding": coding, "Content-Type": server.content[r.path][0]},
                                             server.content[r.path][1]))
    store.pull(reference)


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_encodings_that_are_applied_are_named(store, server, part):
    reference = image(server)
    for_all(server, part, lambda r: Answer(200, {"Content-Encoding": "gzip", "Content-Type": server.content[r.path][0]},
                                           gzip.compress(server.content[r.path][1])))
    with pytest.raises(PullError) as failed:
        store.pull(reference)
    assert 'Content-Encoding "gzip"' in failed.value.message and store.litter() == []


@pytest.mark.parametrize("with_range", [True, False])
def test_a_whole_that_is_called_a_part(store, server, with_range):
    reference = image(server)

    def part(request):
        body = server.content[request.path][1]
        return Answer(206, {"Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}"} if with_range else {}, body)
    for_all(server, "/blobs/", part)
    store.pull(reference)


def certificate(folder):
    pem, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
                    "subjectAltName=IP:127.0.0.9", "-keyout", key, "-out", pem], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem, key)
    return tls


def test_tls_on_loopback_needs_no_word(store, tmp_path):
    """On any port, and whatever its certificate: plain HTTP would do there."""
    with Server(tls=certificate(tmp_path)) as server:
        reference = image(server)
        store.pull(reference)
        store.pull(reference.replace("127.0.0.1", "localhost"))
        # What hosts.toml says is followed: then it is verified, and there is no way back to plain HTTP.
        folder = store.hosts / server.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "https://{server.address}"\n')
        with pytest.raises(PullError) as failed:
            store.pull(reference)
        assert "certificate" in failed.value.message
    with Server() as plain:
        folder = store.hosts / plain.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "https://{plain.address}"\n')
        reference = image(plain)
        with pytest.raises(PullError):
            store.pull(reference)
        assert plain.requests == []


@needs_address
def test_a_plain_http_registry_redirects_to_its_own_host_and_to_those_configured(store):
    with Server(ip=HOST[0]) as server, Server(ip=HOST[0]) as blobs, Server() as elsewhere:
        reference = image(server)
        folder = store.hosts / server.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "http://{server.address}"\n')
        for target in (blobs, elsewhere):
            target.content.update(server.content)
        for_all(server, "/blobs/", lambda r: Answer(307, {"Location": f"http://{blobs.address}{r.path}"}))
        store.pull(reference)
        assert blobs.count("GET", "/blobs/") == 2
        # This machine's loopback is no place to be sent to from another address.
        for_all(server, "/manifests/", lambda r: Answer(307, {"Location": f"http://{elsewhere.address}{r.path}"}))
        with pytest.raises(PullError) as refused:
            store.pull(reference)
        assert "refused" in refused.value.message and elsewhere.requests == []


# --- documents

def test_an_image_without_layers(store, server):
    server.add_image("a", [], config={"rootfs": {"type": "layers", "diff_ids": None}})
    store.pull(f"{server.address}/a:1")
    assert len(store.index()) == 1


@pytest.mark.parametrize("config", [{"architecture": ""}, {"os": ""}, {"os": None, "architecture": None},
                                    {"history": None, "config": None}, {"config": {"Env": None, "Labels": None, "Cmd": "sh"}}])
def test_members_that_say_nothing(store, server, config):
    store.pull(image(server, config=config))


@pytest.mark.parametrize("platform", [{"architecture": "amd64"}, {"os": "linux"}, {"os": "", "architecture": ""}, {}, None])
def test_index_entries_that_say_little(store, server, platform):
    descriptor = server.add_image("a", [Layer().file("f", "content")])
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**descriptor, "platform": platform}]}
    server.add_manifest("a", layouts.dump(index), OCI_INDEX, "i")
    store.pull(f"{server.address}/a:i")


# --- archives

class Layout:
    """Of an OCI layout in a tar."""

    def __init__(self):
        self._tar, self._entries = Tar().file("oci-layout", '{"imageLayoutVersion":"1.0.0"}'), []

    def blob(self, data, media_type):
        self._tar.file(f"blobs/sha256/{digest_of(data)[7:]}", data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def image(self, name, architecture="amd64", config_type=OCI_CONFIG, platform=None, **entry):
        config = self.blob(layouts.dump({"os": "linux", "architecture": architecture, "n": name}), config_type)
        manifest = self.blob(layouts.dump({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}),
                             OCI_MANIFEST)
        manifest["annotations"] = {"org.opencontainers.image.ref.name": name, **entry}
        if platform:
            manifest["platform"] = {"os": "linux", "architecture": platform}
        self._entries.append(manifest)
        return self

    def done(self):
        return self._tar.file("index.json", layouts.dump({"schemaVersion": 2, "manifests": self._entries})).done()


class Cli:
    def __init__(self, folder):
        self._folder = folder

    def load(self, archive, *names):
        path = self._folder / "archive"
        path.write_bytes(archive)
        return subprocess.run([DRIVER, "--data-dir", self._folder / "data", "--state-dir", self._folder / "state", "load", "-i",
                               path, *names], capture_output=True, text=True)


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


def test_what_is_no_image_does_not_fail_the_rest(cli):
    archive = (Layout().image("q/sig:1", config_type="application/vnd.dev.cosign.config.v1+json").image("q/app:1")
               .image("not a name/").image("q/arm:1", "arm64").done())
    loaded = cli.load(archive)
    assert loaded.stdout == "docker.io/q/app:1\n" and loaded.returncode == 1
    for left_out in ("q/sig:1", "not a name/", "q/arm:1"):
        assert left_out in loaded.stderr
    named = cli.load(archive, "q/app:1")
    assert (named.returncode, named.stdout, named.stderr) == (0, "docker.io/q/app:1\n", "")
    assert cli.load(archive, "q/sig:1").returncode == 125 and cli.load(archive, "q/none:1").returncode == 125


def test_statements_about_images_are_passed_over(cli):
    archive = Layout().image("q/app:1").image("q/app:1", **{"vnd.docker.reference.type": "attestation-manifest"}).done()
    loaded = cli.load(archive)
    assert (loaded.returncode, loaded.stdout) == (0, "docker.io/q/app:1\n")


@pytest.mark.parametrize("order", [("amd64", "arm64"), ("arm64", "amd64"), ("386", "amd64"), ("amd64", "386")])
@pytest.mark.parametrize("told", [True, False])
def test_one_name_for_several_platforms(cli, order, told):
    if "386" in order and not told:
        pytest.skip("both run here, and nothing says which is meant")
    layout = Layout()
    for architecture in order:
        layout.image("q/app:1", architecture, platform=architecture if told else None)
    loaded = cli.load(layout.done())
    assert (loaded.returncode, loaded.stdout) == (0, "docker.io/q/app:1\n")
    index = json.loads((cli._folder / "data/index.json").read_text())["manifests"]
    assert [entry["platform"]["architecture"] for entry in index] == ["amd64"]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, bytes])
def test_compressed_archives(cli, pack):
    assert cli.load(pack(Layout().image("q/app:1").done())).returncode == 0
    assert cli.load(pack(Layout().image("q/app:1").done())[:-700]).returncode in (0, 125)


@pytest.mark.parametrize("tag, name", [("app:1", "docker.io/library/app:1"), ("app", "docker.io/library/app:latest"),
                                       ("team/app:2", "docker.io/team/app:2"), ("quay.io/x/y:3", "quay.io/x/y:3")])
def test_names_of_docker_save(cli, tag, name):
    config = layouts.dump({"os": "linux", "architecture": "amd64"})
    manifest = layouts.dump([{"Config": "c.json", "RepoTags": [tag], "Layers": None}])
    assert cli.load(Tar().file("c.json", config).file("manifest.json", manifest).done()).stdout == name + "\n"


def test_limits_of_an_archive_are_told_in_time(cli):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(200_000):
            tar.addfile(tarfile.TarInfo(f"f{number}"))
    begin = time.monotonic()
    refused = cli.load(out.getvalue())
    assert refused.returncode == 125 and "10000 entries" in refused.stderr
    assert time.monotonic() - begin < 5
