"""Certificates, and when plain HTTP is spoken."""

from __future__ import annotations

import asyncio
import pathlib
from dataclasses import replace

import pytest

from pybuild.errors import RegistryError, TLSError
from pybuild.oci.reference import Reference
from pybuild.registry.client import Registries
from pybuild.registry.options import RegistryOptions
from pybuild.registry.tls import verifies

from .support import AMD64, QUICK, Authority, Served, clean_environment, push_sample, sample_image

pytestmark = pytest.mark.registry


def push_and_pull(reference: Reference, options: RegistryOptions, env: dict[str, str]) -> None:
    image = sample_image([1000])

    async def run() -> None:
        async with Registries(options, lambda e: None, env) as registries:
            await push_sample(registries, reference, image)
            assert (await registries.resolve(reference, AMD64)).digest == image.digest

    asyncio.run(run())


def test_unknown_authority_is_refused(with_tls: Served, home: pathlib.Path) -> None:
    reference = with_tls.reference("tls/app:1")
    with pytest.raises(TLSError, match=rf"the TLS certificate of registry {with_tls.host} could not be verified.*--registry-certificate"):
        push_and_pull(reference, QUICK, clean_environment(home))
    # plain HTTP being allowed does not make an unverified certificate good
    with pytest.raises(TLSError):
        push_and_pull(reference, replace(QUICK, insecure=True, insecure_pull=True), clean_environment(home))
    # and what is skipped for another host is not skipped here
    with pytest.raises(TLSError):
        push_and_pull(reference, replace(QUICK, skip_tls_verify_registries=("other.example",)), clean_environment(home))


def test_ways_to_accept_a_certificate(with_tls: Served, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = with_tls.reference("tls/app:1")
    assert with_tls.ca is not None
    env = clean_environment(home)
    push_and_pull(reference, replace(QUICK, certificates={with_tls.host: str(with_tls.ca)}), env)
    push_and_pull(reference, replace(QUICK, certificates={with_tls.host: str(with_tls.ca.parent)}), env)
    push_and_pull(reference, replace(QUICK, skip_tls_verify=True), env)
    push_and_pull(reference, replace(QUICK, skip_tls_verify_registries=(with_tls.host,)), env)
    monkeypatch.setenv("SSL_CERT_FILE", str(with_tls.ca))
    push_and_pull(reference, QUICK, env)


def test_name_of_the_host_has_to_be_in_the_certificate(with_tls: Served, home: pathlib.Path) -> None:
    port = with_tls.host.rpartition(":")[2]
    assert with_tls.ca is not None
    for name, good in (("localhost", True), ("other.localhost", False)):
        reference = Reference(f"{name}:{port}", "tls/app", "1")
        options = replace(QUICK, certificates={f"{name}:{port}": str(with_tls.ca)})
        if good:
            push_and_pull(reference, options, clean_environment(home))
        else:
            with pytest.raises(RegistryError):
                push_and_pull(reference, options, clean_environment(home))


def test_client_certificate(with_client_certificates: Served, authority: Authority, home: pathlib.Path) -> None:
    served = with_client_certificates
    reference = served.reference("mtls/app:1")
    options = replace(QUICK, certificates={served.host: str(authority.ca)})
    with pytest.raises(RegistryError):
        push_and_pull(reference, options, clean_environment(home))
    mine = (str(authority.client_certificate), str(authority.client_key))
    push_and_pull(reference, replace(options, client_certificates={served.host: mine}), clean_environment(home))
    missing = (str(home / "none.pem"), str(home / "none.key"))
    with pytest.raises(TLSError, match=r"the certificate for .* cannot be read: .*none\.pem"):
        push_and_pull(reference, replace(options, client_certificates={served.host: missing}), clean_environment(home))


def test_plain_http_only_where_it_is_allowed(plain: Served, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pybuild.registry.client as client

    # this machine is always allowed; for the test it is made a stranger
    monkeypatch.setattr(client, "is_private", lambda host: False)
    reference = plain.reference("insecure/app:1")
    env = clean_environment(home)
    with pytest.raises(TLSError, match=rf"does not speak TLS.*--insecure-registry {plain.host}"):
        push_and_pull(reference, QUICK, env)
    push_and_pull(reference, replace(QUICK, insecure_registries=(plain.host,)), env)
    push_and_pull(reference, replace(QUICK, insecure=True, insecure_pull=True), env)
    with pytest.raises(TLSError):
        # --insecure is about pushes
        push_and_pull(reference, replace(QUICK, insecure=True), env)


def test_who_is_verified() -> None:
    assert verifies(RegistryOptions(), "r", push=True)
    assert not verifies(RegistryOptions(skip_tls_verify_pull=True), "r", push=False)
    assert verifies(RegistryOptions(skip_tls_verify_pull=True), "r", push=True)
    assert verifies(RegistryOptions(skip_tls_verify_registries=("s",)), "r", push=True)
