"""Real registries on loopback, images to move, a token service."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pybuild.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.oci.manifest import manifest_bytes
from pybuild.oci.platform import Platform
from pybuild.oci.reference import Reference, parse_reference
from pybuild.registry.client import Registries
from pybuild.registry.options import RegistryOptions

AMD64 = Platform("linux", "amd64")
QUICK = RegistryOptions(attempts=5, backoff=0.005, stall=5.0)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class SampleImage:
    """An image with its blobs in memory. The layers are no archives: nothing here unpacks them."""

    manifest: bytes
    media_type: str
    blobs: dict[str, bytes]
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def sample_image(sizes: Sequence[int], *, seed: bytes = b"", docker: bool = False, platform: Platform = AMD64) -> SampleImage:
    """An image with random layers of these sizes; the same for the same seed."""
    blobs: dict[str, bytes] = {}
    layers = []
    for number, size in enumerate(sizes):
        data = random_bytes(seed + str(number).encode(), size)
        blobs[digest_of(data)] = data
        layers.append(Descriptor(DOCKER_LAYER_GZIP if docker else OCI_LAYER_GZIP, digest_of(data), size))
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "history": [{"created_by": seed.hex()}],
        "x-unknown": {"kept": True},
    }
    config = json.dumps(document).encode()
    blobs[digest_of(config)] = config
    descriptor = Descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, digest_of(config), len(config))
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    return SampleImage(manifest_bytes(media_type, descriptor, tuple(layers), {}), media_type, blobs, descriptor, tuple(layers))


def random_bytes(seed: bytes, size: int) -> bytes:
    return hashlib.shake_128(seed).digest(size)


async def push_sample(registries: Registries, reference: Reference, image: SampleImage) -> None:
    """Blobs, then the manifest, as a build does it."""
    import asyncio
    import io

    blobs = (image.config, *image.layers)
    await asyncio.gather(*(registries.upload_blob(reference, d, lambda d=d: io.BytesIO(image.blobs[d.digest])) for d in blobs))
    await registries.put_manifest(reference, image.manifest, image.media_type)


@dataclass(frozen=True)
class Served:
    """A running registry. ``env`` is an environment without anybody's credentials."""

    host: str
    storage: pathlib.Path
    scheme: str = "http"
    ca: pathlib.Path | None = None

    def reference(self, name: str) -> Reference:
        return parse_reference(f"{self.host}/{name}")

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """What the registry itself answers, without any client of ours between."""
        connection: http.client.HTTPConnection
        if self.scheme == "https":
            connection = http.client.HTTPSConnection(self.host, context=ssl._create_unverified_context(), timeout=10)
        else:
            connection = http.client.HTTPConnection(self.host, timeout=10)
        with contextlib.closing(connection):
            accept = {"Accept": f"{OCI_MANIFEST}, {DOCKER_MANIFEST}, application/vnd.oci.image.index.v1+json"}
            connection.request("GET", path, headers={**accept, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()

    def whole_image(self, repository: str, tag: str) -> dict[str, bytes] | None:
        """The blobs of a tag as they are stored, ``None`` when there is no such tag. A blob that is missing or wrong fails."""
        status, manifest = self.get(f"/v2/{repository}/manifests/{tag}")
        if status == 404:
            return None
        assert status == 200, (status, manifest)
        document = json.loads(manifest)
        found = {}
        for descriptor in (document["config"], *document["layers"]):
            status, data = self.get(f"/v2/{repository}/blobs/{descriptor['digest']}")
            assert status == 200, f"{repository}:{tag} lacks {descriptor['digest']}"
            assert digest_of(data) == descriptor["digest"]
            found[descriptor["digest"]] = data
        return found


def clean_environment(home: pathlib.Path, **more: str) -> dict[str, str]:
    """An environment without proxies and with a home of the test's own."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], **more}


def write_docker_config(directory: pathlib.Path, document: dict[str, Any]) -> dict[str, str]:
    """A ``config.json``; the variable that leads to it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(document))
    return {"DOCKER_CONFIG": str(directory)}


def auth_entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def serve(storage: pathlib.Path, *, more: str = "", tls: tuple[pathlib.Path, pathlib.Path] | None = None, http_more: str = "") -> Iterator[Served]:
    """docker-registry with its data in ``storage``."""
    binary = shutil.which("docker-registry")
    if binary is None:
        pytest.skip("docker-registry is not installed")
    port = free_port()
    tls_lines = f"  tls: {{certificate: {tls[0]}, key: {tls[1]}{http_more}}}\n" if tls else ""
    config = storage / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}/data}}, delete: {{enabled: true}}}}\n"
        f"http:\n  addr: '127.0.0.1:{port}'\n{tls_lines}{more}"
    )
    with open(storage / "log", "wb") as log:
        process = subprocess.Popen([binary, "serve", str(config)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            assert process.poll() is None, (storage / "log").read_text()
            assert time.monotonic() < until, "docker-registry does not answer"
            time.sleep(0.01)
        yield Served(f"127.0.0.1:{port}", storage, "https" if tls else "http")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


# --- certificates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A certificate authority and what it signed for 127.0.0.1."""

    ca: pathlib.Path
    certificate: pathlib.Path
    key: pathlib.Path
    client_certificate: pathlib.Path
    client_key: pathlib.Path


def make_authority(directory: pathlib.Path) -> Authority:
    def run(*args: str) -> None:
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=directory)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1,DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")):
        (directory / f"{name}.ext").write_text(extension)
        run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        run(
            "x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip
    return Authority(*(directory / n for n in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")))


# --- token service --------------------------------------------------------------------------------------------------------


@dataclass
class TokenService:
    """Gives out tokens that docker-registry takes. ``grants`` is asked for each scope; ``requests`` is what was asked."""

    key: pathlib.Path
    certificate: pathlib.Path
    users: dict[str, str]
    identity_tokens: set[str] = field(default_factory=set)
    public: set[str] = field(default_factory=set)
    expires_in: int = 300
    oauth: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""

    def token(self, subject: str, scopes: Sequence[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if subject else [a for a in actions.split(",") if a == "pull" and name in self.public]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "test issuer",
            "sub": subject,
            "aud": "test service",
            "exp": now + self.expires_in,
            "nbf": now - 10,
            "iat": now,
            "jti": f"{now}{len(self.requests)}",
            "access": access,
        }
        signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))
        done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(self.key)], input=signed, capture_output=True, check=True)
        return (signed + b"." + base64.urlsafe_b64encode(done.stdout).rstrip(b"=")).decode()

    @contextlib.contextmanager
    def serve(self) -> Iterator[TokenService]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def answer(self, status: int, document: dict[str, Any]) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                scopes = query.get("scope", [])
                service.requests.append({"method": "GET", "scopes": scopes, "authorization": self.headers.get("Authorization")})
                subject = ""
                header = self.headers.get("Authorization", "")
                if header:
                    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
                    if user == "<token>" and password in service.identity_tokens:
                        subject = "identity"
                    elif service.users.get(user) == password:
                        subject = user
                    else:
                        self.answer(401, {"details": "incorrect username or password"})
                        return
                self.answer(200, {"token": service.token(subject, scopes), "expires_in": service.expires_in})

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                scopes = form.get("scope", [""])[0].split()
                service.requests.append({"method": "POST", "scopes": scopes, "grant": form.get("grant_type")})
                if not service.oauth:
                    self.answer(405, {})
                elif form["refresh_token"][0] not in service.identity_tokens:
                    self.answer(401, {})
                else:
                    self.answer(200, {"access_token": service.token("identity", scopes), "expires_in": service.expires_in})

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{server.server_address[1]}/token"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
