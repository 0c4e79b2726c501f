"""The way of a request: directly or by a proxy, plain or by TLS. Connections are kept and used again."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

import httpx

from pybuild.errors import RegistryError
from pybuild.registry.connections import Backend, Connections
from pybuild.registry.proxies import Proxies

LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=60.0)


class Routes(httpx.BaseTransport):
    """An httpx transport that has one for every way. ``context`` is called when TLS is first spoken: loading authorities takes
    longer than a whole small build."""

    def __init__(self, proxies: Proxies, context: Callable[[], ssl.SSLContext], connections: Connections) -> None:
        self._proxies = proxies
        self._context = context
        self._connections = connections
        self._ways: dict[tuple[str, bool], httpx.HTTPTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        return self._way(self._proxies.choose(url.scheme, url.host, url.port), url.scheme == "https").handle_request(request)

    def _way(self, proxy: str, tls: bool) -> httpx.HTTPTransport:
        with self._lock:
            found = self._ways.get((proxy, tls))
            if found is None:
                verify: Any = self._context() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                try:
                    found = httpx.HTTPTransport(verify=verify, trust_env=False, limits=LIMITS, proxy=proxy or None)
                except (ValueError, ImportError, httpx.InvalidURL):
                    raise RegistryError("the proxy that the environment names cannot be used", hint="http:// and https:// proxies are") from None
                pool: Any = found._pool
                pool._network_backend = Backend(self._connections)
                self._ways[proxy, tls] = found
            return found

    def close(self) -> None:
        with self._lock:
            ways = list(self._ways.values())
        for way in ways:
            way.close()
