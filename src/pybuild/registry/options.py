"""How registries are spoken to, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """``--insecure*``, ``--skip-tls-verify*``, certificates, mirrors and retries. Hosts are ``host[:port]``."""

    #: plain HTTP is allowed for pushes, for pulls, for these registries
    insecure: bool = False
    insecure_pull: bool = False
    insecure_registries: tuple[str, ...] = ()
    #: certificates are not verified: anywhere, in pulls, for these registries
    skip_tls_verify: bool = False
    skip_tls_verify_pull: bool = False
    skip_tls_verify_registries: tuple[str, ...] = ()
    #: host to a file with certificate authorities
    certificates: dict[str, str] = field(default_factory=dict)
    #: host to the files of a client certificate and its key
    client_certificates: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: registry to the places (``host[/path]``) that its images are pulled from first
    maps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    skip_default_fallback: bool = False
    download_retries: int = 0
    push_retries: int = 0
    ignore_immutable_tags: bool = False
    #: simultaneous downloads, and simultaneous uploads
    transfers: int = 6
    #: how often a request is tried in all, and the seconds after the first failure; they double with each further one
    attempts: int = 6
    backoff: float = 0.25
    #: seconds without a byte after which a connection counts as broken
    stall: float = 60.0
