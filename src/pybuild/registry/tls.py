"""TLS contexts: the system's authorities, those given for a host, client certificates, and no verification where that is asked for."""

from __future__ import annotations

import os
import ssl

from pybuild.errors import TLSError
from pybuild.registry.options import RegistryOptions


def verifies(options: RegistryOptions, host: str, *, push: bool) -> bool:
    """Whether the certificate of a host is verified."""
    skip = options.skip_tls_verify or (options.skip_tls_verify_pull and not push)
    return not (skip or host in options.skip_tls_verify_registries)


def make_context(options: RegistryOptions, host: str, *, verify: bool) -> ssl.SSLContext:
    """A context for a host; TLS 1.2 at least. ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` replace the system's authorities. ``TLSError``
    when a file that was given cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        if verify:
            context.load_default_certs()
            load_bundled(context)
            if host in options.certificates:
                load_authorities(context, options.certificates[host])
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if host in options.client_certificates:
            # an empty password: a key that wants one is an error, not a question on the terminal
            context.load_cert_chain(*options.client_certificates[host], password="")
    except (OSError, ssl.SSLError) as e:
        files = [options.certificates.get(host, ""), *options.client_certificates.get(host, ())]
        raise TLSError(f"the certificate for {host} cannot be read: {', '.join(filter(None, files))}: {e}") from None
    return context


def load_authorities(context: ssl.SSLContext, path: str) -> None:
    """Authorities from a file, or from all files of a directory."""
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            if name.endswith((".crt", ".pem", ".cert")):
                context.load_verify_locations(os.path.join(path, name))
    else:
        context.load_verify_locations(path)


def load_bundled(context: ssl.SSLContext) -> None:
    """The authorities that come with the HTTP library, on a machine that has none of its own."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None and not context.get_ca_certs():
        import certifi

        context.load_verify_locations(certifi.where())
