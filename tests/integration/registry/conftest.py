"""Registries for the tests of this room: plain, with passwords, with TLS, with a token service."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from .support import Authority, Served, TokenService, make_authority, serve

USER, PASSWORD = "tester", "correct horse:battery"


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("plain")) as served:
        yield served


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def with_passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    storage = tmp_path_factory.mktemp("passwords")
    line = subprocess.run(["htpasswd", "-Bbn", "-C", "4", USER, PASSWORD], check=True, capture_output=True, text=True).stdout
    (storage / "users").write_text(line)
    with serve(storage, more=f"auth: {{htpasswd: {{realm: test, path: {storage}/users}}}}\n") as served:
        yield served


@pytest.fixture(scope="session")
def with_tls(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("tls"), tls=(authority.certificate, authority.key)) as served:
        yield replace(served, ca=authority.ca)


@pytest.fixture(scope="session")
def with_client_certificates(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Served]:
    storage = tmp_path_factory.mktemp("mtls")
    with serve(storage, tls=(authority.certificate, authority.key), http_more=f", clientcas: ['{authority.ca}']") as served:
        yield replace(served, ca=authority.ca)


@dataclass(frozen=True)
class Tokened:
    registry: Served
    service: TokenService


@pytest.fixture
def with_tokens(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Tokened]:
    service = TokenService(authority.key, authority.certificate, {USER: PASSWORD})
    with service.serve():
        more = (
            f"auth: {{token: {{realm: '{service.address}', service: test service, issuer: test issuer, rootcertbundle: {authority.ca}}}}}\n"
        )
        with serve(tmp_path_factory.mktemp("tokens"), more=more) as served:
            yield Tokened(served, service)


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "home"
    path.mkdir()
    return path
