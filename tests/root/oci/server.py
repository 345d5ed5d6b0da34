"""A registry that follows a script: every answer can be wrong in its own way."""

import http.server
import json
import socket
import struct
import threading
import urllib.parse

import layout as layouts

OCI_INDEX, OCI_MANIFEST, OCI_CONFIG, OCI_LAYER = (
    layouts.OCI_INDEX, layouts.OCI_MANIFEST, layouts.OCI_CONFIG, layouts.OCI_LAYER)


class Answer:
    """`body` is bytes or a list of pieces; `length` is the Content-Length to claim; `cut` closes the connection
    after it, `reset` with a RST."""

    def __init__(self, status=200, headers=None, body=b"", length=None, cut=False, reset=False):
        self.status, self.headers, self.body, self.length = status, headers or {}, body, length
        self.cut, self.reset = cut or reset, reset


class Server:
    """Serves what is in `content` (path → (type, bytes)), unless `rules` (path → function of the request) says
    otherwise. `requests` has (method, path, headers) of all that was asked."""

    def __init__(self, port=0, tls=None, ip="127.0.0.1"):
        self.content, self.rules, self.requests = {}, {}, []
        self._lock = threading.Lock()
        listener = type("Listener", (http.server.ThreadingHTTPServer,),
                        {"address_family": socket.AF_INET6 if ":" in ip else socket.AF_INET})
        self._http = listener((ip, port), self._handler())
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self):
        ip, port = self._http.server_address[:2]
        return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def add_image(self, name, layers, config=None, diff_ids=None, **manifest):
        """`layers` are layout.Layer, or (blob, tar). Returns the manifest's descriptor; tag "1" names it."""
        packed = [(layer.blob(), layer.tar()) if isinstance(layer, layouts.Layer) else layer for layer in layers]
        config = {
            "os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [layouts.digest_of(tar) for _, tar in packed]},
            **(config or {}),
        }
        document = {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": self.add_blob(name, layouts.dump(config), OCI_CONFIG),
            "layers": [self.add_blob(name, blob, OCI_LAYER) for blob, _ in packed], **manifest,
        }
        return self.add_manifest(name, layouts.dump(document), OCI_MANIFEST, "1")

    def add_blob(self, name, data, media_type):
        digest = layouts.digest_of(data)
        self.content[f"/v2/{name}/blobs/{digest}"] = ("application/octet-stream", data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_manifest(self, name, data, media_type, *tags):
        digest = layouts.digest_of(data)
        for reference in [digest, *tags]:
            self.content[f"/v2/{name}/manifests/{reference}"] = (media_type, data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def count(self, method, part):
        with self._lock:
            return sum(m == method and part in p for m, p, _ in self.requests)

    def _answer(self, request):
        path = urllib.parse.urlsplit(request.path).path  # of a URL, if we are somebody's proxy
        rule = self.rules.get(path)
        answer = rule(request) if rule else None
        if answer is not None:
            return answer
        if path not in self.content:
            return Answer(404, body=json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}).encode())
        media_type, data = self.content[path]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": layouts.digest_of(data)}
        start = request.headers.get("Range")
        if start:
            offset = int(start.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {offset}-{len(data) - 1}/{len(data)}"
            return Answer(206, headers, data[offset:])
        return Answer(200, headers, data)

    def _handler(server):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with server._lock:
                    server.requests.append((self.command, self.path, dict(self.headers)))
                answer = server._answer(self)
                pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
                length = answer.length
                if length is None and isinstance(answer.body, bytes):
                    length = len(answer.body)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                else:
                    self.close_connection = True
                self.end_headers()
                if self.command == "HEAD":
                    return
                try:
                    for piece in pieces:
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:
                    self.close_connection = True  # the client has had enough
                if answer.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if answer.cut:
                    self.close_connection = True

            do_HEAD = do_GET

            def do_POST(self):
                self.form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                self.do_GET()

            def log_message(self, *_):
                pass

        return Handler
