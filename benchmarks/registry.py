"""A registry on loopback, and what is put in it and read back from it. Only for this measuring: plain HTTP, no accounts."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFESTS = f"{OCI_MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class BaseLayer:
    """A finished gzip layer: file, digests, compressed size in bytes."""

    path: str
    digest: str
    diff_id: str
    size: int


@dataclass(frozen=True)
class Registry:
    """``host`` is ``127.0.0.1:PORT``."""

    host: str

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=300)

    def put_blob(self, repository: str, source: IO[bytes] | bytes, digest: str, size: int) -> None:
        connection = self.connect()
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        begun = expect(connection, 202)
        place = begun.headers["Location"].split(self.host, 1)[-1]
        place += ("&" if "?" in place else "?") + f"digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        connection.blocksize = 1 << 20
        connection.request("PUT", place, body=source, headers=headers)
        expect(connection, 201)
        connection.close()

    def put_image(self, repository: str, layers: list[BaseLayer], config: dict[str, Any]) -> str:
        """Push an image for amd64/arm64 as this machine is; returns its reference."""
        for layer in layers:
            with open(layer.path, "rb") as f:
                self.put_blob(repository, f, layer.digest, layer.size)
        document = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "benchmark base"} for _ in layers],
        }
        data = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.put_blob(repository, data, digest, len(data))
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": len(data)},
            "layers": [{"mediaType": OCI_LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
        connection = self.connect()
        connection.request(
            "PUT", f"/v2/{repository}/manifests/1", body=json.dumps(manifest), headers={"Content-Type": OCI_MANIFEST}
        )
        expect(connection, 201)
        connection.close()
        return f"{self.host}/{repository}:1"

    def manifest(self, repository: str, tag: str) -> dict[str, Any]:
        """The manifest at a tag; ``LookupError`` when there is none."""
        connection = self.connect()
        connection.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFESTS})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.status != 200:
            raise LookupError(f"no manifest at {repository}:{tag} (status {answer.status})")
        found: dict[str, Any] = json.loads(data)
        return found

    @contextlib.contextmanager
    def blob(self, repository: str, digest: str) -> Iterator[http.client.HTTPResponse]:
        connection = self.connect()
        connection.request("GET", f"/v2/{repository}/blobs/{digest}")
        try:
            yield expect(connection, 200, read=False)
        finally:
            connection.close()


def expect(connection: http.client.HTTPConnection, status: int, *, read: bool = True) -> http.client.HTTPResponse:
    answer = connection.getresponse()
    if answer.status != status:
        raise RuntimeError(f"the registry answered {answer.status}: {answer.read(400)!r}")
    if read:
        answer.read()
    return answer


@contextlib.contextmanager
def serve(storage: str) -> Iterator[Registry]:
    """Run ``docker-registry`` on a free loopback port with its blobs in ``storage``."""
    program = shutil.which("docker-registry")
    if program is None:
        raise RuntimeError("docker-registry is not installed (Debian package docker-registry)")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    host = f"127.0.0.1:{port}"
    config = os.path.join(storage, "registry.yml")
    with open(config, "w") as f:
        f.write(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {storage}/data}}}}\nhttp: {{addr: '{host}'}}\n"
        )
    with open(os.path.join(storage, "registry.log"), "wb") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        answer_within(host, process, seconds=20)
        yield Registry(host)
    finally:
        process.terminate()
        process.wait()


def answer_within(host: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.request("GET", "/v2/")
            if connection.getresponse().status == 200:
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("docker-registry did not start") from error
        time.sleep(0.02)
