"""From flags to ``RegistryOptions``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.cli.options import natural
from pybuild.cli.pflag import Values
from pybuild.errors import UsageError

if TYPE_CHECKING:
    from pybuild.registry.options import RegistryOptions

DOCKER_HUB = "index.docker.io"


def registry_options(values: Values) -> RegistryOptions:
    """How registries are spoken to. ``UsageError`` for a client certificate without its key."""
    from pybuild.registry.options import RegistryOptions

    return RegistryOptions(
        insecure=values.on("insecure"),
        insecure_pull=values.on("insecure-pull"),
        insecure_registries=tuple(values.texts("insecure-registry")),
        skip_tls_verify=values.on("skip-tls-verify"),
        skip_tls_verify_pull=values.on("skip-tls-verify-pull"),
        skip_tls_verify_registries=tuple(values.texts("skip-tls-verify-registry")),
        certificates=values.pairs("registry-certificate"),
        client_certificates=client_certificates(values.pairs("registry-client-cert")),
        maps=registry_map(values),
        skip_default_fallback=values.on("skip-default-registry-fallback"),
        download_retries=natural(values, "image-download-retry"),
        push_retries=natural(values, "push-retry"),
        ignore_immutable_tags=values.on("push-ignore-immutable-tag-errors"),
    )


def client_certificates(pairs: dict[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for host, files in pairs.items():
        certificate, comma, key = files.partition(",")
        if not comma or not certificate or not key:
            raise UsageError(
                f"--registry-client-cert {host}={files}: a certificate and a key are needed, host=cert,key"
            )
        found[host] = (certificate, key)
    return found


def registry_map(values: Values) -> dict[str, tuple[str, ...]]:
    """Other places for the images of a registry, in order; mirrors are those of Docker Hub."""
    found = values.multi("registry-map")
    mirrors = values.texts("registry-mirror")
    if mirrors:
        found.setdefault(DOCKER_HUB, []).extend(mirrors)
    return {host: tuple(places) for host, places in found.items()}
